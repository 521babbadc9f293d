"""The recipe of 3x3 convolutions that move by one: Winograd's minimal filtering (Lavin and Gray, 2015), F(2x2, 3x3).

    y  =  A [(G g G') * (B d B')] A'              2x2 results of a tile d of 4x4: 16 multiplications instead of 36
    g' =  G' [sum of (A' y' A) * (B d B')] G      the gradient of g, by the same transforms turned around

With many channels `*` is sixteen products of matrices, (tiles, channels) times (channels, columns). Blocks of tiles are
transformed into the memory of one thread, multiplied by the micro-kernel, and transformed back as they are stored: what
is between never leaves the second cache. Transforms are expressions: what is fused with a convolution is with this one.

Of numbers of 24 bits the transforms lose about as many as the longer sums of the plain formula do. What is not finite
may reach the other results of its 2x2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.contraction import Scratch, extent, opened_read, roles
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import Kernel, Store, Target, loads, stride
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.microkernel import Tile
from tinyflow.core import expr
from tinyflow.core.dtypes import float32
from tinyflow.core.expr import Expr, Index, Index_, apply, const
from tinyflow.graph.node import Node
from tinyflow.ops import rules
from tinyflow.ops.contraction import Spec
from tinyflow.ops.movement import flatten, split
from tinyflow.runtime import target as targets

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

FEWEST_TILES = 128  # of fewer, transforming the filter is most of the work
WASTE = 1.4  # places computed for each that is wanted, where sizes are odd
BLOCK = 512 * 1024  # bytes of a block of transformed tiles: it stays in the second cache
MOST = 4  # micro-kernels, one under the other, in a block
ALONE = 5 << 20  # bytes of a filter that each thread transforms for itself
EVEN = 4  # blocks come in multiples of this, so that threads have as many

Line = Sequence[Expr]
PLACES = tuple(product(range(4), repeat=2))


def add(a: Expr, b: Expr) -> Expr:
    return apply("add", a, b)


def sub(a: Expr, b: Expr) -> Expr:
    return apply("sub", a, b)


def half(a: Expr) -> Expr:
    return apply("mul", a, const(0.5, float32))


# The transforms, of one line; `both` does it down and across.


def of_image(d: Line) -> Line:
    return sub(d[0], d[2]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[1], d[3])


def of_filter(g: Line) -> Line:
    ends = add(g[0], g[2])
    return g[0], half(add(ends, g[1])), half(sub(ends, g[1])), g[2]


def to_results(m: Line) -> Line:
    return add(add(m[0], m[1]), m[2]), sub(sub(m[1], m[2]), m[3])


def of_results(y: Line) -> Line:
    return y[0], add(y[0], y[1]), sub(y[0], y[1]), apply("neg", y[1])


def to_filter(m: Line) -> Line:
    middle = half(add(m[1], m[2]))
    return add(m[0], middle), half(sub(m[1], m[2])), add(middle, m[3])


def both(transform: Callable[[Line], Line], at: Callable[[int, int], Expr], n: int) -> list[list[Expr]]:
    """A square transformed down its columns, then along its rows."""
    down = [transform([at(u, v) for u in range(n)]) for v in range(n)]
    return [list(transform([line[k] for line in down])) for k in range(len(down[0]))]


# ------------------------------------------------------------------------------------------ what fits


class Form(NamedTuple):
    """The letters of a contraction that is such a convolution, or the gradient of one's filter."""

    gradient: bool
    images: tuple[str, ...]
    places: tuple[str, ...]  # h, w of the results
    taps: tuple[str, ...]  # i, j of the filter
    flipped: tuple[bool, ...]  # whether a tap is subtracted from a place, not added
    channels: tuple[str, ...]
    columns: tuple[str, ...]
    a: int
    b: int


