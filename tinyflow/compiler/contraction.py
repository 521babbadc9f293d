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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyflow.compiler import borders, cost, transpose
from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.cost import Job
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import Kernel, Store, Target, loads, show, stride
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.microkernel import Tile
from tinyflow.core import expr
from tinyflow.core.dtypes import DType
from tinyflow.core.expr import Expr, Index, Index_, Load
from tinyflow.graph.node import Node
from tinyflow.ops import contraction as ops
from tinyflow.ops import rules
from tinyflow.ops.contraction import Spec
from tinyflow.ops.movement import flatten, split
from tinyflow.ops.rules import guard
from tinyflow.runtime import target as targets
from tinyflow.runtime.items import Slot

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

K_BLOCK = 384  # a panel of so many rows and a tile of A stay in the first cache; half and twice of it gained nothing
RUN_STAYS = 256 * 1024  # bytes of a run of rows that it keeps beside the panels
GUESS = 512  # for a size that is known only when running
PAGE = 4096  # bytes


class Roles(NamedTuple):
    """Which operand is which, and what its letters are for."""

    a: int
    b: int
    batch: tuple[str, ...]
    m: tuple[str, ...]
    n: tuple[str, ...]
    k: tuple[str, ...]


def roles(spec: Spec) -> Roles | None:
    """None where the spec is not a product of two operands with rows and columns of its own."""
    if len(spec.operands) != 2 or not spec.out:
        return None
    has = [{a for p in places for a, _ in p.terms} for places in spec.operands]
    last = next((a for a in reversed(spec.out) if a not in has[0] & has[1]), None)
    if last is None:
        return None
    b = 0 if last in has[0] else 1
    a = 1 - b
    batch = tuple(x for x in spec.out if x in has[0] and x in has[1])
    m, n = tuple(x for x in spec.out if x in has[a] - has[b]), tuple(x for x in spec.out if x in has[b] - has[a])
    k = tuple(
        sorted(spec.folded, key=lambda x: isinstance(spec.size[x], int))
    )  # a size known only when running comes first
    return Roles(a, b, batch, m, n, k)


def extent(spec: Spec, letters: Sequence[str]) -> Index_:
    return expr.product(spec.size[a] for a in letters)


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
class Scratch:
    """Memory that only the kernels of one contraction use."""

    label: str
    size: Index_  # bytes
    per_thread: bool = False

    def slot(self) -> Slot:
        return Slot("temp", self.size, self.per_thread, self.label)


# ------------------------------------------------------------------------------------------ lowering


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


class Left(NamedTuple):
    """The left operand, and how the places of a tile are numbered."""

    roles: Roles
    indices: tuple[Index, Index, Index, Index]  # batch, run, row of the run, column
    letters: dict[str, Index_]  # what each letter is, of these and of K
    k: tuple[Index, ...]
    a: Expr
    tests: tuple[Expr, ...]  # where these do not hold, A is zero
    around: borders.Border | None
    upright: bool  # whether rows are neighbours in memory


def left_operand(core: Node, spec: Spec, found: Roles, scope: Scope, height: int) -> Left:
    """Runs are the places of an image, where its border is worth it, else rows that lie in one piece, else all of M is one."""

    def read(letters: Mapping[str, Index_]) -> Expr:
        return opened_read(Reader(core.inputs[found.a], scope, core), spec.operands[found.a], letters)

    k, letters = summed(spec, found)
    around = borders.border(spec, found, core.inputs[found.a].shape, height)
    upright = 0 if around else upright_letters(spec, found, read, letters, k, height)
    if not around and not upright and not spec.plain:
        found = found._replace(k=in_steps(spec, found, read, letters))
        k, letters = summed(spec, found)
    cut = len(found.m) - (upright or len(found.m))
    rows = around.together if around else extent(spec, found.m[cut:])
    runs = expr.floordiv(extent(spec, found.m), rows) if around else extent(spec, found.m[:cut])
    batch, run = expr.index(extent(spec, found.batch), "batch"), expr.index(runs, "run")
    row, column = expr.index(rows, "row"), expr.index(extent(spec, found.n), "column")
    numbers: list[tuple[Sequence[str], Index_]] = [(found.batch, batch), (found.n, column)]
    if around:
        which, place = around.of_run(run, spec)
        numbers += [(around.places, place), (around.images, which * around.together + row)]
    else:
        numbers += [(found.m[:cut], run), (found.m[cut:], row)]
    for names, i in numbers:
        letters.update(zip(names, split(i, tuple(spec.size[x] for x in names)), strict=True))
    tests, a = borders.tests(read(letters)) if around else ((), read(letters))
    return Left(found, (batch, run, row, column), letters, k, a, tests, around, bool(upright))


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
    index = tuple(left.letters[x] for x in spec.out)
    scope.group, scope.replaced[core] = set(group.stores), lambda _: result
    stores = []
    for s in group.stores:
        place = index if s.shape == core.shape else tuple(split(flatten(index, core.shape), s.shape))
        value = expr.as_expr(expr.opened(scope.read(s, place)))
        stores += [Store(t, (), t.place(index, core.shape), value, column) for t in homes[s]]

    a, k = left.a, left.k
    still = None if left.around else flat_strides(a, row, k)
    across = lanes_of(still, sizes, lanes) if not spec.pairs else "columns"
    inplace = still is not None and (across != "columns" or not clash(still.rows, dtype))
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


