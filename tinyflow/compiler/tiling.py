"""The loops around the micro-kernel: who computes which tiles, and what becomes of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tinyflow.compiler import ahead
from tinyflow.compiler.borders import narrowed
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.kernel import bind_rows, work
from tinyflow.compiler.left import left_operand
from tinyflow.compiler.loops import Kernel, Store, loads, stride
from tinyflow.compiler.phrases import (
    add,
    call_tile,
    const,
    div,
    greatest,
    index,
    lane_start,
    least,
    less,
    mul,
    pointer,
    sub,
    when,
)
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Index_, Load

if TYPE_CHECKING:
    from tinyflow.compiler.contraction import Tiles


class Grid(NamedTuple):
    """What this thread computes: tiles of (batch, row tile) from low to high, and panels from first to last."""

    low: Value
    high: Value
    first: Value
    last: Value
    tiles: Value  # row tiles of one batch entry
    rows: tuple[Value, Value] | None  # of which its tiles are made, where rows are divided


def emit_tiles(em: Emitter, kernel: Kernel, t: Tiles) -> Index_:
    """The kernel of a contraction; returns how many tiles it has."""
    em.lanes = t.lanes
    if t.packing is not None:
        em.alone = True
        work(em, t.packing)
        em.alone = False
    em.hoist_all([s.value for s in kernel.stores], t.batch, t.run, t.m, t.n)
    grid = divide(em, t)
    each = greatest(em, grid.tiles, const(1))  # there may be no rows: dividing by 0 would end the process
    first_batch = div(em, grid.low, each)
    last_batch = div(em, add(em, grid.high, const(-1)), each)
    some = less(em, grid.low, grid.high)
    end = em.choose(some, add(em, last_batch, const(1)), first_batch)
    with em.counting(first_batch.name, end.name) as b:
        em.env[t.batch] = b
        base = mul(em, b, grid.tiles)
        low = greatest(em, sub(em, grid.low, base), const(0))
        high = least(em, sub(em, grid.high, base), grid.tiles)
        with em.counting(grid.first.name, grid.last.name, t.group) as p0:
            panels = p0, least(em, add(em, p0, const(t.group)), grid.last)
            if t.tile_by_tile:
                with row_tiles(em, t, grid, low, high) as rows, k_blocks(em, t) as block:
                    rows_against_panels(em, kernel, t, b, rows, panels, block)
            else:
                with k_blocks(em, t) as block, row_tiles(em, t, grid, low, high) as rows:
                    rows_against_panels(em, kernel, t, b, rows, panels, block)
        del em.env[t.batch]
    return expr.mul(t.sizes[0], expr.maximum(t.tile_count, t.panel_count))


def divide(em: Emitter, t: Tiles) -> Grid:
    """Tiles of rows are divided among the threads where there are enough of them, else columns. Rows whose number is known
    only now are divided themselves, and cut into tiles then: of few, half a tile more than the others have is much."""
    tid, n = Value("%tid", int64, False), Value("%nthreads", int64, False)
    tiles, panels = index(em, t.tile_count), index(em, t.panel_count)
    all_tiles = mul(em, index(em, t.sizes[0]), tiles)
    few = less(em, all_tiles, mul(em, n, const(2)))
    more = less(em, all_tiles, panels)
    columns = em.op("and {t} {0}, {1}", [few, more], bool_)
    after = add(em, tid, const(1))

    def part(whole: Value, k: Value) -> Value:
        return div(em, mul(em, whole, k), n)

    def mine(rows: Value) -> tuple[Value, Value]:
        """This thread's part, or all where it is columns that are divided."""
        return em.choose(columns, const(0), part(rows, tid)), em.choose(columns, rows, part(rows, after))

    first, last = em.choose(columns, part(panels, tid), const(0)), em.choose(columns, part(panels, after), panels)
    if not t.divides_rows:
        return Grid(*mine(all_tiles), first, last, tiles, None)
    rows = mine(index(em, t.m.extent))
    count = sub(em, rows[1], rows[0])
    own = div(em, add(em, count, const(t.rows[0] - 1)), const(t.rows[0]))
    return Grid(const(0), own, first, last, tiles, rows)


