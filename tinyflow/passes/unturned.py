"""unturned: some convolutions read and write channels first, where that is how their images lie.

    permute(n(h+i)(w+j)c,ijco->nhwo (permute(x), w))    ->    nchw,co->nohw (x, w)        i, j have one value

A convolution computes with channels last, and the windows of an image are worth a copy of it in that order. A filter of one
place has none: an image with channels first is a matrix already, and so is its result. Of few channels the windows are no
longer than a line of their image, so lines are what the lanes are given; borders are copied with the image before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tinyflow.core import expr
from tinyflow.graph.node import Node, at_line, is_static, make, with_inputs
from tinyflow.ops.contraction import CONTRACT, Position, Spec
from tinyflow.ops.movement import EXPAND, PAD, PERMUTE, RESHAPE, inverse, pad, permute, reshape, slice_
from tinyflow.passes.layout import along_axes

Order = Sequence[int]
FEW = 8  # channels
STEPS = 4  # a place of the result is so many of the image's at most
TIMES = 4  # an operand that is turned while it is packed is so much larger than another at most


def unturned(nodes: Sequence[Node], order: Sequence[Node]) -> dict[Node, Node]:
    """Products lose their windows of one place, then permutations of what nobody else reads move before them."""
    if not any(n.op is CONTRACT and (places_of_one(n) or few_channels(n)) for n in order):
        return {n: n for n in order}
    readers: dict[Node, int] = dict.fromkeys(nodes, 1)
    for n in order:
        for x in n.inputs:
            readers[x] = readers.get(x, 0) + 1
    new: dict[Node, Node] = {}
    products: set[Node] = set()
    for n in order:
        found = with_inputs(n, tuple(new[x] for x in n.inputs))
        if n.op is CONTRACT and (taps := places_of_one(found)):
            found = at_line(n, without(found, taps, products))
        elif n.op is CONTRACT and few_channels(found):
            products.add(found)
        elif n.op is PERMUTE and alone(n.inputs[0], readers):
            found = at_line(n, ordered(found.inputs[0], found.attrs["order"], products) or found)
        new[n] = found
    return new


def alone(n: Node, readers: dict[Node, int]) -> bool:
    """Whether a value, and what it is made of down to a product, is read once."""
    while readers[n] == 1 and n.op is not CONTRACT:
        below = [x for x in n.inputs if not still(x)]
        if len(below) != 1:
            return False
        n = below[0]
    return readers[n] == 1


def still(x: Node) -> bool:
    """Whether it costs the same in any order: it is spread, or in another order now."""
    return x.op in (EXPAND, PERMUTE) or x.op.name == "constant"


def number(n: expr.Index_) -> int:
    assert isinstance(n, int), "sized sees to it"
    return n


def sized(n: Node) -> bool:
    """Whether it is a product of two operands whose sizes are known."""
    return (
        len(n.inputs) == 2
        and n.dtype.is_floating
        and all(is_static(x.shape) for x in (n, *n.inputs))
        and 0 not in n.shape
    )


def places_of_one(n: Node) -> set[str]:
    """The letters of one value in the windows of a product; none if it has other windows."""
    if not sized(n):
        return set()
    spec: Spec = n.attrs["spec"]
    operands = zip(n.inputs, spec.operands, strict=True)
    windows = [(p, d) for x, at in operands for p, d in zip(at, x.shape, strict=True) if p.letter is None]
    size = spec.size
    taps = {a for p, _ in windows for a, _ in p.terms if size[a] == 1}
    for p, d in windows:
        left = [(a, c) for a, c in p.terms if a not in taps]
        if p.divisor != 1 or p.offset != 0 or len(left) != 1:
            return set()
        ((a, c),) = left
        if c < 1 or (size[a] != d if c == 1 else c * (size[a] - 1) >= d):  # type: ignore[operator]
            return set()
    return taps


def few_channels(n: Node) -> bool:
    """Whether the windows of an image, whose lines lie in one piece, have few channels."""
    spec: Spec = n.attrs["spec"]
    if not sized(n) or len(spec.operands[0]) < 3:
        return False
    image, places = n.inputs[0], spec.operands[0]
    windows = [p for p in places if p.letter is None]
    channels = expr.product(spec.size[p.letter] for p in places if p.letter and p.letter in spec.folded)
    in_lines = image.op is PERMUTE and places[image.attrs["order"].index(image.ndim - 1)] in windows
    steps = [c for p in windows for _, c in p.terms]
    plain = all(
        p.divisor == 1
        and isinstance(p.offset, int)
        and len(p.terms) == 2
        and {a in spec.out for a, _ in p.terms} == {True, False}
        for p in windows
    )
    letters = [a for p in places for a, _ in p.terms]
    once = len(set(letters)) == len(letters) and all(p.letter for p in spec.operands[1])
    return in_lines and plain and once and channels < FEW and 0 < min(steps) and max(steps) <= STEPS  # type: ignore[operator]


def bordered(n: Node) -> Node:
    """A product of few channels: of the image as it lies and its border, and of the filters as they lie."""
    spec: Spec = n.attrs["spec"]
    size, inputs, operands = spec.size, [], []
    for x, places in zip(n.inputs, spec.operands, strict=True):
        x, places = lying(x, places)
        low = [0 if p.letter else max(-number(p.offset), 0) for p in places]
        ends = [sum(c * (number(size[a]) - 1) for a, c in p.terms) + number(p.offset) + 1 for p in places]
        high = [max(e - number(d), 0) for e, d in zip(ends, x.shape, strict=True)]
        inputs.append(pad(x, tuple(low), tuple(high)))
        operands.append(tuple(p._replace(offset=number(p.offset) + k) for p, k in zip(places, low, strict=True)))
    return at_line(n, make(CONTRACT, *inputs, spec=spec._replace(operands=tuple(operands))))


def lying(x: Node, places: tuple[Position, ...]) -> tuple[Node, tuple[Position, ...]]:
    """An operand in the order that it has in memory."""
    return (x.inputs[0], tuple(places[d] for d in inverse(x.attrs["order"]))) if x.op is PERMUTE else (x, places)


def without(n: Node, taps: set[str], products: set[Node]) -> Node:
    """The product without these letters, of operands as they lie; each reads neighbours, every s-th place put together."""
    spec: Spec = n.attrs["spec"]
    inputs, operands = [], []
    for x, places in zip(n.inputs, spec.operands, strict=True):
        x, places = lying(x, places)
        terms = [[(a, c) for a, c in p.terms if a not in taps] for p in places]
        x = reshape(x, tuple(d for found, d in zip(terms, x.shape, strict=True) if found))
        places = tuple(Position(tuple(found)) for found in terms if found)
        if places and places[-1].letter is None:
            steps = [c for ((_, c),) in (p.terms for p in places)]
            places = tuple(Position(((a, 1),)) for ((a, _),) in (p.terms for p in places))
            x = slice_(x, (0,) * x.ndim, tuple(spec.size[p.terms[0][0]] for p in places), steps)
        inputs.append(x)
        operands.append(places)
    out = tuple(a for a in spec.out if a not in taps)
    sizes = tuple((a, k) for a, k in spec.sizes if a not in taps)
    found = at_line(n, make(CONTRACT, *inputs, spec=spec._replace(operands=tuple(operands), out=out, sizes=sizes)))
    products.add(found)
    return reshape(found, n.shape)


class Last(NamedTuple):
    """The operand that has the last letter of a result."""

    along: bool  # whether its neighbours in memory differ in that letter
    size: expr.Index_


def last_of(n: Node, letter: str) -> Last | None:
    for x, places in zip(n.inputs, n.attrs["spec"].operands, strict=True):
        if any(a == letter for p in places for a, _ in p.terms):
            return Last(places[-1].letter == letter, expr.product(x.shape))
    return None


def ordered(x: Node, order: Order, products: set[Node]) -> Node | None:
    """permute(x, order), where that is a product computed in this order."""
    if x in products:
        return product_in(x, order)
    if x.op is RESHAPE:
        return reshaped(x, order, products)
    if x.op is PAD:
        below = ordered(x.inputs[0], order, products)
        return below and along_axes(make(PAD, permute(below, inverse(order)), **x.attrs)).inputs[0]
    if not x.op.elementwise:
        return None
    moved = [permute(y, order) if still(y) else ordered(y, order, products) for y in x.inputs]
    if all(map(still, x.inputs)) or None in moved:
        return None
    return make(x.op, *moved, **x.attrs)  # type: ignore[arg-type]


def product_in(x: Node, order: Order) -> Node | None:
    """The product with its letters in that order; none if the operand of the last one is better off with another."""
    few = few_channels(x)
    x = bordered(x) if few else x
    spec: Spec = x.attrs["spec"]
    out = tuple(spec.out[d] for d in order)
    if few:
        lines = out[-1] in (a for a, _ in spec.operands[0][-1].terms)
        return make(CONTRACT, *x.inputs, spec=spec._replace(out=out)) if lines else None
    before, after = last_of(x, spec.out[-1]), last_of(x, out[-1])
    if before is None or after is None:
        return None
    if not after.along and (before.along or not expr.at_least(expr.mul(before.size, TIMES) - after.size, 0)):
        return None
    return make(CONTRACT, *x.inputs, spec=spec._replace(out=out))


def reshaped(x: Node, order: Order, products: set[Node]) -> Node | None:
    """Of a reshape that brings axes of one element."""
    (y,) = x.inputs
    wide = [d for d, n in enumerate(x.shape) if n != 1]
    if [x.shape[d] for d in wide] != list(y.shape):
        return None
    below = ordered(y, [wide.index(d) for d in order if d in wide], products)
    return below and reshape(below, tuple(x.shape[d] for d in order))


__all__ = ["unturned"]
