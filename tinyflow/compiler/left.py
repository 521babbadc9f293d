"""The rows of the left operand that a tile reads: in place, or packed into the thread's own memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import stride
from tinyflow.compiler.phrases import add, const, index, lane_start, mul, pointer, sub, when
from tinyflow.compiler.writer import Value
from tinyflow.core.expr import Load

if TYPE_CHECKING:
    from tinyflow.compiler.contraction import Tiles
    from tinyflow.compiler.tiling import Block, Rows


def left_operand(em: Emitter, t: Tiles, rows: Rows, block: Block) -> tuple[str, str, str]:
    """(pointer, stride of rows, stride of K) of the tile's rows of A in this block."""
    if t.local is None:
        assert isinstance(t.a, Load)
        em.env[t.m], em.env[t.k[0]] = rows.start, block.start
        with em.scope():
            p = em.pointer(t.a.buffer, t.a.offset, t.dtype)
        del em.env[t.m], em.env[t.k[0]]
        return p, index(em, stride(t.a.offset, t.m)).name, index(em, stride(t.a.offset, t.k[0])).name  # type: ignore[arg-type]
    if t.upright and t.whole_runs:
        with when(em, rows.fresh):
            pack_upright(em, t, const(0), index(em, t.m.extent), block)
        return pointer(em, t.local, rows.start, t.dtype.llvm), "1", str(t.packed_height)
    if t.upright:
        pack_upright(em, t, rows.start, add(em, rows.start, rows.height), block)
        return pointer(em, t.local, const(0), t.dtype.llvm), "1", str(t.packed_height)
    pack_rows(em, t, rows.start, rows.height, block)
    return pointer(em, t.local, const(0), t.dtype.llvm), str(t.blocks.most), "1"


def pack_rows(em: Emitter, t: Tiles, start: Value, rows: Value, block: Block) -> None:
    """local[r][k] = A at row r, for a block of K: the last letter in lanes. What is packed next is fetched meanwhile: too little of
    each row is read at once for the processor to see where it goes on."""
    last = t.k[-1]
    along = t.a if isinstance(t.a, Load) and len(t.k) == 1 and stride(t.a.offset, last) == 1 else None
    ahead = None if along is None else to_next(em, t, along, rows, block)
    with em.counting("0", rows.name) as r:
        em.env[t.m] = add(em, start, r)
        row = mul(em, r, const(t.blocks.most))

        def store(line: Value, low: Value, high: str, known: int | None) -> None:
            def put() -> None:
                at = sub(em, add(em, line, lane_start(em, last)), low)
                keep(em, t, at, em.value(t.a), em.mask)
                if along is not None and ahead is not None:
                    em.fetch(along, ahead)

            em.in_lanes(last, low.name, high, put, known)

        with k_letters(em, t, block, len(t.k) - 1) as line:
            line = add(em, row, line)
            if t.blocks.split == len(t.k) - 1:
                store(line, block.low, block.high.name, None)
            else:
                assert isinstance(last.extent, int)
                store(line, const(0), str(last.extent), last.extent)
        del em.env[t.m]


def to_next(em: Emitter, t: Tiles, a: Load, rows: Value, block: Block) -> Value:
    """Bytes from an element of a block to its like in the block that is packed next: of the same rows, or of the next tile's."""
    onward, step = const(t.blocks.step * t.dtype.size), stride(a.offset, t.m)
    if not isinstance(step, int):
        return onward
    down = mul(em, rows, const(step * t.dtype.size))
    if not t.tile_by_tile:
        return down
    return em.choose(block.last, sub(em, down, mul(em, block.start, const(t.dtype.size))), onward)


def pack_upright(em: Emitter, t: Tiles, start: Value, end: Value, block: Block) -> None:
    """local[k][r] = A at row start + r, for a block of K: rows in lanes, whatever lies beyond the last one is not used. The lines
    where the next tile ends are fetched: it begins in lines of this one."""
    next_end = (2 * t.rows[0] - 1) * t.dtype.size
    with k_letters(em, t, block, len(t.k)) as line:
        for first in range(0, t.packed_height, t.lanes):
            at = add(em, start, const(first))
            whole = t.whole_runs and first + t.lanes <= t.m.extent  # type: ignore[operator]
            with em.scope(), em.lane_bound(t.m, at), nullcontext() if whole else em.tail(at, end.name):
                place = add(em, mul(em, line, const(t.packed_height)), const(first))
                keep(em, t, place, em.value(t.a), None)
                if isinstance(t.a, Load) and not (t.whole_runs or first):
                    em.fetch(t.a, next_end)


@contextmanager
def k_letters(em: Emitter, t: Tiles, block: Block, end: int) -> Iterator[Value]:
    """Loops over a block's letters up to `end`; gives the place in the block that they come to."""
    split, _, inner = t.blocks
    with ExitStack() as open_loops:
        line = const(0)
        for k in range(split, end):
            em.hoist(t.a, *t.k[k:])
            low, high = (block.low, block.high) if k == split else (const(0), index(em, t.k[k].extent))
            open_loops.enter_context(em.loop(t.k[k], low.name, high.name))
            if k > split:
                inner //= t.k[k].extent  # type: ignore[operator]
            at = sub(em, em.env[t.k[k]], low)
            line = add(em, line, mul(em, at, const(inner)))
        em.hoist(t.a, *t.k[end:])
        yield line


def keep(em: Emitter, t: Tiles, at: Value, v: Value, mask: Value | None) -> None:
    """A vector of A into the thread's own memory."""
    p = pointer(em, t.local, at, t.dtype.llvm)
    v = em.widen(v)
    if mask is None:
        em.line(f"store {v.type(em.lanes)} {v.name}, ptr {p}, align {t.dtype.size}")
    else:
        em.masked_store(p, v, em.widen(mask))
