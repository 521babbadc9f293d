"""The recipe of contractions: matrix products, batched products and convolutions in one form.

    letters of a spec:    batch  in both operands and the output       M  in A and the output
                          K      summed over                           N  in B and the output; B has the output's last letter
    way                   which tile, which order of loops, and whether B is packed: what costs least (cost.py)
    pack                  B into panels [batch][panel][K][width], any producer computed on the way
    tiles                 for each group of panels, block of K, tile of rows, panel: the micro-kernel; after the last
                          block of K, what is made of the results while they are at hand. Or tiles go before blocks

Lanes are columns; of few columns, rows or terms of A, where those are neighbours in memory (microkernel.py).
A is read in place where it lies at fixed strides, else it is packed a tile at a time, in the thread's own memory: along K
or, where its neighbours in memory are neighbouring rows, along those. The order of additions depends on the sizes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tinyflow.compiler import cost
from tinyflow.compiler.blocks import Blocks, blocks_of, ceil_div, halves, heights, term_block, whole_vectors
from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.cost import Job
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import Kernel, Scratch, Store, Target, show, stride
from tinyflow.compiler.lower import Scope
from tinyflow.compiler.microkernel import Tile
from tinyflow.compiler.operands import (
    Right,
    Strides,
    clash,
    extent,
    flat_strides,
    left_operand,
    right_in_place,
    roles,
)
from tinyflow.compiler.panels import pack, pack_terms
from tinyflow.core import expr
from tinyflow.core.dtypes import DType
from tinyflow.core.expr import Expr, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.contraction import Spec
from tinyflow.ops.movement import flatten, split
from tinyflow.runtime import target as targets

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

RUN_STAYS = 256 * 1024  # bytes of a run of rows that it keeps beside the panels
GUESS = 512  # for a size that is known only when running


def has_recipe(n: Node) -> bool:
    """Whether a contraction is computed in tiles; the others are folds like any."""
    spec = n.attrs["spec"]
    found = roles(spec)
    if found is None or not n.dtype.is_floating:
        return False
    sizes = [extent(spec, x) for x in (found.m, found.n, found.k)]
    small = (isinstance(sizes[0], int) and sizes[0] < 2) or (isinstance(sizes[1], int) and sizes[1] < 2)
    tiny = all(isinstance(s, int) for s in sizes) and sizes[0] * sizes[1] * sizes[2] < 512  # type: ignore[operator]
    empty = any(isinstance(s, int) and s == 0 for s in (*sizes, extent(spec, found.batch)))
    open_sizes = sum(not isinstance(spec.size[x], int) for x in found.k)
    return sizes[2] != 1 and open_sizes <= 1 and not small and not tiny and not empty


@dataclass(frozen=True, eq=False)
class Tiles:
    """What the kernel of a contraction does, for `emit` to write down."""

    spec: Spec
    dtype: DType
    sizes: tuple[Index_, Index_, Index_, Index_]  # batch, M, N, K
    batch: Index
    run: Index  # M is runs of rows; no tile reaches over the end of its run
    m: Index  # the row in its run
    n: Index
    k: tuple[Index, ...]
    blocks: Blocks
    a: Expr  # at batch, run, m, k
    tests: tuple[Expr, ...]  # where these do not hold, A is zero: of batch, run and the letters of K up to the one cut
    result: Expr  # stands for the tile's results at batch, run, m, n
    panels: Scratch | None  # None: B is read in place
    vectors: int
    lanes: int
    rows: tuple[int, ...]  # the tile heights that are needed, greatest first
    direct: bool  # whether tiles are written where they belong at once
    group: int  # panels that a tile meets one after the other
    tile_by_tile: bool  # whether a tile goes through all of K before the next one, else all tiles through each block
    across: str = "columns"  # the lanes; or "rows", of tiles that have a vector of them, or "terms"
    right: Right | None = None  # B, where it is read in place
    local: Scratch | None = None
    upright: bool = False  # whether A is packed along its rows
    whole_runs: bool = False  # whether the rows of a run are packed together, when its first tile is due
    sums: Scratch | None = None
    packing: Kernel | None = None  # done by each thread for itself, before its tiles
    written: tuple[Any, ...] = field(default=())

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    @property
    def like(self) -> Tile:
        """The micro-kernel, but for its height and strides."""
        line = self.right.line if self.right else 0
        tile = Tile(
            self.rows[0], self.vectors, self.lanes, self.dtype, None, None, self.spec.pairs, self.across, line=line
        )
        return tile if self.across == "columns" else tile._replace(columns=self.n.extent)  # type: ignore[arg-type]

    def __str__(self) -> str:
        b, m, n, k = map(expr.show, self.sizes)
        how = "in place" if self.local is None else "packed by rows" if self.upright else "packed by tiles"
        text = f"contract {self.spec}: batch {b}, M {m}, N {n}, K {k}; tiles of {self.rows} x {self.width}{'' if self.across == 'columns' else f' with {self.across} in the lanes'}, A {how}: {expr.show(self.a)}"
        if self.right:
            text = f"{text}, B in place: {expr.show(self.right.b)}"
        return text if self.packing is None else f"{text}\neach thread for itself, {show(self.packing)}"

    @property
    def flops(self) -> Index_:
        return expr.mul(4 if self.spec.pairs else 2, expr.product(self.sizes))

    @property
    def panel_count(self) -> Index_:
        return ceil_div(self.sizes[2], self.width)

    @property
    def panel_width(self) -> int:
        """Elements of a panel for each of its rows."""
        return self.n.extent if self.across == "terms" else self.width  # type: ignore[return-value]

    @property
    def panel_depth(self) -> Index_:
        """Rows of a panel."""
        return whole_vectors(self.sizes[3], self.lanes) if self.across == "terms" else self.sizes[3]  # type: ignore[arg-type]

    @property
    def tiles_a_run(self) -> Index_:
        return ceil_div(self.m.extent, self.rows[0])

    @property
    def tile_count(self) -> Index_:
        """Row tiles of one batch entry."""
        return expr.mul(self.run.extent, self.tiles_a_run)

    @property
    def divides_rows(self) -> bool:
        """Whether threads divide rows, and not tiles of them."""
        return not isinstance(self.m.extent, int) and self.sizes[0] == self.run.extent == 1

    @property
    def packed_height(self) -> int:
        """Of a tile or a run that is packed by rows: whole vectors."""
        return whole_vectors(self.m.extent if self.whole_runs else self.rows[0], self.lanes)  # type: ignore[arg-type]

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.tiling import emit_tiles

        return emit_tiles(em, kernel, self)


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:
    """Two kernels: one packs the right operand, one computes tiles and all that is made of them."""
    core = group.core
    assert core is not None
    spec: Spec = core.attrs["spec"]
    found = roles(spec)
    assert found is not None
    target, dtype = targets.current(), core.dtype.computed
    lanes = target.lanes(dtype)
    sizes = (extent(spec, found.batch), extent(spec, found.m), extent(spec, found.n), extent(spec, found.k))
    columns, depth = sizes[2:]
    scope = Scope(buffered, {}, None)
    left = left_operand(core, spec, found, scope, target.tile(dtype)[0])
    found, (batch, run, row, column) = left.roles, left.indices

    result = expr.apply("result", *left.indices, dtype=dtype)
    stores = made_of(result, group, left.letters, column, scope, homes)
    a, k = left.a, left.k
    still = None if left.around else flat_strides(a, row, k)
    across = lanes_of(still, sizes, lanes) if not spec.pairs else "columns"
    inplace = still is not None and (across != "columns" or not (left.upright or clash(still.rows, dtype)))
    if inplace:
        flat = expr.index(depth, "k")
        a = expr.as_expr(expr.substitute(a, dict(zip(k, split(flat, tuple(i.extent for i in k)), strict=True))))
        k = (flat,)
    blocks = blocks_of(k, left.around.taps - 1 if left.around else 0)
    if across == "terms":
        blocks = Blocks(0, term_block(depth, columns * dtype.size, target.l1 // 2, lanes), 1)  # type: ignore[arg-type]

    lasting = core.inputs[found.b] in buffered.lasting
    right = right_in_place(core, spec, left, depth, buffered, lanes)
    once = buffered.repeated or lasting  # what does not change is packed once: for all steps of a loop, for all runs
    job = Job(
        batch=guess(sizes[0]),
        runs=guess(run.extent),
        rows=guess(row.extent),
        columns=guess(columns),
        depth=guess(depth),
        blocks=-(-guess(depth) // blocks.most),
        size=dtype.size,
        lanes=lanes,
        across=across,
        in_place=inplace,
        upright=left.upright,
        direct=is_direct(stores, result, left.indices),
        line=0 if spec.pairs else right.line,
        packing=0.0 if once else right.packing,
        alone=not once and not right.checked,  # a checked index is numbered by the kernel that it is in
        columns_known=isinstance(columns, int),
        depth_known=isinstance(depth, int),
    )
    way = cost.best(job, target)
    own, by_tile, together, vectors = way.right == "alone", way.tile_by_tile, way.group, way.vectors
    width = vectors * lanes
    direct = job.direct and isinstance(columns, int) and columns % width == 0
    rows = halves(row.extent, way.height) if across == "rows" else heights(row.extent, way.height)

    packing, panels = None, None
    if way.right != "in place":
        length: tuple[Index_, ...] = (ceil_div(columns, width), depth, width)
        if across == "terms":
            length = (columns, whole_vectors(depth, lanes))  # type: ignore[arg-type]
        panels = Scratch(f"panels of {core.label}", expr.product((sizes[0], *length, dtype.size)), per_thread=own)
        tile = Tile(way.height, vectors, lanes, dtype, None, None, across=across)
        packed = pack_terms if across == "terms" else pack
        packing = packed(core, found, spec, panels, tile, buffered, group, f"{name}p")

    packed_rows, whole_runs = rows[0], False
    if left.upright:
        n = row.extent
        whole_runs = not by_tile and isinstance(n, int) and n * blocks.most * dtype.size <= RUN_STAYS
        packed_rows = whole_vectors(n if whole_runs else rows[0], lanes)  # type: ignore[arg-type]
    local = None
    if not inplace:
        local = Scratch(f"rows of {core.label}", packed_rows * blocks.most * dtype.size, per_thread=True)
    kept = expr.product((sizes[0], sizes[1], ceil_div(columns, width) * width, dtype.size))
    kept = rows[0] * together * width * dtype.size if by_tile else kept
    added = not direct and (by_tile or not blocks.one(k))
    sums = Scratch(f"sums of {core.label}", kept, per_thread=by_tile) if added else None
    tiles = Tiles(
        spec=spec,
        dtype=dtype,
        sizes=sizes,
        batch=batch,
        run=run,
        m=row,
        n=column,
        k=k,
        blocks=blocks,
        a=a,
        tests=left.tests,
        result=result,
        panels=panels,
        vectors=vectors,
        lanes=lanes,
        rows=rows,
        direct=direct,
        group=together,
        tile_by_tile=by_tile,
        across=across,
        right=right if packing is None else None,
        local=local,
        upright=left.upright,
        whole_runs=whole_runs,
        sums=sums,
        packing=packing if own else None,
        written=tuple(x for x in (local, sums, panels if own else None) if x is not None),
    )
    work = expr.floordiv(expr.product(sizes), 4) + 1
    main = Kernel(name, (), tuple(stores), tuple(scope.checks), work, tiles, group.conditions, tuple(group.stores))
    return [main] if packing is None or own else [replace(packing, lasting=lasting), main]


def made_of(
    result: Expr,
    group: Group,
    letters: Mapping[str, Index_],
    column: Index,
    scope: Scope,
    homes: Mapping[Node, Sequence[Target]],
) -> list[Store]:
    """What is made of a result at these letters."""
    core = group.core
    assert core is not None
    index = tuple(letters[x] for x in core.attrs["spec"].out)
    scope.group, scope.replaced[core] = set(group.stores), lambda _: result
    stores = []
    for s in group.stores:
        place = index if s.shape == core.shape else tuple(split(flatten(index, core.shape), s.shape))
        value = expr.as_expr(expr.opened(scope.read(s, place)))
        stores += [Store(t, (), t.place(index, core.shape), value, column) for t in homes[s]]
    return stores


def guess(n: Index_) -> int:
    return n if isinstance(n, int) else GUESS


def lanes_of(still: Strides | None, sizes: Sequence[Index_], lanes: int) -> str:
    """What the lanes of a tile are: columns, or rows or terms of the left operand, where columns are few and those are
    neighbours in memory. To add up a vector for each result takes as long as many terms do. Both are measured, and not
    weighed with the other ways (cost.py): terms are added in another order."""
    _, m, columns, depth = sizes
    if still is None or not isinstance(columns, int) or columns > lanes * 3 // 4:
        return "columns"
    if still.rows == 1 and isinstance(m, int) and m >= lanes:
        return "rows"
    long = isinstance(depth, int) and depth * (lanes - columns) > 3 * lanes * lanes
    return "terms" if still.terms == 1 and long else "columns"


def is_direct(stores: Sequence[Store], result: Expr, indices: Sequence[Index]) -> bool:
    """Whether tiles of whole panels can be written where they belong at once: they are the results themselves."""
    if len(stores) != 1 or stores[0].value is not result or stores[0].target.dtype.is_low:
        return False
    offset = stores[0].offset
    return stride(offset, indices[3]) == 1 and stride(offset, indices[2]) is not None
