"""The recipe of filters by Winograd's minimal filtering (`minimal.py` has the formulas and what they fit).

With many channels `*` is so many products of matrices, (tiles, channels) times (channels, columns):

    filtering     the filter is transformed; blocks of tiles are transformed, multiplied, and transformed back as they are
                  stored
    learning      the gradient of the filter: blocks of tiles of the image and of the results are transformed and
                  multiplied; the sums are transformed back at the end

What is between lies in the memory of one thread and does not leave its second cache. Transforms are expressions, so what
is fused with a convolution is fused with this one, and the order of additions depends on sizes alone. What is not
finite may reach the other results of its 2x2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.contraction import Scratch, in_memory_order, opened_read
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import Kernel, Store, Target, loads, stride
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.microkernel import Tile
from tinyflow.compiler.minimal import Form, both, count, form_of, number, pays
from tinyflow.core import expr
from tinyflow.core.dtypes import float32
from tinyflow.core.expr import Expr, Index, Index_, const
from tinyflow.graph.node import Node
from tinyflow.ops import rules
from tinyflow.ops.contraction import Spec
from tinyflow.ops.movement import flatten, split
from tinyflow.runtime import target as targets

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

BLOCK = 512 * 1024  # bytes of a block of transformed tiles, which stay in the second cache
MOST = 4  # micro-kernels, one under the other, in a block
DEEP = 32, 128  # the least and the most tiles that are summed over at once
ALONE = 5 << 20  # bytes of a filter that each thread transforms for itself
EVEN = 4  # blocks come in multiples of this, so that threads have as many

Homes = Mapping[Node, Sequence[Target]]
Letters = dict[str, Index_]
Square = Sequence[Sequence[Expr]]


@dataclass(frozen=True, eq=False)
class Products:
    """What both recipes know: how tiles are transformed, and what the micro-kernel is called with."""

    spec: Spec
    count: int  # of products: 16 for a filter of 3x3
    sizes: tuple[int, int, int]  # tiles, channels, columns
    block: int  # most tiles of a block
    tile: Index  # the tile's number
    local: Index  # in its block
    channel: Index
    panel: Index
    column: Index
    like: Tile
    image: tuple[Store, ...]  # transformed
    tiles: Scratch  # [product][tile][channel], a block
    where: tuple[
        tuple[Expr, ...], ...
    ]  # what must hold for the stores of each place of the results, where sizes are odd
    written: tuple[Scratch, ...]

    @property
    def width(self) -> int:
        return self.like.width

    @property
    def panels(self) -> int:
        return number(self.panel.extent)

    @property
    def flops(self) -> int:
        """Of the plain formula: what is left out counts as done."""
        return 2 * count(self.spec, tuple(self.spec.size))

    def groups(self, kernel: Kernel) -> list[tuple[tuple[Expr, ...], tuple[Store, ...]]]:
        """The stores of each place of the results, and where they are done."""
        each = len(kernel.stores) // len(self.where)
        return [(w, kernel.stores[k * each : (k + 1) * each]) for k, w in enumerate(self.where)]

    def __str__(self) -> str:
        t, c, n = self.sizes
        how = f"{self.count} products of {t} tiles, {c} channels, {n} columns, in blocks of {self.block} tiles"
        return f"{type(self).__name__.lower()} {self.spec}: {how}"


@dataclass(frozen=True, eq=False)
class Filtering(Products):
    """Tiles times the filter."""

    filter: Scratch  # [panel][product][channel][column of the panel]
    products: Scratch  # [product][tile][column of the panel], of a block
    packing: Kernel | None  # done by each thread for itself

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.winograd_loops import emit_filtering

        return emit_filtering(em, kernel, self)


@dataclass(frozen=True, eq=False)
class Learning(Products):
    """Tiles of the image times tiles of the results' gradient, summed over all of them."""

    part: Index  # a tile of rows: of channels
    row: Index  # in it
    results: tuple[Store, ...]  # transformed
    right: Scratch  # [product][panel][tile][column of the panel], a block
    sums: Scratch  # [tile of rows][panel][product][row][column of the panel]; of one at a time where there is one block

    @property
    def whole(self) -> bool:
        """Whether all tiles are one block."""
        return self.block == self.sizes[0]

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.winograd_loops import emit_learning

        return emit_learning(em, kernel, self)


