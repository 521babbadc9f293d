"""The loops of the recipe of attention: heads, blocks of rows, and what is done with a block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from tinyflow.compiler import ahead
from tinyflow.compiler.attention import OTHER, Attention, Panels
from tinyflow.compiler.blocks import heights
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.folding import get, halve, put, slot
from tinyflow.compiler.loops import Scratch, loads, stride
from tinyflow.compiler.microkernel import Tile
from tinyflow.compiler.phrases import add, call_tile, const, div, greatest, least, less, mul, pointer, sub, when
from tinyflow.compiler.transpose import turned
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Expr, Index, Index_
from tinyflow.ops.rules import select

DEPTH = 384  # of a product over keys at once: a panel of so many rows stays in the first cache
SHORT = 8  # vectors: a row of so few is not looped over
YES, NO = Value("true", bool_, False), Value("false", bool_, False)


class Cut(NamedTuple):
    """So many rows, in tiles whose heights differ by one at most."""

    rows: int
    heights: tuple[int, ...]

    @property
    def tiles(self) -> int:
        return -(-self.rows // self.heights[0])

    def start(self, em: Emitter, tile: Value) -> Value:
        short, taller = divmod(self.rows, self.tiles)
        return add(em, mul(em, tile, const(short)), least(em, tile, const(taller)))


class Block(NamedTuple):
    """Some tiles of rows: their numbers, the rows, and how many keys the last of them sees."""

    first: Value
    last: Value
    start: Value
    stop: Value
    keys: Value


def emit(em: Emitter, t: Attention) -> Index_:
    """The kernel; returns how many tasks the threads share: blocks of a result, or heads, all of whose blocks add to dk and dv."""
    em.lanes = t.sizes.lanes
    forwards = "y" in t.results
    cut = Cut(t.sizes.m, t.rows)
    blocks = -(-cut.tiles // t.sizes.group)
    parts = blocks if forwards else 1
    tasks = expr.mul(t.at.head.extent, parts)
    tid, n, total = Value("%tid", int64, False), Value("%nthreads", int64, False), em.value(tasks)
    low, high = (div(em, mul(em, total, x), n) for x in (tid, add(em, tid, const(1))))
    end = div(em, add(em, high, const(parts - 1)), const(parts))
    with em.counting(div(em, low, const(parts)).name, end.name) as head:
        em.env[t.at.head] = head
        em.env[t.at.next] = least(em, add(em, head, const(1)), sub(em, end, const(1)))
        pack_keys(em, t)
        base = mul(em, head, const(parts))
        first, last = greatest(em, sub(em, low, base), const(0)), least(em, sub(em, high, base), const(parts))
        for what in ("dk", "dv"):
            if what in t.results:
                clear(em, t, what)
        with em.counting(*((first.name, last.name) if forwards else ("0", str(blocks)))) as number:
            at = spread(em, number, blocks) if forwards and t.causal is not None else number
            (forward if forwards else backward)(em, t, block_of(em, t, cut, at))
        for what in ("dk", "dv"):
            if what in t.results:
                with em.loop(t.at.j):
                    give(em, t, what)
        del em.env[t.at.head], em.env[t.at.next]
    return tasks


def spread(em: Emitter, number: Value, count: int) -> Value:
    """First, last, second, last but one ...: blocks low and high on the diagonal come to every thread."""
    odd = em.op("trunc {t} {0} to i1", [number], bool_)
    half = em.op("lshr {t} {0}, 1", [number])
    return em.choose(odd, sub(em, const(count - 1), half), half)


def block_of(em: Emitter, t: Attention, cut: Cut, number: Value) -> Block:
    first = mul(em, number, const(t.sizes.group))
    last = least(em, add(em, first, const(t.sizes.group)), const(cut.tiles))
    stop = cut.start(em, last)
    return Block(first, last, cut.start(em, first), stop, seen_before(em, t, stop))


def seen_before(em: Emitter, t: Attention, stop: Value) -> Value:
    """How many keys the rows before `stop` see."""
    n = const(t.sizes.n)
    return n if t.causal is None else least(em, add(em, stop, const(t.causal)), n)


# ------------------------------------------------------------------------------------------ what a block computes


def forward(em: Emitter, t: Attention, b: Block) -> None:
    """y = softmax(scores) v, where the division by a row's sum comes last."""
    with each_row(em, t, b):
        keep(em, t, {"q rows": t.q}, t.at.d)
    scores(em, t, b, "q rows", "k turned", "scores")
    with each_row(em, t, b):
        ask(em, t)
        em.store(t.memory["totals"], t.at.local, inverse(em, softmax(em, t, weigh=True)), t.dtype)
        zeros_after(em, t, "scores", b.keys)
    over_keys(em, t, b, "scores", "v", "y")
    with each_row(em, t, b):
        give(em, t, "y")


