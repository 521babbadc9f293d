"""The recipe of filters by Winograd's minimal filtering (`minimal.py` has the formulas and what they fit).

With many channels `*` is so many products of matrices, (tiles, channels) times (channels, columns), for each group:

    filtering     the filter is transformed; blocks of tiles are transformed, multiplied, and transformed back as they are
                  stored
    learning      the gradient of the filter: blocks of tiles of the image and of the results are transformed and
                  multiplied; the sums are transformed back at the end

What is between lies in the memory of one thread and does not leave its second cache. Transforms are expressions, so what
is fused with a convolution is fused with this one, and the order of additions depends on sizes alone. What is not
finite may reach the other results of its 2x2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import Kernel, Scratch, Store, Target, loads, stride
from tinyflow.compiler.lower import Scope
from tinyflow.compiler.microkernel import Tile
from tinyflow.compiler.minimal import Line, count, form_of, number, pays
from tinyflow.compiler.panels import in_memory_order
from tinyflow.compiler.winograd_reading import EVEN, Letters, Panels, Reading, apart, blocks, numbered, panels_of
from tinyflow.core import expr
from tinyflow.core.dtypes import float32
from tinyflow.core.expr import Expr, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.contraction import Spec
from tinyflow.ops.movement import flatten, split
from tinyflow.runtime import target as targets

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

BLOCK = 512 * 1024  # bytes of a block of transformed tiles, which stay in the second cache
MOST = 4  # micro-kernels, one under the other, in a block
DEEP = 32, 128  # the least and the most tiles that are summed over at once
ALONE = 5 << 20  # bytes of a filter that each thread transforms for itself

Homes = Mapping[Node, Sequence[Target]]


@dataclass(frozen=True, eq=False)
class Products:
    """What both recipes know: how tiles are transformed, and what the micro-kernel is called with."""

    spec: Spec
    count: int  # of products: 16 for a filter of 3x3
    sizes: tuple[int, int, int]  # tiles, channels, columns
    block: int  # most tiles of a block
    group: Index  # of the batch
    tile: Index  # the tile's number
    local: Index  # in its block
    channel: Index
    beside: Index  # what else there is of a window; for each of these there are
    last: Index  # so many channels
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

    @property
    def groups(self) -> int:
        return number(self.group.extent)

    def places(self, kernel: Kernel) -> list[tuple[tuple[Expr, ...], tuple[Store, ...]]]:
        """The stores of each place of the results, and where they are done."""
        each = len(kernel.stores) // len(self.where)
        return [(w, kernel.stores[k * each : (k + 1) * each]) for k, w in enumerate(self.where)]

    def __str__(self) -> str:
        t, c, n = self.sizes
        groups = f"{self.groups} groups of " * (self.groups > 1)
        how = f"{groups}{self.count} products of {t} tiles, {c} channels, {n} columns, in blocks of {self.block} tiles"
        return f"{type(self).__name__.lower()} {self.spec}: {how}"


@dataclass(frozen=True, eq=False)
class Filtering(Products):
    """Tiles times the filter."""

    filter: Scratch  # [group][panel][product][channel][column of the panel]
    products: Scratch  # [product][tile][column of the panel], of a block
    packing: Kernel | None  # done by each thread for itself

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.winograd_loops import emit_filtering

        return emit_filtering(em, kernel, self)


@dataclass(frozen=True, eq=False)
class Sharing(Products):
    """Tiles times a filter that is greater than they are: they are transformed once for all, and it panel by panel, by the
    thread that multiplies with that panel."""

    filter: Scratch  # [product][channel][column], of a panel
    products: Scratch  # as there
    transformed: tuple[Store, ...]  # the filter

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.winograd_loops import emit_sharing

        return emit_sharing(em, kernel, self)


@dataclass(frozen=True, eq=False)
class Learning(Products):
    """Tiles of the image times tiles of the results' gradient, summed over all of them."""

    part: Index  # a tile of rows: of channels
    row: Index  # in it
    results: tuple[Store, ...]  # transformed
    right: Scratch  # [product][panel][tile][column of the panel], a block
    sums: Scratch  # [group][tile of rows][panel][product][row][column of the panel]; of one at a time where there is one block

    @property
    def whole(self) -> bool:
        """Whether all tiles are one block."""
        return self.block == self.sizes[0]

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.winograd_loops import emit_learning

        return emit_learning(em, kernel, self)


# ------------------------------------------------------------------------------------------ lowering