class Right(NamedTuple):
    """The right operand, and what it takes to use it."""

    b: Expr  # at batch, column and `row`, a number of K
    row: Index
    line: int  # elements from row to row where it may be read in place, else 0
    packing: float  # cycles of a vector
    checked: bool  # whether it has indices that are checked


def right_in_place(core: Node, spec: Spec, left: Left, depth: Index_, buffered: Buffers, lanes: int) -> Right:
    scope, column, k = Scope(buffered, {}, core.ndim), left.indices[3], left.k
    b = opened_read(Reader(core.inputs[left.roles.b], scope, core), spec.operands[left.roles.b], left.letters)
    row = expr.index(depth, "k")
    flat = expr.as_expr(expr.substitute(b, dict(zip(k, split(row, tuple(i.extent for i in k)), strict=True))))
    line, packing = 0, cost.COMPUTED
    if isinstance(b, Load) and isinstance(flat, Load):
        step = stride(flat.offset, row)
        straight = stride(flat.offset, column) == 1
        if straight and isinstance(step, int) and b.dtype is core.dtype.computed:
            line = step
        packing = cost.COPIED if straight else cost.TURNED if transpose.line_of(b, k, column, lanes) else packing
    return Right(flat, row, line, packing, bool(scope.checks))


def guess(n: Index_) -> int:
    return n if isinstance(n, int) else GUESS