def backward(em: Emitter, t: Attention, b: Block) -> None:
    """The block's part of dq, dk and dv."""
    assert t.g is not None
    with each_row(em, t, b):
        keep(em, t, {"q rows": t.q}, t.at.d)
        if t.slope is not None:
            keep(em, t, {"g rows": t.g}, t.at.e)
        for what, value, index in (("q panels", t.q, t.at.d), ("g panels", t.g, t.at.e)):
            if what in t.panels:
                put_panels(em, t, what, value, t.at.local, index)
    scores(em, t, b, "q rows", "k turned", "scores")
    far = probabilities(em, t, b)
    if "dv" in t.results:
        over_rows(em, t, b, t.weights, "g panels", "dv", far)
    if t.slope is not None:
        scores(em, t, b, "g rows", "v turned", "slopes")
        with each_row(em, t, b):
            keep(em, t, {"slopes": t.slope}, t.at.seen)
            zeros_after(em, t, "slopes", b.keys)
    if "dk" in t.results:
        over_rows(em, t, b, "slopes", "q panels", "dk", b.keys)
    if "dq" in t.results:
        over_keys(em, t, b, "slopes", "k", "dq")
        with each_row(em, t, b):
            give(em, t, "dq")


def probabilities(em: Emitter, t: Attention, b: Block) -> Value:
    """In place of the scores. Returns how far keys have to be looked at: to the last, if a row is all NaN."""
    reach = em.name("reach")
    em.allocas.append(f"  {reach} = alloca i64")
    em.line(f"store i64 {b.keys.name}, ptr {reach}")
    with each_row(em, t, b):
        ask(em, t)
        factor = inverse(em, softmax(em, t))
        em.store(t.memory["totals"], t.at.local, factor, t.dtype)
        dead = em.op("fcmp uno {t} {0}, {1}", [factor, factor], bool_)
        em.line(f"store i64 {em.choose(dead, const(t.sizes.n), loaded(em, reach)).name}, ptr {reach}")
    far = loaded(em, reach)
    with each_row(em, t, b):
        inverse_sum = expr.load(t.memory["totals"], t.at.local, t.dtype)
        p = expr.apply("mul", t.own, inverse_sum)
        keep(em, t, {"scores": p} if t.weight is None else {"scores": p, "weights": weighed(t, p)}, t.at.seen)
        zeros_after(em, t, t.weights, far, inverse_sum)
    return far


# ------------------------------------------------------------------------------------------ rows


@contextmanager
def each_row(em: Emitter, t: Attention, b: Block) -> Iterator[None]:
    with em.loop(t.at.local, "0", sub(em, b.stop, b.start).name):
        em.env[t.at.i] = add(em, b.start, em.env[t.at.local])
        yield
        del em.env[t.at.i]


