"""The loops around the micro-kernel: who computes which tiles, and what becomes of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.kernel import work
from tinyflow.compiler.loops import Kernel, Store, stride
from tinyflow.compiler.microkernel import Tile, tile_declaration, tile_text
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Index_, Load

if TYPE_CHECKING:
    from tinyflow.compiler.contraction import Tiles


def const(n: int) -> Value:
    return Value(str(n), int64, False)


def index(em: Emitter, e: Index_) -> Value:
    return em.value(e)


def add(em: Emitter, a: Value, b: Value) -> Value:
    return em.op("add {t} {0}, {1}", [a, b])


def mul(em: Emitter, a: Value, b: Value) -> Value:
    return em.op("mul {t} {0}, {1}", [a, b])


def least(em: Emitter, a: Value, b: Value) -> Value:
    return em.intrinsic("smin", [a, b], int64)


def greatest(em: Emitter, a: Value, b: Value) -> Value:
    return em.intrinsic("smax", [a, b], int64)


class Grid(NamedTuple):
    """What this thread computes: tiles of (batch, row tile) from low to high, and panels from first to last."""

    low: Value
    high: Value
    first: Value
    last: Value
    tiles: Value  # row tiles of one batch entry


def emit_tiles(em: Emitter, kernel: Kernel, t: Tiles) -> Index_:
    """The kernel of a contraction; returns how many tiles it has."""
    em.lanes = t.lanes
    if t.packing is not None:
        em.alone = True
        work(em, t.packing)
        em.alone = False
    em.hoist_all([s.value for s in kernel.stores], t.batch, t.m, t.n)
    grid = divide(em, t)
    each = greatest(em, grid.tiles, const(1))  # there may be no rows: dividing by 0 would end the process
    first_batch = em.op("udiv {t} {0}, {1}", [grid.low, each])
    last_batch = em.op("udiv {t} {0}, {1}", [add(em, grid.high, const(-1)), each])
    some = em.op("icmp slt {t} {0}, {1}", [grid.low, grid.high], bool_)
    end = em.choose(some, add(em, last_batch, const(1)), first_batch)
    with em.counting(first_batch.name, end.name) as b:
        em.env[t.batch] = b
        base = mul(em, b, grid.tiles)
        low = greatest(em, em.op("sub {t} {0}, {1}", [grid.low, base]), const(0))
        high = least(em, em.op("sub {t} {0}, {1}", [grid.high, base]), grid.tiles)
        group = max(512 // t.width, 1)
        with em.counting(grid.first.name, grid.last.name, group) as p0:
            p1 = least(em, add(em, p0, const(group)), grid.last)
            with k_blocks(em, t) as block, em.counting(low.name, high.name) as tile:
                row_tile(em, kernel, t, b, tile, (p0, p1), block)
        del em.env[t.batch]
    rows = expr.floordiv(t.sizes[1] + (t.rows[0] - 1), t.rows[0])
    return expr.mul(t.sizes[0], expr.maximum(rows, expr.floordiv(t.sizes[2] + (t.width - 1), t.width)))


def divide(em: Emitter, t: Tiles) -> Grid:
    """Rows are divided among the threads where there are enough tiles of them, else columns."""
    tid, n = Value("%tid", int64, False), Value("%nthreads", int64, False)
    tiles = index(em, expr.floordiv(t.sizes[1] + (t.rows[0] - 1), t.rows[0]))
    panels = index(em, expr.floordiv(t.sizes[2] + (t.width - 1), t.width))
    all_tiles = mul(em, index(em, t.sizes[0]), tiles)
    few = em.op("icmp slt {t} {0}, {1}", [all_tiles, mul(em, n, const(2))], bool_)
    more = em.op("icmp slt {t} {0}, {1}", [all_tiles, panels], bool_)
    columns = em.op("and {t} {0}, {1}", [few, more], bool_)
    after = add(em, tid, const(1))

    def part(whole: Value, k: Value) -> Value:
        return em.op("udiv {t} {0}, {1}", [mul(em, whole, k), n])

    return Grid(
        em.choose(columns, const(0), part(all_tiles, tid)), em.choose(columns, all_tiles, part(all_tiles, after)),
        em.choose(columns, part(panels, tid), const(0)), em.choose(columns, part(panels, after), panels), tiles,
    )  # fmt: skip


class Block(NamedTuple):
    """A range of K: of the outermost letter from `outer`, `count` values in all."""

    outer: Value
    outer_end: Value
    start: Value  # of K
    length: Value
    first: Value
    last: Value


@contextmanager
def k_blocks(em: Emitter, t: Tiles) -> Iterator[Block]:
    from tinyflow.compiler.contraction import k_block

    _, most = k_block(t.k)
    inner = expr.product(i.extent for i in t.k[1:])
    assert isinstance(inner, int)
    outer, total = t.k[0].extent, index(em, t.sizes[3])
    step = most // inner
    if isinstance(outer, int):  # blocks of about one size
        step = -(-outer // -(-outer // step))
    if isinstance(outer, int) and outer <= step:
        yes = Value("true", bool_, False)
        yield Block(const(0), const(outer), const(0), total, yes, yes)
        return
    end = index(em, outer)
    once = greatest(em, end, const(1))  # a sum over nothing is 0 all the same
    with em.counting("0", once.name, step) as o:
        stop = least(em, add(em, o, const(step)), end)
        start = mul(em, o, const(inner))
        count = em.op("sub {t} {0}, {1}", [mul(em, stop, const(inner)), start])
        first = em.op("icmp eq {t} {0}, {1}", [o, const(0)], bool_)
        last = em.op("icmp eq {t} {0}, {1}", [stop, end], bool_)
        yield Block(o, stop, start, count, first, last)


def row_tile(
    em: Emitter, kernel: Kernel, t: Tiles, b: Value, tile: Value, panels: tuple[Value, Value], block: Block
) -> None:
    """One tile of rows against a group of panels. Rows left over are cut into the heights that there are."""
    m = t.sizes[1]
    if isinstance(m, int):
        count = -(-m // t.rows[0])
        base, rest = m // count, m % count
        start = add(em, mul(em, tile, const(base)), least(em, tile, const(rest)))
        taller = em.op("icmp slt {t} {0}, {1}", [tile, const(rest)], bool_)
        rows = em.choose(taller, const(base + 1), const(base)) if rest else const(base)
        rows_against_panels(em, kernel, t, b, start, rows, panels, block)
        return
    at = em.name("at")
    em.allocas.append(f"  {at} = alloca i64")
    first = mul(em, tile, const(t.rows[0]))
    stop = least(em, add(em, first, const(t.rows[0])), index(em, m))
    em.line(f"store i64 {first.name}, ptr {at}")
    head, body, done = em.fresh("head"), em.fresh("body"), em.fresh("done")
    em.line(f"br label %{head}")
    em.label(head)
    start = Value(em.name(), int64, False)
    em.line(f"{start.name} = load i64, ptr {at}")
    go = em.op("icmp slt {t} {0}, {1}", [start, stop], bool_)
    em.line(f"br i1 {go.name}, label %{body}, label %{done}")
    em.label(body)
    with em.scope():
        left = em.op("sub {t} {0}, {1}", [stop, start])
        rows = const(t.rows[-1])
        for h in reversed(t.rows[:-1]):
            rows = em.choose(em.op("icmp sge {t} {0}, {1}", [left, const(h)], bool_), const(h), rows)
        rows_against_panels(em, kernel, t, b, start, rows, panels, block)
        after = add(em, start, rows)
        em.line(f"store i64 {after.name}, ptr {at}")
    em.line(f"br label %{head}")
    em.label(done)


def rows_against_panels(
    em: Emitter,
    kernel: Kernel,
    t: Tiles,
    b: Value,
    start: Value,
    rows: Value,
    panels: tuple[Value, Value],
    block: Block,
) -> None:
    em.env[t.m] = start
    a, sm, sk = left_operand(em, t, start, rows, block)
    del em.env[t.m]
    size = t.dtype.size
    count = index(em, expr.floordiv(t.sizes[2] + (t.width - 1), t.width))
    k = index(em, t.sizes[3])
    with em.counting(panels[0].name, panels[1].name) as p:
        where = mul(em, add(em, mul(em, add(em, mul(em, b, count), p), k), block.start), const(t.width))
        right = pointer(em, t.panels, where, t.dtype.llvm)
        if t.sums is not None:
            line = mul(em, count, const(t.width))
            place = add(
                em, mul(em, add(em, mul(em, b, index(em, t.sizes[1])), start), line), mul(em, p, const(t.width))
            )
            c, ldc = pointer(em, t.sums, place, t.dtype.llvm), line
        elif is_direct(kernel, t):
            store = kernel.stores[0]
            em.env[t.m], em.env[t.n] = start, mul(em, p, const(t.width))
            c = em.pointer(store.target.key, store.offset, t.dtype)
            ldc = index(em, stride(store.offset, t.m))  # type: ignore[arg-type]
            del em.env[t.m], em.env[t.n]
        else:
            c = em.name("tile")
            em.allocas.append(f"  {c} = alloca [{t.rows[0] * t.width} x {t.dtype.llvm}], align 64")
            ldc = const(t.width)
        call_tile(em, t, rows, [block.length.name, a, sm, sk, right, c, ldc.name, block.first.name])
        if is_direct(kernel, t) and t.sums is None:
            return_after = None
        else:
            return_after = (c, ldc)
        if return_after is not None:
            with when(em, block.last):
                epilogue(em, kernel.stores, t, start, rows, p, c, ldc)
    assert size


def is_direct(kernel: Kernel, t: Tiles) -> bool:
    from tinyflow.compiler.contraction import is_direct as direct

    return direct(kernel.stores, t.result, (t.batch, t.m, t.n), t.width)


def pointer(em: Emitter, buffer: object, at: Value, element: str) -> str:
    base = em.buffers.setdefault(buffer, f"%buf{len(em.buffers)}")
    p = em.name("p")
    em.line(f"{p} = getelementptr {element}, ptr {base}, i64 {at.name}")
    return p


@contextmanager
def when(em: Emitter, condition: Value) -> Iterator[None]:
    if condition.name == "true":
        with em.scope():
            yield
        return
    yes, after = em.fresh("yes"), em.fresh("after")
    em.line(f"br i1 {condition.name}, label %{yes}, label %{after}")
    em.label(yes)
    with em.scope():
        yield
    em.line(f"br label %{after}")
    em.label(after)


def left_operand(em: Emitter, t: Tiles, start: Value, rows: Value, block: Block) -> tuple[str, str, str]:
    """(pointer, stride of rows, stride of K) of the tile's rows of A in this block."""
    if t.local is None:
        assert isinstance(t.a, Load)
        em.env[t.k[0]] = block.start
        with em.scope():
            p = em.pointer(t.a.buffer, t.a.offset, t.dtype)
        del em.env[t.k[0]]
        return p, index(em, stride(t.a.offset, t.m)).name, index(em, stride(t.a.offset, t.k[0])).name  # type: ignore[arg-type]
    width = packed_width(t)
    with em.counting("0", rows.name) as r:
        em.env[t.m] = add(em, start, r)
        line = mul(em, r, const(width))

        def put(at: Callable[[], Value]) -> None:
            v = em.value(t.a)
            where = add(em, line, at())
            p = pointer(em, t.local, where, t.dtype.llvm)
            store_lanes(em, p, v)

        pack_rows(em, t, block, put)
        em.env[t.m] = start
    return em.buffers.setdefault(t.local, f"%buf{len(em.buffers)}"), str(width), "1"