def lower(group: Group, buffered: Buffers, homes: Homes, name: str) -> list[Kernel] | None:
    """None where the plain recipe is to do it."""
    core = group.core
    assert core is not None
    form, spec = form_of(core), core.attrs["spec"]
    if form is None or not pays(form, spec, targets.current().lanes(float32)):
        return None
    tiles = [x.tiles(number(spec.size[x.place])) for x in form.axes]
    channels = form.beside + form.channels
    sizes = count(spec, form.images) * math.prod(tiles), count(spec, channels), count(spec, form.columns)
    tile, channel, column = (expr.index(n, x) for n, x in zip(sizes, ("tile", "channel", "column"), strict=True))
    one = expr.index(count(spec, form.batch), "group")
    at = split(tile, (*(spec.size[x] for x in form.images), *tiles))
    letters = dict(zip(form.images, at, strict=False))
    for x, k in zip(form.axes, at[len(form.images) :], strict=True):
        letters[x.place] = expr.add(expr.mul(expr.floordiv(k, x.apart), 2 * x.apart), expr.mod(k, x.apart))
    for names, i in ((form.batch, one), (channels, channel), (form.columns, column)):
        letters |= numbered(spec, names, i)
    r = Reading(form, spec, core, Scope(buffered, {}, core.ndim), sizes, one, tile, channel, column, letters)
    beside, last = expr.index(count(spec, form.beside), "beside"), expr.index(count(spec, form.channels), "channel")
    image = r._replace(letters=letters | numbered(spec, form.beside, beside) | numbered(spec, form.channels, last))
    values = image.by("image", [x.transforms.places for x in form.axes], image.image)
    along = all(stride(x.offset, last) == 1 for e in values for x in loads(e))
    if r.scope.checks or not along:
        return None
    kernels = (learning if form.gradient else filtering)(r, Image(beside, last, values), group, homes, name)
    return None if r.scope.checks else kernels


class Image(NamedTuple):
    """A tile, transformed: channels are numbered in two parts, the last in lanes."""

    beside: Index
    last: Index
    values: Line