class Block(NamedTuple):
    """A range of K: of the letter that is cut from low to high, `length` values from `start` in all."""

    low: Value
    high: Value
    start: Value
    length: Value
    first: Value
    last: Value


@contextmanager
def k_blocks(em: Emitter, t: Tiles) -> Iterator[Block]:
    """K block by block; the letters before the one that is cut are bound."""
    split, step, inner = t.blocks
    letter = t.k[split]
    end = index(em, letter.extent)
    if t.blocks.one(t.k):
        yes = Value("true", bool_, False)
        yield Block(const(0), end, const(0), index(em, t.sizes[3]), yes, yes)
        return
    chunks = index(em, expr.floordiv(letter.extent + (step - 1), step))
    count = em.value(expr.product([*(i.extent for i in t.k[:split]), expr.floordiv(letter.extent + (step - 1), step)]))
    once = greatest(em, count, const(1))  # a sum over nothing is 0 all the same
    with em.counting("0", once.name) as o:
        line = const(0)
        chunk = o
        if split:
            each = greatest(em, chunks, const(1))
            chunk, line = em.op("urem {t} {0}, {1}", [o, each]), div(em, o, each)
            bind_rows(em, t.k[:split], line)
        low = mul(em, chunk, const(step))
        high = least(em, add(em, low, const(step)), end)
        start = mul(em, add(em, mul(em, line, end), low), const(inner))
        length = mul(em, sub(em, high, low), const(inner))
        first = em.op("icmp eq {t} {0}, {1}", [o, const(0)], bool_)
        last = em.op("icmp eq {t} {0}, {1}", [add(em, o, const(1)), once], bool_)
        yield Block(low, high, start, length, first, last)
        for i in t.k[:split]:
            del em.env[i]


class Rows(NamedTuple):
    """Rows of a run."""

    start: Value
    height: Value
    fresh: Value  # whether they are the first of this run that this thread meets


