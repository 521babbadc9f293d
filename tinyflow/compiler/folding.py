"""Folds in LLVM: across the lanes of a vector, or within each lane.

A fold that does not depend on the lanes of its surroundings takes lanes of its own along the index whose elements lie
beside each other, and several accumulators; their order of addition depends on the size alone. One that does depend
keeps a vector of results, one for each lane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import free, loads, stride
from tinyflow.compiler.scalars import SCALARS
from tinyflow.compiler.writer import Value, mangled
from tinyflow.core.dtypes import DType, bool_, int64
from tinyflow.core.expr import Expr, Fold, Index, walk

UNROLL = 4  # accumulators of a fold across lanes: the latency of an addition, hidden
UNROLLED_STEPS = 16  # short inner folds are written out


def start_of(fn: str, dtype: DType) -> float | int | bool:
    """The value that changes nothing."""
    if fn in ("add", "mul"):
        return fn == "mul" if dtype.kind != "f" else float(fn == "mul")
    low = fn in ("max", "argmax")
    if dtype.kind == "f":
        return -math.inf if low else math.inf
    if dtype.kind == "b":
        return not low
    bits = 8 * dtype.size
    least, most = (0, (1 << bits) - 1) if dtype.kind == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return least if low else most


class Slot(NamedTuple):
    """An accumulator in memory; mem2reg makes it a register."""

    pointer: str
    type: str


def emit_fold(em: Emitter, fold: Fold) -> Value:
    lane = em.lane if em.lane is not None and em.lane in free(fold) else None
    row = ARGUMENT if fold.fn in ("argmax", "argmin") else PLAIN
    if lane is not None:
        return row.within(em, fold)
    saved_lane, saved_mask = em.lane, em.mask
    em.lane, em.mask = None, None
    try:
        return row.across(em, fold)
    finally:
        em.lane, em.mask = saved_lane, saved_mask


def slot(em: Emitter, dtype: DType, wide: bool) -> Slot:
    t = Value("", dtype, wide).type(em.lanes)
    name = em.name("acc")
    em.allocas.append(f"  {name} = alloca {t}, align 64")
    return Slot(name, t)


def put(em: Emitter, s: Slot, v: Value) -> None:
    em.line(f"store {s.type} {v.name}, ptr {s.pointer}, align 64")


def get(em: Emitter, s: Slot, dtype: DType, wide: bool) -> Value:
    out = Value(em.name(), dtype, wide)
    em.line(f"{out.name} = load {s.type}, ptr {s.pointer}, align 64")
    return out


def combine(em: Emitter, fn: str, a: Value, b: Value) -> Value:
    row = SCALARS[fn][a.dtype.kind]
    return em.op(row, [a, b], a.dtype) if isinstance(row, str) else row(em, [a, b], a.dtype)


def neighbour(fold: Fold) -> Index:
    """The index along which most loads are of neighbours."""
    found = loads(fold.body)
    return max(fold.over, key=lambda k: (sum(stride(x.offset, k) == 1 for x in found), fold.over.index(k)))


def nested(
    em: Emitter, indices: Sequence[Index], body: Expr, inside: Callable[[], None], sums: Sums | None = None
) -> None:
    """The indices as loops, outermost first; what does not depend on an inner one is computed before it opens.

    `sums` are begun anew for the loops inside a long one: thousands of numbers added to one would lose the last of their bits.
    """
    if not indices:
        inside()
        return
    em.hoist(body, *indices)
    count = math.prod(k.extent if isinstance(k.extent, int) else UNROLLED_STEPS + 1 for k in indices)
    if count == 0:
        return
    if count <= UNROLLED_STEPS:
        for i in range(count // math.prod(j.extent for j in indices[1:] if isinstance(j.extent, int))):
            with em.scope():
                em.env[indices[0]] = Value(str(i), int64, False)
                nested(em, indices[1:], body, inside, sums)
                del em.env[indices[0]]
        return
    with em.loop(indices[0]), sums.apart(em) if sums is not None and len(indices) > 1 else nullcontext():
        nested(em, indices[1:], body, inside, sums)


# ------------------------------------------------------------------------------------------ sums and the like


class Sums:
    """The accumulators of a fold; what they start with; which are in use."""

    def __init__(self, em: Emitter, fold: Fold, ways: int = 1) -> None:
        self.fold, self.ways = fold, ways
        self.start = em.splat(start_of(fold.fn, fold.dtype), Value("", fold.dtype, True))
        self.slots = self.begun(em)

    def begun(self, em: Emitter) -> list[Slot]:
        slots = [slot(em, self.fold.dtype, True) for _ in range(self.ways)]
        for s in slots:
            put(em, s, self.start)
        return slots

    def add(self, em: Emitter, to: Slot, value: Value, mask: Value | None = None) -> None:
        old = get(em, to, self.fold.dtype, True)
        new = combine(em, self.fold.fn, value, old)
        put(em, to, new if mask is None else em.choose(mask, new, old))

    @contextmanager
    def apart(self, em: Emitter) -> Iterator[None]:
        """What is folded meanwhile is folded by itself, and then put to the rest. For sums of rounded numbers alone."""
        if (self.fold.fn, self.fold.dtype.kind) != ("add", "f"):
            yield
            return
        rest, self.slots = self.slots, self.begun(em)
        yield
        for one, part in zip(rest, self.slots):
            self.add(em, one, get(em, part, self.fold.dtype, True))
        self.slots = rest


def within(em: Emitter, fold: Fold) -> Value:
    sums = Sums(em, fold)
    nested(em, fold.over, fold.body, lambda: sums.add(em, sums.slots[0], em.widen(em.value(fold.body))), sums)
    return get(em, sums.slots[0], fold.dtype, True)


def across(em: Emitter, fold: Fold) -> Value:
    k = neighbour(fold)
    others = [i for i in fold.over if i is not k]
    extent = k.extent if isinstance(k.extent, int) else None
    if extent is not None and extent * 2 <= em.lanes and not others:
        return short_fold(em, fold, k)
    ways = UNROLL if (extent is None or extent >= 2 * UNROLL * em.lanes) and len(walk(fold.body)) < 40 else 1
    sums = Sums(em, fold, ways)

    def step(way: int) -> None:
        value = em.widen(em.value(fold.body))
        sums.add(em, sums.slots[way], value, em.mask)

    def inner() -> None:
        em.hoist(fold.body, k)
        high = em.value(k.extent).name
        low = "0"
        if ways > 1:
            low = unrolled(em, k, high, [partial(step, way) for way in range(ways)])
        em.in_lanes(k, low, high, lambda: step(0), extent if ways == 1 else None)

    nested(em, others, fold.body, inner, sums)
    total = get(em, sums.slots[0], fold.dtype, True)
    for acc in sums.slots[1:]:
        total = combine(em, fold.fn, total, get(em, acc, fold.dtype, True))
    return halve(em, fold.fn, total)


def short_fold(em: Emitter, fold: Fold, k: Index) -> Value:
    """A few elements, one after the other."""
    total = Value("", fold.dtype, False)
    total = em.splat(start_of(fold.fn, fold.dtype), total)
    for i in range(k.extent):  # type: ignore[arg-type]
        with em.scope():
            em.env[k] = Value(str(i), int64, False)
            total = combine(em, fold.fn, em.value(fold.body), total)
            del em.env[k]
    return total


def unrolled(em: Emitter, k: Index, high: str, steps: Sequence[Callable[[], None]]) -> str:
    """As many whole groups of vectors as there are; returns where they end."""
    group = len(steps) * em.lanes
    rounded = em.op("and {t} {0}, {1}", [Value(high, int64, False), Value(str(-group), int64, False)])
    with em.counting("0", rounded.name, group) as i:
        for n, step in enumerate(steps):
            at = em.op("add {t} {0}, {1}", [i, Value(str(n * em.lanes), int64, False)])
            with em.scope(), em.lane_bound(k, at):
                step()
    return rounded.name


def halve(em: Emitter, fn: str, v: Value) -> Value:
    """The lanes folded in halves: a fixed order."""
    lanes, name, width = em.lanes, v.name, em.lanes
    t = "i1" if v.dtype is bool_ else v.dtype.llvm
    while width > 1:
        width //= 2
        order = ", ".join(f"i32 {(i + width) % lanes if i < width else i}" for i in range(lanes))
        other = em.name("h")
        em.line(f"{other} = shufflevector <{lanes} x {t}> {name}, <{lanes} x {t}> poison, <{lanes} x i32> <{order}>")
        name = combine(em, fn, Value(name, v.dtype, True), Value(other, v.dtype, True)).name
    out = em.name("r")
    em.line(f"{out} = extractelement <{lanes} x {t}> {name}, i32 0")
    return Value(out, v.dtype, False)


# ------------------------------------------------------------------------------------------ where the extremum is


def better(em: Emitter, fn: str, new: Value, old: Value) -> Value:
    """Whether a later element takes the place: strictly greater (less), or the first NaN."""
    if new.dtype.kind == "f":
        beats = em.op(f"fcmp {'ogt' if fn == 'argmax' else 'olt'} {{t}} {{0}}, {{1}}", [new, old], bool_)
        nan = em.op("fcmp uno {t} {0}, {1}", [new, new], bool_)
        fine = em.op("fcmp ord {t} {0}, {1}", [old, old], bool_)
        return em.op("or {t} {0}, {1}", [beats, em.op("and {t} {0}, {1}", [nan, fine], bool_)], bool_)
    sign = "s" if new.dtype.kind == "i" else "u"
    return em.op(f"icmp {sign}{'gt' if fn == 'argmax' else 'lt'} {{t}} {{0}}, {{1}}", [new, old], bool_)


def argument_within(em: Emitter, fold: Fold) -> Value:
    (k,) = fold.over
    dtype = fold.body.dtype
    best, where = slot(em, dtype, True), slot(em, int64, True)
    put(em, best, em.splat(start_of(fold.fn, dtype), Value("", dtype, True)))
    put(em, where, em.splat(0, Value("", int64, True)))

    def step() -> None:
        v, old, at = em.widen(em.value(fold.body)), get(em, best, dtype, True), get(em, where, int64, True)
        wins = better(em, fold.fn, v, old)
        put(em, best, em.choose(wins, v, old))
        put(em, where, em.choose(wins, em.widen(em.env[k]), at))

    nested(em, fold.over, fold.body, step)
    return get(em, where, int64, True)


def argument_across(em: Emitter, fold: Fold) -> Value:
    """Each lane keeps its best and where it was; the best of them that comes first wins."""
    (k,) = fold.over
    dtype = fold.body.dtype
    best, where = slot(em, dtype, True), slot(em, int64, True)
    put(em, best, em.splat(start_of(fold.fn, dtype), Value("", dtype, True)))
    steps = ", ".join(f"i64 {i}" for i in range(em.lanes))
    put(em, where, Value(f"<{steps}>", int64, True))

    def step() -> None:
        v, old, at = em.widen(em.value(fold.body)), get(em, best, dtype, True), get(em, where, int64, True)
        wins = better(em, fold.fn, v, old)
        if em.mask is not None:
            wins = em.op("and {t} {0}, {1}", [wins, em.mask], bool_)
        put(em, best, em.choose(wins, v, old))
        put(em, where, em.choose(wins, Value(em.env[k].name, int64, True), at))

    em.hoist(fold.body, k)
    em.in_lanes(k, "0", em.value(k.extent).name, step, k.extent if isinstance(k.extent, int) else None)
    values, places = get(em, best, dtype, True), get(em, where, int64, True)
    top = halve(em, "max" if fold.fn == "argmax" else "min", values)
    hit = em.op("fcmp ueq {t} {0}, {1}" if dtype.kind == "f" else "icmp eq {t} {0}, {1}", [values, top], bool_)
    if dtype.kind == "f":  # NaN is unordered with all: only lanes that are NaN themselves may win then
        nan = em.op("fcmp uno {t} {0}, {1}", [values, values], bool_)
        top_nan = em.op("fcmp uno {t} {0}, {1}", [top, top], bool_)
        hit = em.choose(top_nan, nan, hit)
    candidates = em.choose(hit, places, em.splat((1 << 63) - 1, places))
    out = Value(em.name(), int64, False)
    em.call(out, f"llvm.vector.reduce.smin.{mangled(candidates, em.lanes)}", [candidates])
    return out


class Row(NamedTuple):
    within: Callable[[Emitter, Fold], Value]
    across: Callable[[Emitter, Fold], Value]


PLAIN = Row(within, across)
ARGUMENT = Row(argument_within, argument_across)