# ------------------------------------------------------------------------------------------ reading


class Reading(NamedTuple):
    """How the operands are read, tile by tile."""

    form: Form
    spec: Spec
    core: Node
    scope: Scope
    sizes: tuple[int, int, int]
    tile: Index
    channel: Index
    column: Index
    letters: Letters  # of images, channels and columns; and the tile's place, in steps of two

    def at(self, u: int, v: int) -> Letters:
        """The letters at one place of a tile."""
        found = self.letters
        return found | {x: expr.add(expr.mul(found[x], 2), k) for x, k in zip(self.form.places, (u, v), strict=True)}

    def tap(self, i: int, j: int) -> Letters:
        """The letters of a tap, counted the way the image is."""
        last = self.form.transforms.taps - 1
        return {x: last - k if f else k for x, k, f in zip(self.form.taps, (i, j), self.form.flipped, strict=True)}

    def inside(self, u: int, v: int) -> tuple[Expr, ...]:
        """What must hold for a place to be one, where sizes are odd."""
        at = self.at(u, v)
        edges = [(at[x], number(self.spec.size[x])) for x, k in zip(self.form.places, (u, v), strict=True) if k]
        return tuple(rules.less(expr.as_expr(i), expr.as_expr(n)) for i, n in edges if n % 2)

    def read(self, operand: int, letters: Letters) -> Expr:
        reader = Reader(self.core.inputs[operand], self.scope, self.core)
        return opened_read(reader, self.spec.operands[operand], letters)

    def image(self, u: int, v: int) -> Expr:
        return self.read(self.form.a, self.at(u, v) | self.tap(0, 0))

    def filter(self, i: int, j: int) -> Expr:
        return self.read(self.form.b, self.letters | self.tap(i, j))

    def result(self, u: int, v: int) -> Expr:
        return rules.guard(rules.both(*self.inside(u, v)), self.read(self.form.b, self.at(u, v)), const(0.0, float32))


class Panels(NamedTuple):
    """How columns are cut."""

    like: Tile
    panel: Index
    j: Index  # a column of the panel

    def reading(self, r: Reading) -> Reading:
        """For a column of a panel."""
        return r._replace(letters=r.letters | numbered(r.spec, r.form.columns, self.here))

    @property
    def here(self) -> Expr:
        return expr.as_expr(expr.add(expr.mul(self.panel, self.like.width), self.j))

    def cut(self, square: Square, columns: int) -> Square:
        """Zero after the last column."""
        if columns % self.like.width == 0:
            return square
        test, zero = rules.less(self.here, expr.as_expr(columns)), const(0.0, float32)
        return [[rules.guard(test, e, zero) for e in line] for line in square]


def numbered(spec: Spec, names: Sequence[str], i: Index_) -> Letters:
    """What letters are at a number of theirs together."""
    return dict(zip(names, split(i, tuple(spec.size[x] for x in names)), strict=True))


