"""Winograd's minimal filtering (Lavin and Gray, 2015): its transforms, and which contractions are such filters.

    y  =  A [(G g G') * (B d B')] A'                 2x2 results y of a tile d of the image, with a filter g
    g' =  G' [sum over tiles (A' y' A) * (B d B')] G    the gradient of g, by the same transforms turned around

A filter of 3x3 takes 16 multiplications for 2x2 results, not 36. One of 5x5 is taken for one of 3 and one of 2 in each
direction, which takes 49, not 100: larger tiles would take fewer, and lose more bits than the plain sum does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tinyflow.compiler.contraction import extent, roles
from tinyflow.core.dtypes import float32
from tinyflow.core.expr import Expr, Index_, apply, const
from tinyflow.graph.node import Node
from tinyflow.ops.contraction import Spec

Line = Sequence[Expr]

FEWEST = 32, 16  # tiles: of fewer, transforming a filter is most of the work; its gradient is transformed but once
WASTE = 1.4  # places computed for each that is wanted, where sizes are odd


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


def image_5(d: Line) -> Line:
    return *image_3(d), sub(d[3], d[4]), d[4], sub(d[4], d[5])


def filter_5(g: Line) -> Line:
    return *filter_3(g), g[3], add(g[3], g[4]), g[4]


def results_5(m: Line) -> Line:
    first, second = results_3(m)
    return add(first, add(m[4], m[5])), add(second, sub(m[5], m[6]))


def of_results_5(y: Line) -> Line:
    three = of_results_3(y)
    return *three, y[0], three[1], three[3]


def to_filter_5(m: Line) -> Line:
    return *to_filter_3(m), add(m[4], m[5]), add(m[5], m[6])


class Transforms(NamedTuple):
    """Of one line; `both` does them down and across."""

    taps: int
    products: int
    image: Callable[[Line], Line]
    filter: Callable[[Line], Line]
    results: Callable[[Line], Line]
    of_results: Callable[[Line], Line]
    to_filter: Callable[[Line], Line]


TRANSFORMS = {
    3: Transforms(3, 4, image_3, filter_3, results_3, of_results_3, to_filter_3),
    5: Transforms(5, 7, image_5, filter_5, results_5, of_results_5, to_filter_5),
}


def both(transform: Callable[[Line], Line], at: Callable[[int, int], Expr], n: int) -> list[list[Expr]]:
    """A square of n x n transformed down its columns, then along its rows."""
    down = [transform([at(u, v) for u in range(n)]) for v in range(n)]
    return [list(transform([line[k] for line in down])) for k in range(len(down[0]))]


# ------------------------------------------------------------------------------------------ what fits


class Form(NamedTuple):
    """The letters of a contraction that is such a filter, or the gradient of one."""

    gradient: bool
    transforms: Transforms
    images: tuple[str, ...]
    places: tuple[str, ...]  # h, w of the results
    taps: tuple[str, ...]  # i, j of the filter
    flipped: tuple[bool, ...]  # whether a tap is subtracted from a place, not added
    channels: tuple[str, ...]
    columns: tuple[str, ...]
    a: int
    b: int


def form_of(core: Node) -> Form | None:
    """None where it is none, or not of known sizes."""
    spec: Spec = core.attrs["spec"]
    found, size = roles(spec), spec.size
    if found is None or found.batch or core.dtype is not float32 or spec.pairs:
        return None
    if not all(isinstance(n, int) and n for n in size.values()):
        return None
    windows = [p for p in spec.operands[found.a] if not p.letter]
    of_b = {p.letter for p in spec.operands[found.b]}
    steps = [dict(p.terms) for p in windows]
    shared = [[a for a in t if a in of_b] for t in steps]
    own = [[a for a in t if a not in of_b] for t in steps]
    inside = {a for t in steps for a in t}
    simple = all(p.divisor == 1 and isinstance(p.offset, int) for p in windows)
    single = all(len(x) == len(y) == 1 for x, y in zip(shared, own, strict=True))
    once = all(sum(p.letter == a for x in spec.operands for p in x) == (a in of_b) for a in inside)
    if len(windows) != 2 or len(inside) != 4 or None in of_b or not (simple and single and once):
        return None
    lengths = [number(size[x]) for (x,) in shared], [number(size[x]) for (x,) in own]
    gradient = min(lengths[0]) > max(lengths[1])  # a filter is smaller than what it makes
    places, taps = (tuple(x for (x,) in letters) for letters in ((shared, own) if gradient else (own, shared)))
    transforms = TRANSFORMS.get(number(size[taps[0]]))
    if transforms is None or any(size[i] != transforms.taps for i in taps):
        return None
    if any(abs(t[i]) != 1 or t[h] != 1 for t, h, i in zip(steps, places, taps, strict=True)):
        return None
    kept = (found.k, found.m) if gradient else (found.m, found.k)
    images, channels = (tuple(a for a in letters if a not in inside) for letters in kept)
    flipped = tuple(t[i] < 0 for t, i in zip(steps, taps, strict=True))
    return Form(gradient, transforms, images, places, taps, flipped, channels, found.n, found.a, found.b)


def pays(form: Form, spec: Spec, lanes: int) -> bool:
    h, w = (number(spec.size[x]) for x in form.places)
    tiles = count(spec, form.images) * -(-h // 2) * -(-w // 2)
    wide = count(spec, form.channels) >= lanes and count(spec, form.columns) >= lanes
    return wide and tiles >= FEWEST[form.gradient] and 4 * -(-h // 2) * -(-w // 2) <= WASTE * h * w


def count(spec: Spec, letters: Sequence[str]) -> int:
    return number(extent(spec, letters))


def number(n: Index_) -> int:
    assert isinstance(n, int), "form_of sees to it"
    return n
