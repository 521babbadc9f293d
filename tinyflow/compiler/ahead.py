"""What the epilogue of a tile will touch is asked for while the tile is computed, so that memory and arithmetic overlap.

The update of a weight reads and writes seven matrices beside the tile of its gradient. Without this they would be
waited for after each tile, when the units of arithmetic have nothing to do. Attention asks for its next head so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tinyflow.compiler.loops import Store, free, loads, stride
from tinyflow.compiler.phrases import add
from tinyflow.core import expr
from tinyflow.core.dtypes import DType, int64
from tinyflow.core.expr import Index_

if TYPE_CHECKING:
    from tinyflow.compiler.contraction import Tiles
    from tinyflow.compiler.emit import Emitter
    from tinyflow.compiler.tiling import Rows
    from tinyflow.compiler.writer import Value

LINE = 64  # bytes of a line of a cache
READ = 3  # matrices: one or two come by themselves, as soon as the processor sees them read in lines
RESULTS, PRODUCTS = 1 << 16, 64  # from so many results on, of so many products each


class Place(NamedTuple):
    """What is read or written: by an epilogue, at batch, run, m, n."""

    buffer: object
    offset: Index_
    dtype: DType
    written: bool


def touched(stores: Sequence[Store], t: Tiles) -> list[Place]:
    """The matrices that are touched in rows, where many are read, they are large and there is time to bring them in."""
    results, products = expr.product(t.sizes[:3]), t.sizes[3]
    if (isinstance(results, int) and results < RESULTS) or (isinstance(products, int) and products < PRODUCTS):
        return []

    def in_rows(offset: Index_) -> bool:
        here = free(offset) <= {t.batch, t.run, t.m, t.n}
        return here and stride(offset, t.n) == 1 and stride(offset, t.m) not in (0, None)

    found: dict[object, Place] = {}
    for x in (x for s in stores for x in loads(s.value) if in_rows(x.offset)):
        found[x.buffer, x.offset] = Place(x.buffer, x.offset, x.dtype, False)
    if len(found) < READ:
        return []
    for s in stores:  # a variable is most often written where it was read
        if in_rows(s.offset):
            found[s.target.node, s.offset] = Place(s.target.key, s.offset, s.target.dtype, True)
    return list(found.values())


def fetch(em: Emitter, t: Tiles, places: Sequence[Place], rows: Rows, column: Value) -> None:
    """The rows of a tile, a panel's width from a column on."""
    from tinyflow.compiler.writer import Value

    with em.counting("0", rows.height.name) as r:
        em.env[t.m] = add(em, rows.start, r)
        for x in places:
            for first in range(0, t.width, LINE // x.dtype.size):
                em.env[t.n] = add(em, column, Value(str(first), int64, False))
                ask(em, x)
        del em.env[t.m], em.env[t.n]


def ask(em: Emitter, x: Place) -> None:
    """For one line, to come as far as the second cache. There may be nothing in that place."""
    em.declared["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"] = None
    with em.scope():
        p = em.pointer(x.buffer, x.offset, x.dtype)
        em.line(f"call void @llvm.prefetch.p0(ptr {p}, i32 {int(x.written)}, i32 2, i32 1)")