@contextmanager
def row_tiles(em: Emitter, t: Tiles, grid: Grid, low: Value, high: Value) -> Iterator[Rows]:
    """The rows of each tile. Rows left over are cut into the heights that there are."""
    with em.counting(low.name, high.name) as tile:
        em.env[t.run] = const(0)
        fresh = em.op("icmp eq {t} {0}, {1}", [tile, low], bool_)
        if t.run.extent != 1:
            each = index(em, t.tiles_a_run)
            em.env[t.run], tile = div(em, tile, each), em.op("urem {t} {0}, {1}", [tile, each])
        fresh = em.op("or {t} {0}, {1}", [fresh, em.op("icmp eq {t} {0}, {1}", [tile, const(0)], bool_)])
        m = t.m.extent
        if isinstance(m, int) and t.across != "rows":
            count = -(-m // t.rows[0])
            base, rest = m // count, m % count
            start = add(em, mul(em, tile, const(base)), least(em, tile, const(rest)))
            taller = less(em, tile, const(rest))
            yield Rows(start, em.choose(taller, const(base + 1), const(base)) if rest else const(base), fresh)
        else:
            begin, end = grid.rows or (const(0), index(em, m))
            first = add(em, begin, mul(em, tile, const(t.rows[0])))
            stop = least(em, add(em, first, const(t.rows[0])), end)
            with cut_rows(em, t, first, stop) as (start, height):
                yield Rows(start, height, fresh)
        del em.env[t.run]


@contextmanager
def cut_rows(em: Emitter, t: Tiles, first: Value, stop: Value) -> Iterator[tuple[Value, Value]]:
    """(start, height) of pieces of the heights that there are, the greatest that fits each time."""
    at = em.name("at")
    em.allocas.append(f"  {at} = alloca i64")
    em.line(f"store i64 {first.name}, ptr {at}")
    head, body, done = em.fresh("head"), em.fresh("body"), em.fresh("done")
    em.line(f"br label %{head}")
    em.label(head)
    start = Value(em.name(), int64, False)
    em.line(f"{start.name} = load i64, ptr {at}")
    go = less(em, start, stop)
    em.line(f"br i1 {go.name}, label %{body}, label %{done}")
    em.label(body)
    with em.scope():
        left = sub(em, stop, start)
        rows = const(t.rows[-1])
        for h in reversed(t.rows[:-1]):
            rows = em.choose(em.op("icmp sge {t} {0}, {1}", [left, const(h)], bool_), const(h), rows)
        yield start, rows
        em.line(f"store i64 {add(em, start, rows).name}, ptr {at}")
    em.line(f"br label %{head}")
    em.label(done)


def rows_against_panels(
    em: Emitter, kernel: Kernel, t: Tiles, b: Value, rows: Rows, panels: tuple[Value, Value], block: Block
) -> None:
    needed = Value("true", bool_, False)
    if t.tests:
        block, needed = inside(em, t, block)
    with when(em, needed):
        against_panels(em, kernel, t, b, rows, panels, block)


def inside(em: Emitter, t: Tiles, block: Block) -> tuple[Block, Value]:
    """The part of a block where A is not zero for certain, and whether anything has to be done for it."""
    low, high = narrowed(em, t.tests, t.k[t.blocks.split], block.low, block.high)
    skipped = mul(em, sub(em, low, block.low), const(t.blocks.inner))
    length = mul(em, sub(em, high, low), const(t.blocks.inner))
    needed = em.op("icmp sgt {t} {0}, {1}", [length, const(0)], bool_)
    for end in (block.first, block.last):
        needed = em.op("or {t} {0}, {1}", [needed, end])
    return Block(low, high, add(em, block.start, skipped), length, block.first, block.last), needed


def against_panels(
    em: Emitter, kernel: Kernel, t: Tiles, b: Value, rows: Rows, panels: tuple[Value, Value], block: Block
) -> None:
    a, sm, sk = left_operand(em, t, rows, block)
    touched = ahead.touched(kernel.stores, t)
    with em.counting(panels[0].name, panels[1].name) as p:
        if touched:
            with when(em, block.last):
                ahead.fetch(em, t, touched, rows, mul(em, p, const(t.width)))
        right = right_operand(em, t, b, p, block)
        c, ldc = results_at(em, kernel, t, b, rows.start, p, panels[0])
        call_tile(em, t.rows, t.like, rows.height, [block.length.name, a, sm, sk, right, c, ldc.name, block.first.name])
        if not (t.direct or t.tile_by_tile):
            with when(em, block.last):
                low = mul(em, p, const(t.width))
                epilogue(em, kernel.stores, t, rows, (low, add(em, low, const(t.width))), c, ldc)
    if t.tile_by_tile and not t.direct:
        with when(em, block.last):
            low, high = (mul(em, p, const(t.width)) for p in panels)
            c, ldc = results_at(em, kernel, t, b, rows.start, panels[0], panels[0])
            epilogue(em, kernel.stores, t, rows, (low, high), c, ldc)


def right_operand(em: Emitter, t: Tiles, b: Value, p: Value, block: Block) -> str:
    """Where a panel's block begins."""
    if t.right is None:
        count, k = index(em, t.panel_count), index(em, t.panel_depth)
        where = mul(em, add(em, mul(em, add(em, mul(em, b, count), p), k), block.start), const(t.panel_width))
        return pointer(em, t.panels, where, t.dtype.llvm)
    assert isinstance(t.right.b, Load)
    em.env[t.n], em.env[t.right.row] = mul(em, p, const(t.width)), block.start
    with em.scope():
        found = em.pointer(t.right.b.buffer, t.right.b.offset, t.dtype)
    del em.env[t.n], em.env[t.right.row]
    return found


def results_at(em: Emitter, kernel: Kernel, t: Tiles, b: Value, start: Value, p: Value, p0: Value) -> tuple[str, Value]:
    """(pointer, stride of rows) of where a tile's results are added up."""
    if t.sums is not None and t.sums.per_thread:
        line = const(t.group * t.width)
        at = mul(em, sub(em, p, p0), const(t.width))
        return pointer(em, t.sums, at, t.dtype.llvm), line
    if t.sums is not None:
        line = mul(em, index(em, t.panel_count), const(t.width))
        row = add(em, mul(em, em.env[t.run], index(em, t.m.extent)), start)
        row = add(em, mul(em, b, index(em, t.sizes[1])), row)
        return pointer(em, t.sums, add(em, mul(em, row, line), mul(em, p, const(t.width))), t.dtype.llvm), line
    if t.direct:
        store = kernel.stores[0]
        em.env[t.m], em.env[t.n] = start, mul(em, p, const(t.width))
        c = em.pointer(store.target.key, store.offset, t.dtype)
        line = index(em, stride(store.offset, t.m))  # type: ignore[arg-type]
        del em.env[t.m], em.env[t.n]
        return c, line
    return scratch_tile(em, t), const(t.width)


def scratch_tile(em: Emitter, t: Tiles) -> str:
    """Memory of the thread for a tile's results."""
    c = em.name("tile")
    em.allocas.append(f"  {c} = alloca [{t.rows[0] * t.width} x {t.dtype.llvm}], align 64")
    return c


def epilogue(
    em: Emitter, stores: Sequence[Store], t: Tiles, rows: Rows, columns: tuple[Value, Value], c: str, ldc: Value
) -> None:
    """What is made of a tile's results, row by row."""
    low, high = columns[0], least(em, columns[1], index(em, t.n.extent))
    known = t.width if isinstance(t.n.extent, int) and t.n.extent % t.width == 0 and not t.tile_by_tile else None
    known = t.n.extent if t.panel_count == t.group and isinstance(t.n.extent, int) else known
    kept = [scratch_tile(em, t) for _ in stores] if stores_late(stores, t) else None

    def vector(base: str, at: Value) -> str:
        q = em.name("p")
        em.line(f"{q} = getelementptr {t.dtype.llvm}, ptr {base}, i64 {add(em, at, lane_start(em, t.n)).name}")
        return q

    def loaded(base: str, at: Value) -> Value:
        v = Value(em.name(), t.dtype, True)
        em.line(f"{v.name} = load {v.type(em.lanes)}, ptr {vector(base, at)}, align {t.dtype.size}")
        return v

    def each_row(columns_of: Callable[[Value], None]) -> None:
        with em.counting("0", rows.height.name) as r:
            em.env[t.m] = add(em, rows.start, r)
            em.hoist_all([s.value for s in stores], t.n)
            em.in_lanes(t.n, low.name, high.name, lambda: columns_of(r), known)
            del em.env[t.m]

    def make(r: Value) -> None:
        em.env[t.result] = loaded(c, sub(em, mul(em, r, ldc), low))
        values = [em.value(s.value) for s in stores]
        for k, (s, x) in enumerate(zip(stores, values, strict=True)):
            if kept is None:
                em.store(s.target.key, s.offset, x, s.target.dtype)
            else:
                x = em.widen(x)
                em.line(
                    f"store {x.type(em.lanes)} {x.name}, ptr {vector(kept[k], mul(em, r, const(t.width)))}, align 4"
                )
        del em.env[t.result]

    def put(r: Value) -> None:
        for s, tile in zip(stores, kept or (), strict=True):
            em.store(s.target.key, s.offset, loaded(tile, mul(em, r, const(t.width))), s.target.dtype)

    each_row(make)
    if kept is not None:
        each_row(put)


def stores_late(stores: Sequence[Store], t: Tiles) -> bool:
    """Whether all rows of a tile are made before any is stored: part of a vector is stored slowly to where the next
    row is read from, since the processor takes them for one place."""
    narrow = isinstance(t.n.extent, int) and t.n.extent < t.lanes and not any(s.target.dtype.is_low for s in stores)
    return narrow and any(x.buffer is s.target.node for s in stores for x in loads(s.value))