def packed_width(t: Tiles) -> int:
    from tinyflow.compiler.contraction import k_block

    return k_block(t.k)[1]


def pack_rows(em: Emitter, t: Tiles, block: Block, put: Callable[[Callable[[], Value]], None]) -> None:
    """One row of A over a block of K: letters as loops, the last in lanes."""
    if len(t.k) == 1:
        k = t.k[0]
        em.in_lanes(
            k,
            block.start.name,
            add(em, block.start, block.length).name,
            lambda: put(lambda: em.op("sub {t} {0}, {1}", [lane_start(em, k), block.start])),
            None,
        )
        return
    inner = [i.extent for i in t.k[1:]]
    with em.loop(t.k[0], block.outer.name, block.outer_end.name):
        em.hoist(t.a, *t.k[1:])
        relative = em.op("sub {t} {0}, {1}", [em.env[t.k[0]], block.outer])

        def nest(depth: int, line: Value) -> None:
            i = t.k[depth]
            line = mul(em, line, const(inner[depth - 1]))  # type: ignore[arg-type]
            if depth == len(t.k) - 1:
                em.in_lanes(i, "0", str(i.extent), lambda: put(lambda: add(em, line, lane_start(em, i))), i.extent)  # type: ignore[arg-type]
                return
            with em.loop(i):
                em.hoist(t.a, *t.k[depth + 1 :])
                nest(depth + 1, add(em, line, em.env[i]))

        nest(1, relative)


