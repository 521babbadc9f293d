"""Winograd's minimal filtering (Lavin and Gray, 2015): its transforms, and which contractions are such filters.

    y  =  A [(G g G') * (B d B')] A'                 2x2 results y of a tile d of the image, with a filter g
    g' =  G' [sum over tiles (A' y' A) * (B d B')] G    the gradient of g, by the same transforms turned around

A filter of 3x3 takes 16 multiplications for 2x2 results, not 36. One of 5 is taken for one of 3 and one of 2 along each
axis, one of 7 for one of 3 and two of 2: larger tiles would take fewer, and lose more bits than the plain sum does. One that
goes two steps at a time is one filter of the even places and one of the odd.

One or two axes are filtered so. What else there is of a window, such as the depth of a 3x3x3, is summed over as channels
are; of a dilated filter neighbours are as far apart as its taps; groups are so many filters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product, zip_longest
from typing import NamedTuple

from tinyflow.compiler.operands import Roles, extent, roles
from tinyflow.core.dtypes import float32
from tinyflow.core.expr import Expr, Index_, apply, const
from tinyflow.graph.node import Node
from tinyflow.ops.contraction import Position, Spec

Line = Sequence[Expr]
Place = tuple[int, ...]

FEWEST = 32, 16  # tiles: of fewer, transforming a filter is most of the work; its gradient is transformed but once
LEFT = 0.75  # of the multiplications: saving less does not pay for the transforms
WASTE = 1.18  # places computed for each that is wanted along an axis, where sizes are odd


def add(a: Expr, b: Expr) -> Expr:
    return apply("add", a, b)


def sub(a: Expr, b: Expr) -> Expr:
    return apply("sub", a, b)


def half(a: Expr) -> Expr:
    return apply("mul", a, const(0.5, float32))


def image_3(d: Line) -> Line:
    return sub(d[0], d[2]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[1], d[3])


def filter_3(g: Line) -> Line:
    ends = add(g[0], g[2])
    return g[0], half(add(ends, g[1])), half(sub(ends, g[1])), g[2]


def results_3(m: Line) -> Line:
    return add(add(m[0], m[1]), m[2]), sub(sub(m[1], m[2]), m[3])


def of_results_3(y: Line) -> Line:
    return y[0], add(y[0], y[1]), sub(y[0], y[1]), apply("neg", y[1])


def to_filter_3(m: Line) -> Line:
    middle = half(add(m[1], m[2]))
    return add(m[0], middle), half(sub(m[1], m[2])), add(middle, m[3])


def image_2(d: Line) -> Line:
    return sub(d[0], d[1]), d[1], sub(d[1], d[2])


def filter_2(g: Line) -> Line:
    return g[0], add(g[0], g[1]), g[1]


def results_2(m: Line) -> Line:
    return add(m[0], m[1]), sub(m[1], m[2])


def of_results_2(y: Line) -> Line:
    return y[0], add(y[0], y[1]), apply("neg", y[1])


def to_filter_2(m: Line) -> Line:
    return add(m[0], m[1]), add(m[1], m[2])


class Transforms(NamedTuple):
    """Of one line, for two results."""

    taps: int
    places: int  # of the image
    products: int
    image: Callable[[Line], Line]
    filter: Callable[[Line], Line]
    results: Callable[[Line], Line]
    of_results: Callable[[Line], Line]
    to_filter: Callable[[Line], Line]


def then(a: Transforms, b: Transforms) -> Transforms:
    """A filter of the taps of both: the results of b, which begins where a ends, are added to those of a."""
    return Transforms(
        taps=a.taps + b.taps,
        places=a.taps + b.places,
        products=a.products + b.products,
        image=lambda d: (*a.image(d[: a.places]), *b.image(d[a.taps :])),
        filter=lambda g: (*a.filter(g[: a.taps]), *b.filter(g[a.taps :])),
        results=lambda m: tuple(map(add, a.results(m[: a.products]), b.results(m[a.products :]))),
        of_results=lambda y: (*a.of_results(y), *b.of_results(y)),
        to_filter=lambda m: (*a.to_filter(m[: a.products]), *b.to_filter(m[a.products :])),
    )


def by_twos(a: Transforms, b: Transforms) -> Transforms:
    """A filter that goes two steps at a time: the results of the odd taps are added to those of the even ones."""
    return then(a, b)._replace(
        image=lambda d: (*a.image(d[::2]), *b.image(d[1::2])),
        filter=lambda g: (*a.filter(g[::2]), *b.filter(g[1::2])),
        to_filter=lambda m: [
            e for pair in zip_longest(a.to_filter(m[: a.products]), b.to_filter(m[a.products :])) for e in pair if e
        ],
        places=a.places + b.places,
    )


ONE = Transforms(1, 2, 2, tuple, lambda g: (g[0], g[0]), tuple, tuple, lambda m: (add(m[0], m[1]),))
TWO = Transforms(2, 3, 3, image_2, filter_2, results_2, of_results_2, to_filter_2)
THREE = Transforms(3, 4, 4, image_3, filter_3, results_3, of_results_3, to_filter_3)
FOUR, FIVE = then(TWO, TWO), then(THREE, TWO)
BY_ONES = (TWO, THREE, FIVE, then(FIVE, TWO))
BY_TWOS = (by_twos(TWO, ONE), by_twos(TWO, TWO), by_twos(THREE, TWO), by_twos(FOUR, THREE))
TRANSFORMS = {(t.taps, step): t for step, known in ((1, BY_ONES), (2, BY_TWOS)) for t in known}


def transformed(lines: Sequence[Callable[[Line], Line]], counts: Sequence[int], at: Callable[[Place], Expr]) -> Line:
    """The values at so many places along each axis, by the transform of each axis; the last axis fastest."""
    values = {place: at(place) for place in product(*map(range, counts))}
    for axis, transform in enumerate(lines):
        for place in [p for p in values if not p[axis]]:
            line = [(*place[:axis], k, *place[axis + 1 :]) for k in range(counts[axis])]
            made = transform([values.pop(p) for p in line])
            values |= {(*place[:axis], k, *place[axis + 1 :]): e for k, e in enumerate(made)}
    return [values[p] for p in sorted(values)]


# ------------------------------------------------------------------------------------------ what fits


class Axis(NamedTuple):
    """A line that is filtered."""

    place: str
    tap: str
    flipped: bool  # whether taps are counted against the places of the image
    apart: int  # the two results of a tile
    transforms: Transforms

    def tiles(self, size: int) -> int:
        return -(-size // (2 * self.apart)) * self.apart


class Form(NamedTuple):
    """The letters of a contraction that is such a filter, or the gradient of one."""

    gradient: bool
    axes: tuple[Axis, ...]
    batch: tuple[str, ...]
    images: tuple[str, ...]
    beside: tuple[str, ...]  # channels that are parts of other windows, before the others
    channels: tuple[str, ...]
    columns: tuple[str, ...]
    a: int
    b: int


def form_of(core: Node) -> Form | None:
    """None where it is none, or not of known sizes."""
    spec: Spec = core.attrs["spec"]
    found = roles(spec)
    if found is None or core.dtype is not float32 or spec.pairs:
        return None
    if not all(isinstance(n, int) and n for n in spec.size.values()):
        return None
    for gradient in (False, True):
        axes = [x for p in spec.operands[found.a] if (x := axis_of(spec, found, p, gradient)) is not None][-2:]
        if axes:
            kept = (found.k, found.m) if gradient else (found.m, found.k)
            inside = {letter for x in axes for letter in (x.place, x.tap)}
            images, channels = (tuple(a for a in letters if a not in inside) for letters in kept)
            plain = {p.letter for p in spec.operands[found.a]}
            beside, last = (tuple(a for a in channels if (a in plain) == here) for here in (False, True))
            return Form(gradient, tuple(axes), found.batch, images, beside, last, found.n, found.a, found.b)
    return None


def axis_of(spec: Spec, found: Roles, p: Position, gradient: bool) -> Axis | None:
    """The line that a position of the image is filtered along, if it is. Places are in the results of a filter and in the other
    operand of its gradient, taps the other way around."""
    places = found.k if gradient else found.m
    steps, size = dict(p.terms), spec.size
    place, tap = (next((a for a in steps if (a in places) == here), None) for here in (True, False))
    if len(steps) != 2 or place is None or tap is None or p.divisor != 1 or not isinstance(p.offset, int):
        return None
    step, tap_step = steps[place], abs(steps[tap])
    common = math.gcd(step, tap_step)
    known = TRANSFORMS.get((number(size[tap]), step // common)) if common else None
    both = [q for positions in spec.operands for q in positions if q is not p]
    shared = place if gradient else tap
    once = [[q for q in both if a in dict(q.terms)] for a in (place, tap)]
    plain = all(len(q) == (a == shared) and all(x.letter == a for x in q) for a, q in zip((place, tap), once, strict=True))  # fmt: skip
    if known is None or not plain or step < 0 or tap in found.batch or number(size[place]) <= known.taps:
        return None
    return Axis(place, tap, steps[tap] < 0, tap_step // common, known)


def pays(form: Form, spec: Spec, lanes: int) -> bool:
    sizes = [number(spec.size[x.place]) for x in form.axes]
    tiles = [x.tiles(n) for x, n in zip(form.axes, sizes, strict=True)]
    wide = count(spec, form.channels) >= lanes and count(spec, form.columns) >= lanes
    many = count(spec, form.images) * math.prod(tiles) >= FEWEST[form.gradient]
    left = math.prod(x.transforms.products / (2 * x.transforms.taps) for x in form.axes)
    return (
        wide and many and left <= LEFT and 2 ** len(tiles) * math.prod(tiles) <= WASTE ** len(tiles) * math.prod(sizes)
    )


def count(spec: Spec, letters: Sequence[str]) -> int:
    return number(extent(spec, letters))


def number(n: Index_) -> int:
    assert isinstance(n, int), "form_of sees to it"
    return n