def form_of(core: Node) -> Form | None:
    """None where the plain recipe is to do it."""
    spec: Spec = core.attrs["spec"]
    found = roles(spec)
    if found is None or found.batch or core.dtype is not float32 or spec.pairs:
        return None
    if not all(isinstance(n, int) and n for n in spec.size.values()):
        return None
    windows = [p for p in spec.operands[found.a] if not p.letter]
    inside = {a for p in windows for a, _ in p.terms}
    of_b = {p.letter for p in spec.operands[found.b]}
    single = all(p.divisor == 1 and isinstance(p.offset, int) and len(p.terms) == 2 for p in windows)
    if len(windows) != 2 or not single or len(inside) != 4 or None in of_b:
        return None
    shared = [tuple(a for a, _ in p.terms if a in of_b) for p in windows]
    if any(len(x) != 1 for x in shared):
        return None
    own = [tuple(a for a, _ in p.terms if a not in of_b) for p in windows]
    gradient = any(spec.size[x] != 3 for (x,) in shared)
    places, taps = (tuple(x for (x,) in letters) for letters in ((shared, own) if gradient else (own, shared)))
    steps = [dict(p.terms) for p in windows]
    good = all(spec.size[i] == 3 and abs(t[i]) == 1 and t[h] == 1 for t, h, i in zip(steps, places, taps, strict=True))
    once = all(sum(p.letter == a for x in spec.operands for p in x) == (a in of_b) for a in inside)
    if not good or not once:
        return None
    images, channels = (
        tuple(a for a in letters if a not in inside)
        for letters in ((found.k, found.m) if gradient else (found.m, found.k))
    )
    flipped = tuple(t[i] < 0 for t, i in zip(steps, taps, strict=True))
    return Form(gradient, images, places, taps, flipped, channels, found.n, found.a, found.b)