def lane_start(em: Emitter, i: object) -> Value:
    from tinyflow.compiler.emit import first_lane

    return em.env[first_lane(i)]  # type: ignore[arg-type]


def store_lanes(em: Emitter, p: str, v: Value) -> None:
    v = em.widen(v)
    t = v.type(em.lanes)
    if em.mask is None:
        em.line(f"store {t} {v.name}, ptr {p}, align {v.dtype.size}")
        return
    suffix = f"v{em.lanes}{'f32' if v.dtype.llvm == 'float' else 'f64'}"
    em.declared[f"declare void @llvm.masked.store.{suffix}.p0({t}, ptr, i32, <{em.lanes} x i1>)"] = None
    em.line(
        f"call void @llvm.masked.store.{suffix}.p0({t} {v.name}, ptr {p}, i32 {v.dtype.size}, <{em.lanes} x i1> {em.mask.name})"
    )


def call_tile(em: Emitter, t: Tiles, rows: Value, args: Sequence[str]) -> None:
    """The micro-kernel of that height."""
    kinds = ("i64", "ptr", "i64", "i64", "ptr", "ptr", "i64", "i1")
    text = ", ".join(f"{k} {a}" for k, a in zip(kinds, args, strict=True))
    known = [None if s.startswith("%") else int(s) for s in args[2:4]]
    shapes = [Tile(h, t.vectors, t.lanes, t.dtype, *known) for h in t.rows]
    for shape in shapes:
        em.extra[tile_text(shape, em.target.attributes)] = None
        em.declared[tile_declaration(shape)] = None
    if len(shapes) == 1:
        em.line(f"call void @{shapes[0].name}({text})")
        return
    after = em.fresh("after")
    cases = [em.fresh("case") for _ in shapes]
    em.line(
        f"switch i64 {rows.name}, label %{cases[0]} [ "
        + " ".join(f"i64 {h}, label %{c}" for h, c in zip(t.rows, cases, strict=True))
        + " ]"
    )
    for shape, case in zip(shapes, cases, strict=True):
        em.label(case)
        em.line(f"call void @{shape.name}({text})")
        em.line(f"br label %{after}")
    em.label(after)