def filtering(r: Reading, image: Image, group: Group, homes: Homes, name: str) -> list[Kernel]:
    core, form = r.core, r.form
    tiles, channels, columns = r.sizes
    p = panels_of(columns)
    width, height, n, panels = p.like.width, p.like.rows, math.prod(r.products), number(p.panel.extent)
    tall = min(max(BLOCK // (4 * n * height * (channels + width)), 1), MOST)
    block = -(-tiles // blocks(tiles, height * tall))
    local, deep = expr.index(block, "local"), apart(channels * width)

    groups = number(r.group.extent)
    size = 4 * n * groups * panels * deep
    lasting = core.inputs[form.b] in r.scope.buffered.lasting
    # What does not change is transformed once: for all steps of a loop, for all runs.
    once = r.scope.buffered.repeated or lasting
    own = size <= ALONE and not once
    if not own and not once and tiles <= columns and groups * panels % EVEN == 0:
        return sharing(r, image, p, block, group, homes, name)
    packed = Scratch(f"filter of {core.label}", size, per_thread=own)
    one = p.reading(r)
    values = p.cut(one.by("filter", r.taps, one.filter), columns)
    at = expr.add(
        flatten((r.group, p.panel), (groups, panels)) * (n * deep), flatten((r.channel, p.j), (channels, width))
    )
    stores = into(packed, values, deep, at, p.j)
    first = one.filter((0,) * len(form.axes))
    rows = tuple(in_memory_order([r.group, p.panel, r.channel], first))
    packing = Kernel(f"{name}p", rows, stores, (), n * groups * channels * columns, None, group.conditions, (core,))

    products, where, after = results(r, p, block, local, group, homes)
    shared = known(r, p, image, block, local)
    recipe = Filtering(
        **shared,
        where=where,
        written=(shared["tiles"], products, *([packed] if own else [])),
        filter=packed,
        products=products,
        packing=packing if own else None,
    )
    cost = n * groups * tiles * channels * columns // 4
    main = Kernel(name, (), after, (), cost, recipe, group.conditions, tuple(group.stores))
    return [main] if own else [replace(packing, lasting=lasting), main]


def sharing(r: Reading, image: Image, p: Panels, block: int, group: Group, homes: Homes, name: str) -> list[Kernel]:
    """Two kernels: one transforms the tiles, one the filter and multiplies."""
    core = r.core
    tiles, channels, columns = r.sizes
    width, n, groups = p.like.width, math.prod(r.products), number(r.group.extent)
    local, deep, line = expr.index(block, "local"), apart(channels * width), apart(tiles * channels)
    whole = Scratch(f"tiles of {core.label}", 4 * n * groups * line)
    at = flatten((r.tile, image.beside, image.last), (tiles, image.beside.extent, image.last.extent))
    stores = into(whole, image.values, line, expr.add(at, expr.mul(r.group, n * line)), image.last)
    rows = (r.group, r.tile, image.beside)
    before = Kernel(f"{name}t", rows, stores, (), n * groups * tiles * channels, None, group.conditions, (core,))

    packed = Scratch(f"filter of {core.label}", 4 * n * deep, per_thread=True)
    one = p.reading(r)
    values = p.cut(one.by("filter", r.taps, one.filter), columns)
    transformed = into(packed, values, deep, flatten((r.channel, p.j), (channels, width)), p.j)
    products, where, after = results(r, p, block, local, group, homes)
    shared = known(r, p, image, block, local) | {"tiles": whole, "image": ()}
    recipe = Sharing(
        **shared, where=where, written=(products, packed), filter=packed, products=products, transformed=transformed
    )
    cost = n * groups * tiles * channels * columns // 4
    return [before, Kernel(name, (), after, (), cost, recipe, group.conditions, tuple(group.stores))]


def results(
    r: Reading, p: Panels, block: int, local: Index, group: Group, homes: Homes
) -> tuple[Scratch, tuple[tuple[Expr, ...], ...], tuple[Store, ...]]:
    """Where the products of a block and a panel lie, and what is made of them at which places."""
    width, n = p.like.width, math.prod(r.products)
    products = Scratch(f"products of {r.core.label}", 4 * n * block * width, per_thread=True)
    at = expr.add(flatten((local, r.column), (block, width)), expr.mul(p.panel, -width))
    values = back(products, r, "results", block * width, at)
    places = tuple(product(*map(range, r.results)))
    after = stored(r, [(r.at(x), e) for x, e in zip(places, values, strict=True)], group, homes)
    return products, tuple(map(r.inside, places)), after


def learning(r: Reading, image: Image, group: Group, homes: Homes, name: str) -> list[Kernel]:
    core = r.core
    tiles, channels, columns = r.sizes
    p = panels_of(columns)
    width, panels, n, groups = p.like.width, number(p.panel.extent), math.prod(r.products), number(r.group.extent)
    least, most = DEEP
    block = min(max(BLOCK // (4 * n * (columns + channels // 2)), least), most)
    block = -(-tiles // (1 if tiles <= most else -(-tiles // block)))
    rows = blocks(channels, p.like.rows)
    tall = -(-channels // rows)
    local, part, row = expr.index(block, "local"), expr.index(rows, "part"), expr.index(tall, "row")

    right = Scratch(f"results of {core.label}", 4 * n * apart(panels * block * width), per_thread=True)
    values = p.cut(r.by("of_results", r.results, p.reading(r).result), columns)
    at = flatten((p.panel, local, p.j), (panels, block, width))
    of_results = into(right, values, apart(panels * block * width), at, p.j)

    whole = block == tiles
    parts = 1 if whole else groups * rows * panels
    sums = Scratch(f"sums of {core.label}", 4 * n * tall * width * parts, per_thread=whole)
    chunk = 0 if whole else flatten((r.group, part, p.panel), (groups, rows, panels))
    at = expr.add(expr.add(flatten((chunk, 0, row), (parts, n, tall)) * width, r.column), p.panel * -width)
    values = back(sums, r, "to_filter", tall * width, at)
    taps = tuple(product(*map(range, r.taps)))
    after = stored(r, [(r.letters | r.tap(x), e) for x, e in zip(taps, values, strict=True)], group, homes)
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
    cost = n * groups * tiles * channels * columns // 4
    return [Kernel(name, (), after, (), cost, recipe, group.conditions, tuple(group.stores))]


def known(r: Reading, p: Panels, image: Image, block: int, local: Index) -> dict[str, Any]:
    """What both recipes know. The image is transformed into the memory of a block of tiles."""
    channels, n = r.sizes[1], math.prod(r.products)
    line = apart(block * channels)
    tiles = Scratch(f"tiles of {r.core.label}", 4 * n * line, per_thread=True)
    at = flatten((local, image.beside, image.last), (block, image.beside.extent, image.last.extent))
    stores = into(tiles, image.values, line, at, image.last)
    return dict(
        spec=r.spec, count=n, sizes=r.sizes, block=block, group=r.group, tile=r.tile, local=local, channel=r.channel,
        beside=image.beside, last=image.last, panel=p.panel, column=r.column, like=p.like, image=stores, tiles=tiles,
    )  # fmt: skip


def into(scratch: Scratch, values: Line, line: int, at: Index_, lane: Index) -> tuple[Store, ...]:
    """Transformed values, each to the memory of its product."""
    home = Target(scratch, "own", float32)
    return tuple(Store(home, (lane,), expr.add(at, k * line), e, lane) for k, e in enumerate(values))


def back(scratch: Scratch, r: Reading, name: str, line: int, at: Index_) -> Line:
    """What the products come to."""
    number_of = {place: k for k, place in enumerate(product(*map(range, r.products)))}
    return r.by(name, r.products, lambda place: expr.load(scratch, expr.add(at, number_of[place] * line), float32))


def stored(r: Reading, results: Sequence[tuple[Letters, Expr]], group: Group, homes: Homes) -> tuple[Store, ...]:
    """What is made of each result, at the letters that it has."""
    core, scope = r.core, r.scope
    scope.group = set(group.stores)
    stores = []
    for letters, result in results:
        scope.replaced[core] = lambda _, result=result: result
        index = tuple(letters[x] for x in r.spec.out)
        for s in group.stores:
            place = index if s.shape == core.shape else tuple(split(flatten(index, core.shape), s.shape))
            value = expr.as_expr(expr.opened(scope.read(s, place)))
            stores += [Store(t, (), t.place(index, core.shape), value, r.column) for t in homes[s]]
    return tuple(stores)
