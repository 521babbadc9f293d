"""shifts: a filter of few results, as one product for all its taps and the sum of what they give, shifted.

    x[h+i, w+j, c] k[i, j, c, o] -> y[h, w, o]      becomes
    k[i, j, c, o] x[u, v, c] -> p[i, j, o, u, v]    and    p[i, j, o, h+i, w+j] -> y[o, h, w], summed over i, j

With three results most of a vector of results would hold nothing. Here vectors are neighbours of the image, and each of its
elements is read once, not once for each tap: the last layer of what makes pictures, the gradient of a colour image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tinyflow.core import expr
from tinyflow.graph.node import Node, at_line, make
from tinyflow.ops.contraction import CONTRACT, Position, Spec
from tinyflow.ops.movement import permute

FEW = 8  # results of each place
DEEP = 16  # channels summed over: of fewer, what they give would be more than what is read


class Filter(NamedTuple):
    """Which operand is the image, and what letters are for."""

    image: int
    taps: list[str]
    columns: list[str]
    channels: list[str]


def shifts(node: Node) -> Node:
    found = few_results(node)
    if found is None:
        return node
    spec: Spec = node.attrs["spec"]
    size, places = spec.size, spec.operands[found.image]
    free = (a for a in map(chr, range(0x3B1, 0x3C9)) if a not in size)
    axes = [p.letter or next(free) for p in places]
    kept = [d for d, a in enumerate(axes) if a not in found.channels]
    image, filters = node.inputs[found.image], node.inputs[1 - found.image]

    whole = size | dict(zip(axes, image.shape, strict=True))
    out = (*found.taps, *found.columns, *(axes[d] for d in kept))
    operands = (spec.operands[1 - found.image], plain(axes))
    product = Spec(operands, out, tuple((a, whole[a]) for a in (*out, *found.channels)))
    given = at_line(node, make(CONTRACT, filters, image, spec=product))

    moved = (*plain([*found.taps, *found.columns]), *(places[d] for d in kept))
    order = [*found.columns, *(a for d in kept for a, _ in places[d].terms if a in spec.out)]
    total = Spec((moved,), tuple(order), tuple((a, size[a]) for a in (*order, *found.taps)))
    return at_line(node, permute(at_line(node, make(CONTRACT, given, spec=total)), [order.index(a) for a in spec.out]))


def few_results(node: Node) -> Filter | None:
    """What the letters are, where windows of one operand meet a filter with few results and many channels."""
    if node.op is not CONTRACT or len(node.inputs) != 2 or not node.dtype.is_floating or node.dtype.is_low:
        return None
    spec: Spec = node.attrs["spec"]
    size, seen = spec.size, [[a for p in x for a, _ in p.terms] for x in spec.operands]
    image = next((k for k, x in enumerate(spec.operands) if not all(p.letter for p in x)), 0)
    places, (inside, of_filter) = spec.operands[image], (seen[image], seen[1 - image])
    windows = [p for p in places if not p.letter]
    taps = [a for p in windows for a, _ in p.terms if a not in spec.out]
    columns = [a for a in spec.out if a not in inside]
    channels = [a for a in spec.folded if a not in taps]
    once = len(set(inside)) == len(inside) and all(p.letter for p in spec.operands[1 - image])
    shared = {*taps, *channels, *columns} == set(of_filter) and {*taps, *channels} <= set(inside)
    if not (windows and once and shared and all(p.divisor == 1 for p in windows)):
        return None
    counts = [expr.product(size[a] for a in names) for names in (taps, columns, channels)]
    if not all(isinstance(n, int) for n in (*counts, *size.values())):
        return None
    fits = counts[0] > 1 and 0 < counts[1] <= FEW and counts[2] >= DEEP  # type: ignore[operator]
    return Filter(image, taps, columns, channels) if fits else None


def plain(names: Sequence[str]) -> tuple[Position, ...]:
    return tuple(Position(((a, 1),)) for a in names)


__all__ = ["shifts"]