def pays(form: Form, spec: Spec, lanes: int) -> bool:
    h, w = (number(spec.size[x]) for x in form.places)
    tiles = count(spec, form.images) * -(-h // 2) * -(-w // 2)
    wide = count(spec, form.channels) >= lanes and count(spec, form.columns) >= lanes
    return wide and tiles >= FEWEST_TILES and 4 * -(-h // 2) * -(-w // 2) <= WASTE * h * w


def count(spec: Spec, letters: Sequence[str]) -> int:
    return number(extent(spec, letters))


def number(n: Index_) -> int:
    assert isinstance(n, int), "form_of sees to it"
    return n


# ------------------------------------------------------------------------------------------ lowering


@dataclass(frozen=True, eq=False)
class Sixteen:
    """What both recipes know: how tiles are transformed, and what the products are called with."""

    spec: Spec
    sizes: tuple[int, int, int]  # tiles, channels, columns
    block: int  # most tiles of a block
    tile: Index  # the tile's number
    local: Index  # in its block
    channel: Index
    panel: Index
    column: Index
    image: tuple[Store, ...]  # transformed, into memory of the thread's own
    like: Tile
    where: tuple[tuple[Expr, ...], ...]  # what must hold for each group of stores, where sizes are odd
    written: tuple[Scratch, ...]

    @property
    def width(self) -> int:
        return self.like.width

    @property
    def panels(self) -> int:
        return -(-self.sizes[2] // self.width)

    @property
    def flops(self) -> int:
        """Of the plain formula: what is left out counts as done."""
        return 2 * count(self.spec, tuple(self.spec.size))

    def groups(self, kernel: Kernel) -> list[tuple[tuple[Expr, ...], tuple[Store, ...]]]:
        """The stores of each place of the results, and where they are done."""
        each = len(kernel.stores) // len(self.where)
        return [(w, kernel.stores[k * each : (k + 1) * each]) for k, w in enumerate(self.where)]


@dataclass(frozen=True, eq=False)
class Filtering(Sixteen):
    """Tiles times the filter."""

    filter: Scratch  # [panel][16][channel][column of the panel]
    tiles: Scratch  # [16][tile][channel], a block
    products: Scratch  # [16][tile][column], of a block and a panel
    packing: Kernel | None  # done by each thread for itself

    def __str__(self) -> str:
        t, c, n = self.sizes
        return f"filter {self.spec}: 16 products of {t} tiles x {c} channels x {n} columns, in blocks of {self.block} tiles"

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.winograd_loops import emit_filtering

        return emit_filtering(em, kernel, self)


@dataclass(frozen=True, eq=False)
class Learning(Sixteen):
    """Tiles times tiles of the results' gradient, summed over all of them: the gradient of the filter."""

    part: Index  # a tile of rows
    row: Index  # in it
    results: tuple[Store, ...]
    tiles: Scratch  # [16][tile][channel], a block
    right: Scratch  # [16][panel][tile][column of the panel], a block
    sums: Scratch  # [tile of rows][panel][16][row][column of the panel]

    @property
    def rows(self) -> int:
        """Tiles of rows."""
        return number(self.part.extent)

    def __str__(self) -> str:
        t, c, n = self.sizes
        return f"filter's gradient {self.spec}: 16 products of {c} channels x {t} tiles x {n} columns, in blocks of {self.block} tiles"

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.winograd_loops import emit_learning

        return emit_learning(em, kernel, self)


class Reading(NamedTuple):
    """How the operands are read, tile by tile."""

    form: Form
    spec: Spec
    core: Node
    scope: Scope
    tile: Index
    channel: Index
    column: Index

    def letters(self) -> dict[str, Index_]:
        """Of images, channels and columns; and the tile's place, in steps of two."""
        spec, f = self.spec, self.form
        halves = tuple(-(-number(spec.size[x]) // 2) for x in f.places)
        names = (f.images + f.places, f.channels, f.columns)
        shapes = tuple(tuple(spec.size[x] for x in letters) for letters in (f.images, f.channels, f.columns))
        numbers = split(self.tile, (*shapes[0], *halves)), split(self.channel, shapes[1]), split(self.column, shapes[2])
        return {a: i for letters, at in zip(names, numbers, strict=True) for a, i in zip(letters, at, strict=True)}

    def at(self, u: int, v: int) -> dict[str, Index_]:
        """The letters at one place of a tile."""
        found = self.letters()
        return found | {x: expr.add(expr.mul(found[x], 2), k) for x, k in zip(self.form.places, (u, v), strict=True)}

    def tap(self, i: int, j: int) -> dict[str, Index_]:
        """The letters of a tap, counted the way the image is."""
        return {x: 2 - k if f else k for x, k, f in zip(self.form.taps, (i, j), self.form.flipped, strict=True)}

    def read(self, operand: int, letters: Mapping[str, Index_]) -> Expr:
        reader = Reader(self.core.inputs[operand], self.scope, self.core)
        return opened_read(reader, self.spec.operands[operand], letters)

    def inside(self, u: int, v: int) -> tuple[Expr, ...]:
        """What must hold for a place to be one, where sizes are odd."""
        at = self.at(u, v)
        edges = [(at[x], number(self.spec.size[x])) for x, k in zip(self.form.places, (u, v), strict=True) if k]
        return tuple(rules.less(expr.as_expr(i), expr.as_expr(n)) for i, n in edges if n % 2)

    def image(self, u: int, v: int) -> Expr:
        return self.read(self.form.a, self.at(u, v) | self.tap(0, 0))

    def filter(self, i: int, j: int) -> Expr:
        return self.read(self.form.b, self.letters() | self.tap(i, j))

    def result(self, u: int, v: int) -> Expr:
        return rules.guard(rules.both(*self.inside(u, v)), self.read(self.form.b, self.at(u, v)), const(0.0, float32))


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel] | None:
    """None where the plain recipe is to do it."""
    core = group.core
    assert core is not None
    form = form_of(core)
    if form is None or not pays(form, core.attrs["spec"], targets.current().lanes(float32)):
        return None
    spec: Spec = core.attrs["spec"]
    h, w = (-(-number(spec.size[x]) // 2) for x in form.places)
    sizes = count(spec, form.images) * h * w, count(spec, form.channels), count(spec, form.columns)
    hints = ("tile", "channel", "column")
    scope = Scope(buffered, {}, core.ndim)
    reading = Reading(form, spec, core, scope, *(expr.index(n, x) for n, x in zip(sizes, hints, strict=True)))
    image = both(of_image, reading.image, 4)
    along = all(stride(x.offset, reading.channel) == 1 for line in image for e in line for x in loads(e))
    if scope.checks or not along:
        return None
    found = (learning if form.gradient else filtering)(reading, sizes, image, group, homes, name)
    return None if scope.checks else found


def stored(reading: Reading, results: Mapping[tuple[int, int], tuple[dict[str, Index_], Expr]], group: Group, homes: Mapping[Node, Sequence[Target]], lane: Index) -> list[Store]:  # fmt: skip
    """What is made of each result, at the letters that it has."""
    core, scope = reading.core, reading.scope
    values = {tuple(letters[x] for x in reading.spec.out): value for letters, value in results.values()}
    scope.group, scope.replaced[core] = set(group.stores), values.__getitem__
    stores = []
    for index in values:
        for s in group.stores:
            value = expr.as_expr(expr.opened(scope.read(s, index)))
            stores += [Store(t, (), expr.add(flatten(index, core.shape), t.at), value, lane) for t in homes[s]]
    return stores


def into(scratch: Scratch, square: Sequence[Sequence[Expr]], line: int, at: Index_, lane: Index) -> tuple[Store, ...]:
    """The sixteen values of a transformed square, each to its own part of the memory."""
    home = Target(scratch, "own", float32)
    return tuple(Store(home, (lane,), expr.add(at, k * line), square[u][v], lane) for k, (u, v) in enumerate(PLACES))


def filtering(reading: Reading, sizes: tuple[int, int, int], image: list[list[Expr]], group: Group, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:  # fmt: skip
    core, scope = reading.core, reading.scope
    target = targets.current()
    tiles, channels, columns = sizes
    height, lanes = target.tile(float32)[0], target.lanes(float32)
    vectors = min(target.tile(float32)[1], -(-columns // lanes))
    width = vectors * lanes
    block = height * max(min(BLOCK // (64 * channels * height), MOST), 1)
    block = -(-tiles // blocks(tiles, block))
    line, deep, panels = apart(block * channels), apart(channels * width), -(-columns // width)
    local, panel = expr.index(block, "local"), expr.index(panels, "panel")

    transformed = Scratch(f"tiles of {core.label}", 64 * line, per_thread=True)
    products = Scratch(f"products of {core.label}", 64 * block * width, per_thread=True)
    size = 64 * panels * deep
    own = size <= ALONE and not scope.buffered.repeated
    packed = Scratch(f"filter of {core.label}", size, per_thread=own)

    j = expr.index(width, "column")
    value = both(of_filter, reading.filter, 3)
    here = expr.as_expr(expr.add(expr.mul(panel, width), j))
    in_panel = [[expr.as_expr(expr.substitute(e, {reading.column: here})) for e in square] for square in value]
    if columns % width:
        test, zero = rules.less(here, expr.as_expr(columns)), const(0.0, float32)
        in_panel = [[rules.guard(test, e, zero) for e in square] for square in in_panel]
    at = expr.add(expr.mul(panel, 16 * deep), flatten((reading.channel, j), (channels, width)))
    stores = into(packed, in_panel, deep, at, j)
    cost = 4 * panels * channels * width
    packing = Kernel(f"{name}p", (panel, reading.channel), stores, (), cost, None, group.conditions, (core,))

    at = expr.add(expr.add(expr.mul(local, width), reading.column), expr.mul(panel, -width))
    made = [expr.load(products, expr.add(at, k * block * width), float32) for k in range(16)]
    square = both(to_results, lambda u, v: made[4 * u + v], 4)
    results = {(u, v): (reading.at(u, v), square[u][v]) for u in range(2) for v in range(2)}
    after = stored(reading, results, group, homes, reading.column)
    recipe = Filtering(
        spec=reading.spec,
        sizes=sizes,
        block=block,
        tile=reading.tile,
        local=local,
        channel=reading.channel,
        panel=panel,
        column=reading.column,
        image=into(transformed, image, line, expr.add(expr.mul(local, channels), reading.channel), reading.channel),
        like=Tile(height, vectors, lanes, float32, None, None),
        where=tuple(reading.inside(u, v) for u, v in results),
        written=(transformed, products, *([packed] if own else [])),
        filter=packed,
        tiles=transformed,
        products=products,
        packing=packing if own else None,
    )
    cost = 4 * tiles * channels * columns
    main = Kernel(name, (), tuple(after), (), cost, recipe, group.conditions, tuple(group.stores))
    return [main] if own else [packing, main]


def apart(n: int) -> int:
    """From one of the sixteen to the next: not a multiple of a page, or all would fall into one set of the cache."""
    return n + 2 * targets.current().lanes(float32)


def blocks(n: int, most: int) -> int:
    """How many blocks of so many at most: a multiple of EVEN, so that threads have as much to do."""
    found = -(-n // most)
    return -(-found // EVEN) * EVEN if n >= EVEN else found


def learning(reading: Reading, sizes: tuple[int, int, int], image: list[list[Expr]], group: Group, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:  # fmt: skip
    core = reading.core
    target = targets.current()
    tiles, channels, columns = sizes
    height, lanes = target.tile(float32)[0], target.lanes(float32)
    vectors = min(target.tile(float32)[1], -(-columns // lanes))
    width = vectors * lanes
    block = min(max(BLOCK // (64 * (columns + channels // 2)), 32), 128, tiles)
    block = -(-tiles // -(-tiles // block))
    rows = blocks(channels, height)
    most = -(-channels // rows)
    panels = -(-columns // width)
    line, across = apart(block * channels), apart(panels * block * width)
    local, panel, row = expr.index(block, "local"), expr.index(panels, "panel"), expr.index(most, "row")

    transformed = Scratch(f"tiles of {core.label}", 64 * line, per_thread=True)
    right = Scratch(f"results of {core.label}", 64 * across, per_thread=True)
    sums = Scratch(f"sums of {core.label}", 64 * rows * most * panels * width)

    j = expr.index(width, "column")
    here = expr.as_expr(expr.add(expr.mul(panel, width), j))
    value = both(of_results, reading.result, 2)
    in_panel = [[expr.as_expr(expr.substitute(e, {reading.column: here})) for e in square] for square in value]
    if columns % width:
        test, zero = rules.less(here, expr.as_expr(columns)), const(0.0, float32)
        in_panel = [[rules.guard(test, e, zero) for e in square] for square in in_panel]
    at = flatten((panel, local, j), (panels, block, width))

    part = expr.index(rows, "part")
    first = flatten((part, panel, 0, row), (rows, panels, 16, most))
    base = expr.add(expr.add(expr.mul(first, width), reading.column), expr.mul(panel, -width))
    made = [expr.load(sums, expr.add(base, k * most * width), float32) for k in range(16)]
    square = both(to_filter, lambda u, v: made[4 * u + v], 4)
    results = {(u, v): (reading.letters() | reading.tap(u, v), square[u][v]) for u in range(3) for v in range(3)}
    after = stored(reading, results, group, homes, reading.column)
    recipe = Learning(
        spec=reading.spec,
        sizes=sizes,
        block=block,
        tile=reading.tile,
        local=local,
        channel=reading.channel,
        panel=panel,
        column=reading.column,
        image=into(transformed, image, line, expr.add(expr.mul(local, channels), reading.channel), reading.channel),
        like=Tile(height, vectors, lanes, float32, None, None),
        where=((),) * 9,
        written=(transformed, right, sums),
        part=part,
        row=row,
        results=into(right, in_panel, across, at, j),
        tiles=transformed,
        right=right,
        sums=sums,
    )
    cost = 4 * tiles * channels * columns
    return [Kernel(name, (), tuple(after), (), cost, recipe, group.conditions, tuple(group.stores))]