def ask(em: Emitter, t: Attention) -> None:
    """For this row of the next head: it comes while there is much to compute."""
    rows = (t.q, t.at.i, t.at.d), (t.k, t.at.j, t.at.d), (t.v, t.at.j, t.at.e), (t.g, t.at.i, t.at.e)
    for value, row, index in rows:
        for x in loads(value) if value is not None else ():
            if stride(x.offset, index) == 1 and stride(x.offset, row) != 0 and not loads(x.offset):
                at = expr.substitute(x.offset, {t.at.head: t.at.next, row: t.at.i})
                for first in range(0, t.sizes.d if index is t.at.d else t.sizes.e, ahead.LINE // x.dtype.size):
                    ahead.ask(em, ahead.Place(x.buffer, expr.substitute(at, {index: first}), x.dtype, False))


def along(em: Emitter, index: Index, values: Sequence[Expr], body: Callable[[], None]) -> None:
    """The body for all values of an index, in lanes; what the values are made of besides is computed before. Of short rows
    each vector is read by an instruction of its own, whose steps from row to row are all alike: the processor sees them."""
    em.hoist_all(values, index)
    known = index.extent if isinstance(index.extent, int) else None
    if known is None or known % em.lanes or known > SHORT * em.lanes:
        em.in_lanes(index, "0", em.value(index.extent).name, body, known)
        return
    for start in range(0, known, em.lanes):
        with em.scope(), em.lane_bound(index, const(start)):
            body()


def keep(em: Emitter, t: Attention, values: Mapping[str, Expr], index: Index) -> None:
    """The row's values, into the thread's memory."""
    to = t.at.local * t.sizes.line + index

    def step() -> None:
        for what, x in {what: em.value(x) for what, x in values.items()}.items():
            em.store(t.memory[what], to, x, t.dtype)

    along(em, index, tuple(values.values()), step)


def give(em: Emitter, t: Attention, what: str) -> None:
    """A row of a result goes where it belongs."""
    for s in t.results[what]:
        store = partial(lambda s: em.store(s.target.key, s.offset, em.value(s.value), s.target.dtype), s)
        along(em, s.inner[0], (s.value,), store)


def softmax(em: Emitter, t: Attention, weigh: bool = False) -> Value:
    """The row's exponentials in place of its scores, weighed if that is asked for; returns their sum, of what was not weighed."""
    top = expr.fold("max", (t.at.seen,), t.score)
    if t.safe:
        top = select(expr.apply("eq", top, expr.const(-math.inf, t.dtype), dtype=bool_), expr.const(0, t.dtype), top)
    value = expr.apply("exp", expr.apply("sub", t.score, top))
    kept = weighed(t, value) if weigh else value
    total = slot(em, t.dtype, True)
    nothing = em.splat(0.0, Value("", t.dtype, True))
    put(em, total, nothing)

    def step() -> None:
        x, y = (em.widen(em.value(v)) for v in (value, kept))
        em.store(t.memory["scores"], t.at.local * t.sizes.line + t.at.seen, y, t.dtype)
        x = x if em.mask is None else em.choose(em.mask, x, nothing)
        put(em, total, em.op("fadd {t} {0}, {1}", [get(em, total, t.dtype, True), x]))

    along(em, t.at.seen, (kept,), step)
    found = halve(em, "add", get(em, total, t.dtype, True))
    if t.safe:
        none = em.op("fcmp oeq {t} {0}, {1}", [found, em.splat(0.0, found)], bool_)
        found = em.choose(none, em.splat(1.0, found), found)
    return found


def weighed(t: Attention, x: Expr) -> Expr:
    return x if t.weight is None else expr.apply("mul", x, t.weight)


def inverse(em: Emitter, x: Value) -> Value:
    return em.op("fdiv {t} {0}, {1}", [em.splat(1.0, x), x])


def zeros_after(em: Emitter, t: Attention, what: str, stop: Value, factor: Expr | None = None) -> None:
    """Zeros for the keys that this row does not see and others of its block do; times the row's factor, which may be NaN."""
    if t.causal is None:
        return
    zero = expr.const(0, t.dtype)
    value = zero if factor is None else expr.apply("mul", zero, factor)
    to = t.at.local * t.sizes.line + t.at.j
    low = em.value(t.at.seen.extent)
    high = least(em, add(em, stop, const(t.sizes.tile - 1)), const(t.sizes.n))  # to a tile's end
    em.hoist(value, t.at.j)
    em.in_lanes(t.at.j, low.name, high.name, lambda: em.store(t.memory[what], to, em.value(value), t.dtype), None)


def clear(em: Emitter, t: Attention, what: str) -> None:
    flat = expr.index(t.sizes.n * t.panels[OTHER[what]].line, "flat")
    zero = expr.const(0, t.dtype)
    along(em, flat, (zero,), lambda: em.store(t.memory[what], flat, em.value(zero), t.dtype))


def loaded(em: Emitter, p: str) -> Value:
    v = Value(em.name(), int64, False)
    em.line(f"{v.name} = load i64, ptr {p}")
    return v


# ------------------------------------------------------------------------------------------ panels


def pack_keys(em: Emitter, t: Attention) -> None:
    with em.loop(t.at.j):
        put_panels(em, t, "k", t.k, t.at.j, t.at.d)
        put_panels(em, t, "v", t.v, t.at.j, t.at.e)
    for what in ("k", "v"):
        if f"{what} turned" in t.panels:
            turn(em, t.panels[what], t.panels[f"{what} turned"], t.dtype.llvm)


def put_panels(em: Emitter, t: Attention, what: str, value: Expr, row: Index, index: Index) -> None:
    """One row of a matrix, a piece into each panel."""
    p = t.panels[what]
    em.hoist(value, index)
    for start in range(0, p.columns, t.sizes.lanes):
        panel, column = divmod(start, p.width)
        with em.scope(), em.lane_bound(index, const(start)):
            if start + t.sizes.lanes > p.columns:
                with em.tail(const(start), str(p.columns)):
                    v = em.widen(em.value(value))
            else:
                v = em.widen(em.value(value))
            at = add(em, mul(em, em.env[row], const(p.width)), const(panel * p.rows * p.width + column))
            em.line(
                f"store {v.type(t.sizes.lanes)} {v.name}, ptr {pointer(em, p.buffer, at, t.dtype.llvm)}, align {t.dtype.size}"
            )


def turn(em: Emitter, source: Panels, to: Panels, element: str) -> None:
    """The transposed matrix, square block by square block; what lies past its edges is never used."""
    lanes = source.lanes
    vector = f"<{lanes} x {element}>"
    with em.counting("0", str(to.number)) as panel, em.counting("0", str(-(-source.columns // lanes))) as block:
        column = mul(em, block, const(lanes))
        within = em.op("urem {t} {0}, {1}", [column, const(source.width)])
        across = mul(em, div(em, column, const(source.width)), const(source.rows * source.width))
        start = add(em, add(em, across, within), mul(em, panel, const(to.width * source.width)))
        end = add(em, mul(em, panel, const(to.rows * to.width)), mul(em, column, const(to.width)))
        for j in range(0, to.width, lanes):
            rows = []
            for k in range(lanes):
                p = pointer(em, source.buffer, add(em, start, const((j + k) * source.width)), element)
                rows.append(em.name("x"))
                em.line(f"{rows[-1]} = load {vector}, ptr {p}, align 4")
            for k, row in enumerate(turned(em, rows, vector)):
                p = pointer(em, to.buffer, add(em, end, const(k * to.width + j)), element)
                em.line(f"store {vector} {row}, ptr {p}, align 4")


# ------------------------------------------------------------------------------------------ products


@contextmanager
def each_tile(em: Emitter, t: Attention, b: Block) -> Iterator[tuple[Value, Value, Value]]:
    """(the tile's first row, from that of the block; how many rows; how many keys they see)"""
    cut = Cut(t.sizes.m, t.rows)
    with em.counting(b.first.name, b.last.name) as tile:
        start, stop = cut.start(em, tile), cut.start(em, add(em, tile, const(1)))
        yield sub(em, start, b.start), sub(em, stop, start), seen_before(em, t, stop)


def scores(em: Emitter, t: Attention, b: Block, left: str, right: str, out: str) -> None:
    """out = left right, for the keys that each tile sees."""
    p = t.panels[right]
    depth = t.sizes.d if right == "k turned" else t.sizes.e
    with em.counting("0", div(em, add(em, b.keys, const(p.width - 1)), const(p.width)).name) as panel:
        column = mul(em, panel, const(p.width))
        with each_tile(em, t, b) as (row, rows, seen), when(em, less(em, column, seen)):
            line = mul(em, row, const(t.sizes.line))
            micro(
                em, t, t.rows, p, rows, const(depth), (t.memory[left], line), (t.sizes.line, 1),
                mul(em, panel, const(p.rows * p.width)), (t.memory[out], add(em, line, column)), t.sizes.line, YES,
            )  # fmt: skip


def over_keys(em: Emitter, t: Attention, b: Block, left: str, right: str, out: str) -> None:
    """out = left right, summed over the keys that each tile sees."""
    p = t.panels[right]
    with em.counting("0", str(p.number)) as panel, em.counting("0", b.keys.name, DEPTH) as key:
        first = em.op("icmp eq {t} {0}, {1}", [key, const(0)], bool_)
        with each_tile(em, t, b) as (row, rows, seen):
            depth = least(em, sub(em, seen, key), const(DEPTH))
            with when(em, less(em, const(0), depth)):
                right_at = add(em, mul(em, panel, const(p.rows * p.width)), mul(em, key, const(p.width)))
                to = add(em, mul(em, row, const(p.line)), mul(em, panel, const(p.width)))
                micro(
                    em, t, t.rows, p, rows, depth, (t.memory[left], add(em, mul(em, row, const(t.sizes.line)), key)), (t.sizes.line, 1),
                    right_at, (t.memory[out], to), p.line, first,
                )  # fmt: skip


def over_rows(em: Emitter, t: Attention, b: Block, left: str, right: str, out: str, reach: Value) -> None:
    """out += left^T right, summed over the rows of the block, for the keys up to `reach`."""
    p = t.panels[right]
    cut = Cut(t.sizes.n, heights(t.sizes.n, t.sizes.tile))
    rows = sub(em, b.stop, b.start)
    with em.counting("0", str(p.number)) as panel, em.counting("0", str(cut.tiles)) as tile:
        key = cut.start(em, tile)
        with when(em, less(em, key, reach)):
            skip = const(0)  # rows that do not see the tile's first key, and so none of it
            if t.causal is not None:
                skip = greatest(em, sub(em, key, add(em, b.start, const(t.causal))), const(0))
                skip = em.choose(less(em, b.keys, reach), const(0), least(em, skip, rows))
            right_at = add(em, mul(em, panel, const(p.rows * p.width)), mul(em, skip, const(p.width)))
            to = add(em, mul(em, key, const(p.line)), mul(em, panel, const(p.width)))
            micro(
                em, t, cut.heights, p, sub(em, cut.start(em, add(em, tile, const(1))), key), sub(em, rows, skip),
                (t.memory[left], add(em, mul(em, skip, const(t.sizes.line)), key)), (1, t.sizes.line), right_at, (t.memory[out], to), p.line, NO,
            )  # fmt: skip


def micro(
    em: Emitter, t: Attention, heights: tuple[int, ...], right: Panels, rows: Value, depth: Value, left: tuple[Scratch, Value],
    strides: tuple[int, int], at: Value, out: tuple[Scratch, Value], line: int, first: Value,
) -> None:  # fmt: skip
    """One tile: out = left right, added to what is there unless it is the first."""
    a, b, c = (pointer(em, x, where, t.dtype.llvm) for x, where in (left, (right.buffer, at), out))
    like = Tile(heights[0], right.vectors, t.sizes.lanes, t.dtype, None, None)
    call_tile(em, heights, like, rows, [depth.name, a, *map(str, strides), b, c, str(line), first.name])
