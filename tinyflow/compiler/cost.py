"""What one way of computing a contraction costs: cycles of the thread that has most to do, of THREADS.

    products    calls * K * step            of the micro-kernel, lanes and rows that hold nothing included
    panels      bytes of B that come from beyond the first cache; at the same time as the products
    far         steps to the next row of B, where it is read in place and not held by the second cache
    packing     B once: by each thread for itself, or shared and waited for
    left        bytes of A, once for each group of panels; and its packing, where it cannot be read in place
    results     stored, read again for each block of K, and read by what is made of them

    cycles  =  max(products, panels) + far + packing + left + results

It is not to say how long a contraction takes, but which way takes least: `python -m bench.sweep --ways` holds it against
measurement. What it knows of a machine are rows of the table in `runtime/target.py`; the other constants are vectors and
calls, and hold for any. The number of threads is one that it is weighed for: a way is the same for any.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import NamedTuple

from tinyflow.runtime.target import Target

THREADS = 2
COLUMNS = 512  # of a group of panels, at most: what is made of results is stored in rows of so many
SHARED_SETS = 128 * 1024  # bytes: rows of B that lie a multiple apart drive each other out of the second cache
MOST_ALONE = 1 << 21  # bytes of panels that each thread may have for itself

# cycles
CALL, RESULT = 15, 6  # of the micro-kernel; of one of its vectors of results
VECTOR = 0.3  # beside the multiplications, of each vector of B in a step of K
COPIED, TURNED, COMPUTED = 2.0, 3.0, 8.0  # of a vector that is packed: as it lies, turned in registers, computed then
FAR, NEAR = 4, 1  # of a step to the next row of B in place, if it lies beyond the second cache or within it
START, START_NEAR = 1000, 100  # of the first rows of a panel in place, that nobody has asked for
BARRIER = 6000  # another step, that waits for this one: threads are woken, and one is late
ROW, AROUND = 8, 8  # of a row of results, and of each of its vectors, that something is made of
SHORT = 4  # of a row of A that is packed, for each block of K
RAGGED = 40  # of a vector of rows of a tile, which reaches over channels; those of a whole run begin where these do


class Job(NamedTuple):
    """A contraction: its sizes (those known only when running by a guess) and how its operands lie."""

    batch: int
    runs: int  # of rows
    rows: int  # of a run
    columns: int
    depth: int
    blocks: int  # of K
    size: int  # bytes of an element
    lanes: int
    across: str  # the lanes: "columns", "rows" or "terms"
    in_place: bool  # whether A needs no packing
    upright: bool  # whether A is packed along its rows
    direct: bool  # whether results are stored as they are
    line: int = 0  # elements from one row of B to the next, if it may be read in place
    packing: float = COPIED  # cycles of packing a vector of B; 0 where that is done once and for all
    alone: bool = True  # whether each thread may pack for itself
    columns_known: bool = True
    depth_known: bool = True


class Way(NamedTuple):
    """What may be chosen."""

    height: int  # of the micro-kernel's tile
    vectors: int
    group: int  # panels that a tile meets one after the other
    tile_by_tile: bool  # whether a tile goes through all of K before the next one, else all tiles through each block
    right: str  # where B is read: "in place", from panels that each thread packs "alone", or that are "shared"


def tiles(j: Job, t: Target) -> list[tuple[int, int]]:
    """(rows, vectors) of the micro-kernels that there are. For any number of columns, the usual one."""
    if j.across == "rows":
        return [(2 * j.lanes, 1)]
    if j.across == "terms":
        return [((t.vector_registers - 1) // (j.columns + 1), 1)]
    return [(h, v) for h, v in t.tiles if (v - 1) * j.lanes < j.columns and (j.columns_known or v == 2)]


def ways(j: Job, t: Target) -> Iterator[Way]:
    known = j.columns_known and j.depth_known
    for height, vectors in tiles(j, t):
        width = vectors * j.lanes
        panels = -(-j.columns // width)
        group = min(max(COLUMNS // width, 1), panels)
        orders = [(group, j.depth_known and j.across != "terms")]
        if j.blocks > 1:
            orders.append((group, False))
        if known and group > 1:
            orders.append((1, False))
        rights = ["shared"]
        if known and j.alone and j.batch == 1 and panels * width * j.depth * j.size <= MOST_ALONE:
            rights.append("alone")
        if known and j.line and j.columns % width == 0 and j.across == "columns":
            rights.append("in place")
        for right in reversed(rights):
            for order in dict.fromkeys(orders):
                yield Way(height, vectors, *order, right)


def best(j: Job, t: Target) -> Way:
    return min(ways(j, t), key=lambda w: cycles(w, j, t))


def cycles(w: Way, j: Job, t: Target) -> float:
    width, in_place = w.vectors * j.lanes, w.right == "in place"
    panels, tiles_a_run = -(-j.columns // width), -(-j.rows // w.height)
    tiles, height = j.batch * j.runs * tiles_a_run, j.rows / tiles_a_run
    if tiles < 2 * THREADS and tiles < panels:  # then columns are divided
        mine, panels_mine = tiles, -(-panels // THREADS)
    else:
        mine, panels_mine = -(-tiles // THREADS), panels
    group = min(w.group, panels_mine)
    groups, calls = -(-panels_mine // group), mine * panels_mine

    vectors = height * (w.vectors if j.across == "columns" else j.columns / j.lanes)  # multiplied in a step of K
    step = max(vectors / t.fma, t.latency if j.across == "columns" else 0) + t.broadcast * height + VECTOR * w.vectors
    products = calls * (j.depth * step + j.blocks * (CALL + RESULT * height * w.vectors))

    sweeps = max(1.0, mine / min(j.batch, mine))  # times that this thread reads a panel
    rows = j.depth if w.tile_by_tile else j.depth / j.blocks
    piece, whole = group * width * j.size, j.batch * j.depth * panels * width * j.size
    held = rows * (max(piece, gcd(j.line * j.size, SHARED_SETS)) if in_place else piece)  # until the next sweep
    first, again = j.depth * calls / sweeps, j.depth * calls * (1 - 1 / sweeps)  # rows of panels
    read = (first * rate(t, whole, True) + again * rate(t, held)) * width * j.size
    far = 0.0
    if in_place:
        starts = calls / sweeps * (j.blocks if group > 1 else 1)  # of a panel that was not read before
        step, start = (FAR, START) if whole > t.l2 else (NEAR, START_NEAR)
        far = starts * start + first * step + again * FAR * (held > near(t))

    packing = 0.0
    if not in_place and j.packing:
        packing = whole / (j.size * j.lanes) * j.packing + 2 * whole * rate(t, whole, True)
        packing = packing if w.right == "alone" else packing / THREADS + BARRIER

    a = mine * height * j.depth
    left = a * j.size * (rate(t, a * j.size, True) + (groups - 1) * rate(t, a * j.size))
    if not j.in_place:
        ragged = j.upright and w.tile_by_tile
        left += a * groups / j.lanes * (RAGGED if ragged else 1) + mine * groups * j.blocks * height * SHORT * (
            not j.upright
        )

    c = calls * height * width * j.size
    direct = j.direct and j.columns % width == 0
    between = height * piece if w.tile_by_tile else c / groups if j.blocks > 1 else 0  # bytes of results that wait
    results = c * rate(t, c, True) + 2 * (j.blocks - 1) * c * rate(t, between)
    if not direct:
        results += calls * height * w.vectors * AROUND + height * ROW * (mine * groups if w.tile_by_tile else calls)
        results += 2 * c * rate(t, between)
    return max(products, read) + far + packing + left + results


def near(t: Target) -> float:
    """Bytes that the second cache keeps beside the rest."""
    return 0.8 * t.l2


def rate(t: Target, size: float, new: bool = False) -> float:
    """Cycles for each byte that is read in turn of so many; what is new is not in the first cache."""
    if size <= t.l1 and not new:
        return 0.0
    levels = zip((near(t), t.l3), t.bytes, strict=False)
    return 1 / next((b for held, b in levels if size <= held), t.bytes[-1])