def epilogue(
    em: Emitter, stores: Sequence[Store], t: Tiles, start: Value, rows: Value, p: Value, c: str, ldc: Value
) -> None:
    """What is made of a tile's results, row by row."""
    with em.counting("0", rows.name) as r:
        em.env[t.m] = add(em, start, r)
        line = mul(em, r, ldc)
        first = mul(em, p, const(t.width))
        extent = index(em, t.sizes[2])
        for j in range(t.vectors):
            at = add(em, first, const(j * t.lanes))

            def columns(j: int = j, at: Value = at) -> None:
                with em.scope(), em.lane_bound(t.n, at):
                    v = Value(em.name(), t.dtype, True)
                    q = em.name("p")
                    place = add(em, line, const(j * t.lanes))
                    em.line(f"{q} = getelementptr {t.dtype.llvm}, ptr {c}, i64 {place.name}")
                    em.line(f"{v.name} = load {v.type(em.lanes)}, ptr {q}, align {t.dtype.size}")
                    em.env[t.result] = v
                    values = [em.value(s.value) for s in stores]
                    for s, x in zip(stores, values, strict=True):
                        em.store(s.target.key, s.offset, x, s.target.dtype)
                    del em.env[t.result]

            if isinstance(t.sizes[2], int) and t.sizes[2] % t.width == 0:
                columns()
            else:
                with em.tail(at, extent.name):
                    columns()
        del em.env[t.m]