def whole_vectors(n: int, lanes: int) -> int:
    return -(-n // lanes) * lanes


def ceil_div(n: Index_, by: int) -> Index_:
    return expr.floordiv(n + (by - 1), by)


def in_memory_order(indices: list[Index], value: Expr) -> list[Index]:
    """Loops over what a value reads, so that it is read once from one end to the other, as far as that can be told."""
    read = loads(value)

    def step(i: Index) -> int:
        found = [stride(x.offset, i) for x in read]
        return -max((s for s in found if isinstance(s, int)), default=0) if None not in found else 0

    return sorted(indices, key=step) if len(read) == 1 else indices


def opened_read(x: Reader, positions: Sequence[ops.Position], letters: Mapping[str, Index_]) -> Expr:
    return expr.as_expr(expr.opened(ops.read(x, positions, letters)))


def heights(m: Index_, most: int) -> tuple[int, ...]:
    """The tile heights for m rows: two that differ by one where m is known, else halves."""
    if isinstance(m, int):
        tiles = -(-m // most)
        return tuple(sorted({-(-m // tiles), m // tiles}, reverse=True))
    halves = [most]
    step = 1 << (most - 1).bit_length() - 1
    while step:
        halves.append(step)
        step //= 2
    return tuple(dict.fromkeys(halves))


def halves(m: Index_, most: int) -> tuple[int, ...]:
    """The heights that m rows are cut into, if the greatest that fits is taken each time."""
    assert isinstance(m, int)
    halved = [most >> k for k in range(most.bit_length())]
    return tuple(h for h in halved if (h == most and m >= h) or (h < most and m % most & h))


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


class Blocks(NamedTuple):
    """How K is cut: letters before `split` one value at a time, that letter by `step`, the `inner` values after it whole."""

    split: int
    step: int
    inner: int

    @property
    def most(self) -> int:
        return self.step * self.inner

    def one(self, k: Sequence[Index]) -> bool:
        """Whether all of K is one block."""
        first = k[0].extent
        return self.split == 0 and isinstance(first, int) and first <= self.step


def term_block(depth: int, row: int, room: int, lanes: int) -> int:
    """Terms of a block, whole vectors: blocks of about one size, so that a panel's rows of some bytes each fit the room."""
    count = -(-depth * row // room)
    return whole_vectors(-(-depth // count), lanes)


def blocks_of(k: Sequence[Index], first: int = 0) -> Blocks:
    """Blocks of about one size, of at most K_BLOCK values. Only letters after the `first` one are taken whole."""
    split, inner = len(k) - 1, 1
    while split > first and isinstance(n := k[split].extent, int) and n * inner <= K_BLOCK:
        split, inner = split - 1, n * inner
    n, step = k[split].extent, max(K_BLOCK // inner, 1)
    return Blocks(split, -(-n // -(-n // step)) if isinstance(n, int) else step, inner)


def upright_letters(
    spec: Spec,
    found: Roles,
    left: Callable[[Mapping[str, Index_]], Expr],
    letters: Mapping[str, Index_],
    k: Sequence[Index],
    height: int,
) -> int:
    """How many of the last letters of M number neighbours in A's memory; 0 where packing along them gains nothing."""
    rows = {x: expr.axis(spec.size[x], x) for x in (*found.batch, *found.m)}
    a = left({**letters, **rows})
    read = loads(a)
    if isinstance(a, Load) and not any(
        isinstance(i, Index) and stride(a.offset, i) is None for i in (*k, *rows.values())
    ):
        return 0  # it may be read in place
    count, size = 0, 1
    for x in reversed(found.m):
        i = rows[x]
        if isinstance(i, Index) and not all(stride(f.offset, i) == size for f in read):
            break
        count += 1
        if not isinstance(n := spec.size[x], int):
            break
        size *= n
    along = any(stride(f.offset, k[-1]) == 1 for f in read)
    return count if read and not along and size >= height // 2 else 0


def in_steps(
    spec: Spec, found: Roles, left: Callable[[Mapping[str, Index_]], Expr], letters: Mapping[str, Index_]
) -> tuple[str, ...]:
    """The letters summed over, those of longer steps in A's memory first, so that A is packed along neighbours; as they are
    where the last one numbers neighbours already, or none does."""
    read = loads(left({**letters, **{x: expr.axis(spec.size[x], x) for x in (*found.batch, *found.m)}}))
    if len(read) != 1:
        return found.k
    steps = {x: stride(read[0].offset, i) if isinstance(i := letters[x], Index) else 0 for x in found.k}
    if 1 not in steps.values() or steps[found.k[-1]] == 1:
        return found.k
    known = {x: step for x, step in steps.items() if isinstance(step, int)}
    return tuple(sorted(found.k, key=lambda x: -abs(known[x]))) if len(known) == len(steps) else found.k


def summed(spec: Spec, found: Roles) -> tuple[tuple[Index, ...], dict[str, Index_]]:
    """Indices for the letters summed over that have a choice, and what each letter is."""
    letters = {a: expr.axis(spec.size[a], a) for a in found.k}
    return tuple(k for k in letters.values() if isinstance(k, Index)), dict(letters)


class Strides(NamedTuple):
    """Of an operand that is a buffer read at strides that do not change: it need not be packed."""

    rows: Index_
    terms: Index_


def flat_strides(a: Expr, m: Index, k: Sequence[Index]) -> Strides | None:
    if not isinstance(a, Load):
        return None
    flat = expr.index(expr.product(i.extent for i in k), "k")
    offset = expr.substitute(a.offset, dict(zip(k, split(flat, tuple(i.extent for i in k)), strict=True)))
    rows, terms = stride(offset, m), stride(offset, flat)
    return None if rows is None or terms is None else Strides(rows, terms)


def clash(rows: Index_, dtype: DType) -> bool:
    """Whether rows lie a multiple of a page apart: they would drive each other out of the first cache."""
    return isinstance(rows, int) and rows != 0 and rows * dtype.size % PAGE == 0


def is_direct(stores: Sequence[Store], result: Expr, indices: Sequence[Index]) -> bool:
    """Whether tiles of whole panels can be written where they belong at once: they are the results themselves."""
    if len(stores) != 1 or stores[0].value is not result or stores[0].target.dtype.is_low:
        return False
    offset = stores[0].offset
    return stride(offset, indices[3]) == 1 and stride(offset, indices[2]) is not None


def pack(
    core: Node, found: Roles, spec: Spec, panels: Scratch, tile: Tile, buffered: Buffers, group: Group, name: str
) -> Kernel:
    """panels[batch][p][k][j] = B at column p*width + j; zero after the last column."""
    scope, columns, width = Scope(buffered, {}, core.ndim), extent(spec, found.n), tile.width
    b, p = expr.index(extent(spec, found.batch), "batch"), expr.index(ceil_div(columns, width), "panel")
    j, column = expr.index(width, "column"), expr.index(columns, "n")
    k = tuple(expr.index(spec.size[a], a) for a in found.k)
    plain = right_operand(core, found, spec, scope, b, k, column)
    value = expr.as_expr(expr.substitute(plain, {column: p * width + j}))
    if not (isinstance(columns, int) and columns % width == 0):
        value = within(p * width + j, columns, value)
    places = (b, p, *k)
    offset = flatten((*places, j), (*(i.extent for i in places), width))
    rows = (b, *in_memory_order([*k, p], value))  # reads whole lines of B, writes a piece of every panel
    work = expr.product(i.extent for i in (*rows, j))
    turn = None
    if line := transpose.line_of(plain, k, column, tile.lanes):
        length, rest = expr.index(expr.product(i.extent for i in line), "line"), tuple(i for i in k if i not in line)
        source = transpose.source_of(plain)
        turn = transpose.Turn(b, p, rest, length, line, column, source, columns, width, tile.lanes, core.dtype.computed)  # type: ignore[arg-type]
    store = Store(Target(panels, "own", core.dtype.computed), (j,), offset, value, j)
    return Kernel(name, rows, (store,), tuple(scope.checks), work, turn, group.conditions, (core,))


def pack_terms(
    core: Node, found: Roles, spec: Spec, panels: Scratch, tile: Tile, buffered: Buffers, group: Group, name: str
) -> Kernel:
    """panels[batch][k / lanes][j][k % lanes] = B at column j; zero after the last term."""
    scope, columns, depth = Scope(buffered, {}, core.ndim), extent(spec, found.n), extent(spec, found.k)
    b, j, flat = expr.index(extent(spec, found.batch), "batch"), expr.index(columns, "column"), expr.index(depth, "k")
    block, lane = expr.index(ceil_div(depth, tile.lanes), "block"), expr.index(tile.lanes, "term")
    k = split(flat, tuple(spec.size[a] for a in found.k))
    at = block * tile.lanes + lane
    value = expr.as_expr(expr.substitute(right_operand(core, found, spec, scope, b, k, j), {flat: at}))
    if depth % tile.lanes:
        value = within(at, depth, value)
    offset = flatten((b, block, j, lane), tuple(i.extent for i in (b, block, j, lane)))
    store = Store(Target(panels, "own", core.dtype.computed), (lane,), offset, value, lane)
    work = expr.product(i.extent for i in (b, block, j, lane))
    packing = Kernel(name, (b, block, j), (store,), tuple(scope.checks), work, None, group.conditions, (core,))
    return transpose.turned_copy(packing, tile.lanes * core.dtype.computed.size)


def right_operand(
    core: Node, found: Roles, spec: Spec, scope: Scope, b: Index_, k: Sequence[Index_], column: Index_
) -> Expr:
    """B at an entry of the batch, values of the letters of K, and a column."""
    letters: dict[str, Index_] = dict(zip(found.k, k, strict=True))
    letters.update(zip(found.batch, split(b, tuple(spec.size[a] for a in found.batch)), strict=True))
    letters.update(zip(found.n, split(column, tuple(spec.size[a] for a in found.n)), strict=True))
    return opened_read(Reader(core.inputs[found.b], scope, core), spec.operands[found.b], letters)


def within(at: Index_, end: Index_, value: Expr) -> Expr:
    """The value at places before the end, zero after."""
    return guard(rules.less(expr.as_expr(at), expr.as_expr(end)), value, expr.const(0, value.dtype))