def panels_of(columns: int) -> Panels:
    target = targets.current()
    (height, vectors), lanes = target.tile(float32), target.lanes(float32)
    like = Tile(height, min(vectors, -(-columns // lanes)), lanes, float32, None, None)
    return Panels(like, expr.index(-(-columns // like.width), "panel"), expr.index(like.width, "column"))


def apart(n: int) -> int:
    """From one product to the next: not a multiple of a page, or all would fall into one set of the cache."""
    return n + 2 * targets.current().lanes(float32)


def blocks(n: int, most: int) -> int:
    """How many blocks of so many at most: a multiple of EVEN, so that threads have as much to do."""
    found = -(-n // most)
    return -(-found // EVEN) * EVEN if n >= EVEN else found


# ------------------------------------------------------------------------------------------ lowering


def lower(group: Group, buffered: Buffers, homes: Homes, name: str) -> list[Kernel] | None:
    """None where the plain recipe is to do it."""
    core = group.core
    assert core is not None
    form, spec = form_of(core), core.attrs["spec"]
    if form is None or not pays(form, spec, targets.current().lanes(float32)):
        return None
    h, w = (-(-number(spec.size[x]) // 2) for x in form.places)
    sizes = count(spec, form.images) * h * w, count(spec, form.channels), count(spec, form.columns)
    tile, channel, column = (expr.index(n, x) for n, x in zip(sizes, ("tile", "channel", "column"), strict=True))
    images = tuple(spec.size[x] for x in form.images)
    letters = dict(zip(form.images + form.places, split(tile, (*images, h, w)), strict=True))
    letters |= numbered(spec, form.channels, channel) | numbered(spec, form.columns, column)
    r = Reading(form, spec, core, Scope(buffered, {}, core.ndim), sizes, tile, channel, column, letters)
    image = both(form.transforms.image, r.image, form.transforms.taps + 1)
    along = all(stride(x.offset, channel) == 1 for line in image for e in line for x in loads(e))
    if r.scope.checks or not along:
        return None
    kernels = (learning if form.gradient else filtering)(r, image, group, homes, name)
    return None if r.scope.checks else kernels


def filtering(r: Reading, image: Square, group: Group, homes: Homes, name: str) -> list[Kernel]:
    core, transforms = r.core, r.form.transforms
    tiles, channels, columns = r.sizes
    p = panels_of(columns)
    width, height, n = p.like.width, p.like.rows, transforms.products**2
    tall = min(max(BLOCK // (4 * n * height * (channels + width)), 1), MOST)
    block = -(-tiles // blocks(tiles, height * tall))
    local, deep = expr.index(block, "local"), apart(channels * width)

    size = 4 * n * number(p.panel.extent) * deep
    lasting = core.inputs[r.form.b] in r.scope.buffered.lasting
    # What does not change is transformed once: for all steps of a loop, for all runs.
    own = size <= ALONE and not r.scope.buffered.repeated and not lasting
    packed = Scratch(f"filter of {core.label}", size, per_thread=own)
    one = p.reading(r)
    square = p.cut(both(transforms.filter, one.filter, transforms.taps), columns)
    at = expr.add(expr.mul(p.panel, n * deep), flatten((r.channel, p.j), (channels, width)))
    stores = into(packed, square, deep, at, p.j)
    rows = tuple(in_memory_order([p.panel, r.channel], one.filter(0, 0)))
    packing = Kernel(f"{name}p", rows, stores, (), n * channels * columns, None, group.conditions, (core,))  # fmt: skip

    products = Scratch(f"products of {core.label}", 4 * n * block * width, per_thread=True)
    at = expr.add(flatten((local, r.column), (block, width)), expr.mul(p.panel, -width))
    square = back(products, transforms.results, transforms.products, block * width, at)
    results = [(r.at(u, v), square[u][v]) for u, v in product(range(2), repeat=2)]
    after = stored(r, results, group, homes)
    shared = known(r, p, image, block, local)
    recipe = Filtering(
        **shared,
        where=tuple(r.inside(u, v) for u, v in product(range(2), repeat=2)),
        written=(shared["tiles"], products, *([packed] if own else [])),
        filter=packed,
        products=products,
        packing=packing if own else None,
    )
    main = Kernel(name, (), after, (), n * tiles * channels * columns // 4, recipe, group.conditions, tuple(group.stores))  # fmt: skip
    return [main] if own else [replace(packing, lasting=lasting), main]


def learning(r: Reading, image: Square, group: Group, homes: Homes, name: str) -> list[Kernel]:
    core, transforms = r.core, r.form.transforms
    tiles, channels, columns = r.sizes
    p = panels_of(columns)
    width, panels, n = p.like.width, number(p.panel.extent), transforms.products**2
    least, most = DEEP
    block = min(max(BLOCK // (4 * n * (columns + channels // 2)), least), most)
    block = -(-tiles // (1 if tiles <= most else -(-tiles // block)))
    rows = blocks(channels, p.like.rows)
    tall = -(-channels // rows)
    local, part, row = expr.index(block, "local"), expr.index(rows, "part"), expr.index(tall, "row")

    right = Scratch(f"results of {core.label}", 4 * n * apart(panels * block * width), per_thread=True)
    square = p.cut(both(transforms.of_results, p.reading(r).result, 2), columns)
    at = flatten((p.panel, local, p.j), (panels, block, width))
    of_results = into(right, square, apart(panels * block * width), at, p.j)

    whole = block == tiles
    sums = Scratch(f"sums of {core.label}", 4 * n * tall * width * (1 if whole else rows * panels), per_thread=whole)
    chunk = 0 if whole else flatten((part, p.panel), (rows, panels))
    at = expr.add(expr.add(flatten((chunk, 0, row), (rows * panels, n, tall)) * width, r.column), p.panel * -width)
    square = back(sums, transforms.to_filter, transforms.products, tall * width, at)
    taps = tuple(product(range(transforms.taps), repeat=2))
    after = stored(r, [(r.letters | r.tap(u, v), square[u][v]) for u, v in taps], group, homes)
    shared = known(r, p, image, block, local)
    recipe = Learning(
        **shared,
        where=((),) * len(taps),
        written=(shared["tiles"], right, sums),
        part=part,
        row=row,
        results=of_results,
        right=right,
        sums=sums,
    )
    cost = n * tiles * channels * columns // 4
    return [Kernel(name, (), after, (), cost, recipe, group.conditions, tuple(group.stores))]


def known(r: Reading, p: Panels, image: Square, block: int, local: Index) -> dict[str, Any]:
    """What both recipes know. The image is transformed into the memory of a block of tiles."""
    channels, n = r.sizes[1], r.form.transforms.products**2
    line = apart(block * channels)
    tiles = Scratch(f"tiles of {r.core.label}", 4 * n * line, per_thread=True)
    stores = into(tiles, image, line, flatten((local, r.channel), (block, channels)), r.channel)
    return dict(
        spec=r.spec, count=n, sizes=r.sizes, block=block, tile=r.tile, local=local, channel=r.channel, panel=p.panel,
        column=r.column, like=p.like, image=stores, tiles=tiles,
    )  # fmt: skip


def into(scratch: Scratch, square: Square, line: int, at: Index_, lane: Index) -> tuple[Store, ...]:
    """The values of a transformed square, each to the memory of its product."""
    home = Target(scratch, "own", float32)
    values = [e for each in square for e in each]
    return tuple(Store(home, (lane,), expr.add(at, k * line), e, lane) for k, e in enumerate(values))


def back(scratch: Scratch, transform: object, n: int, line: int, at: Index_) -> list[list[Expr]]:
    """What the products come to."""
    made = [expr.load(scratch, expr.add(at, k * line), float32) for k in range(n * n)]
    return both(transform, lambda u, v: made[n * u + v], n)  # type: ignore[arg-type]


def stored(r: Reading, results: Sequence[tuple[Letters, Expr]], group: Group, homes: Homes) -> tuple[Store, ...]:
    """What is made of each result, at the letters that it has."""
    core, scope = r.core, r.scope
    scope.group = set(group.stores)
    stores = []
    for letters, result in results:
        scope.replaced[core] = lambda _, result=result: result
        index = tuple(letters[x] for x in r.spec.out)
        for s in group.stores:
            value = expr.as_expr(expr.opened(scope.read(s, index)))
            stores += [Store(t, (), t.place(index, core.shape), value, r.column) for t in homes[s]]
    return tuple(stores)
