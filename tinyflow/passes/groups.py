"""groups: narrow groups of a convolution, several of them as one.

    x[h+i, g, c] k[i, c, g, o] -> y[h, g, o]      becomes      x[h+i, p, C] K[i, C, p, O] -> y[h, p, O]

where g = (p, u), C = (u, c), O = (v, o), and K[i, (u, c), p, (v, o)] is k[i, c, (p, u), o] if u = v, else 0. Multiplications
with zero take lanes that held nothing, as long as the results of the groups fit a vector; and what is packed lies in pieces of
all their channels, which is most of the work where a group has few. Of the filter's gradient, what u and v differ in is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tinyflow.core.expr import mul
from tinyflow.graph.node import Dim, Node, at_line, make
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import CONTRACT, Position, Spec
from tinyflow.ops.functions import position
from tinyflow.ops.movement import expand, expand_dims, permute, reshape
from tinyflow.ops.reduction import sum_

LANES = 16
U, V = "which of x", "which of y"  # of the groups put together: letters that no spec has
PIECE = 30  # what a vector that is packed takes, counted in vectors that are multiplied


class Groups(NamedTuple):
    """Of the operands and the result, numbered: which is the filter; the letters of groups and of channels on its two sides;
    how many groups are one."""

    filter: int
    group: str
    x: str
    y: str
    together: int


def groups(node: Node) -> Node:
    found = narrow(node)
    if found is None:
        return node
    spec: Spec = node.attrs["spec"]
    inputs = [widened(x, names(p), found, k) for k, (x, p) in enumerate(zip(node.inputs, spec.operands, strict=True))]
    size, u = spec.size, found.together
    size |= {found.group: size[found.group] // u, found.x: size[found.x] * u, found.y: size[found.y] * u}
    result = at_line(node, make(CONTRACT, *inputs, spec=spec._replace(sizes=tuple(size.items()))))
    if found.filter == 2:
        result = diagonal(result, list(spec.out), found)
    return at_line(node, reshape(result, node.shape))


def narrow(node: Node) -> Groups | None:
    """Windows of one operand, groups of whose channels are neighbours, and a filter of few channels."""
    if node.op is not CONTRACT or len(node.inputs) != 2 or not node.dtype.is_floating:
        return None
    spec: Spec = node.attrs["spec"]
    letters: list[list[str | None]] = [*map(names, spec.operands), list(spec.out)]
    size = spec.size
    image = next((k for k in (0, 1) if None in letters[k]), None)
    if image is None or not all(isinstance(n, int) for n in size.values()):
        return None
    inside = {a for places in spec.operands for p in places if not p.letter for a, _ in p.terms}
    for g in spec.out:
        if not all(a.count(g) == 1 for a in letters):
            continue
        x = after(letters[image], g)
        filters = [k for k in (1 - image, 2) if x in letters[k]]
        y = after(letters[3 - image - filters[0]], g) if len(filters) == 1 else None
        if x is None or y is None or y not in letters[filters[0]] or y in letters[image] or {g, x, y} & inside:
            continue
        last = spec.out[-1]
        if last in (x, y) and size[last] != 1:
            u = best(*(size[a] for a in (g, x, last)))  # type: ignore[arg-type]
            return Groups(filters[0], g, x, y, u) if u > 1 else None
    return None


def best(count: int, channels: int, columns: int) -> int:
    """How many groups to put together: where packing and multiplying take least."""

    def cost(k: int) -> float:
        return (PIECE * -(-k * channels // LANES) + k * channels * -(-k * columns // LANES)) / k

    return min((k for k in range(1, max(min(count, LANES), 1) + 1) if count % k == 0), key=cost)


def widened(a: Node, letters: Sequence[str | None], found: Groups, number: int) -> Node:
    """An operand with the channels of several groups beside each other."""
    g, u = letters.index(found.group), found.together
    split = (*a.shape[:g], a.shape[g] // u, u, *a.shape[g + 1 :])
    if number != found.filter:
        return reshape(a, (*split[:g], split[g], u * split[g + 2], *split[g + 3 :]))
    axes: list[str | None] = [*letters[: g + 1], U, *letters[g + 1 :]]
    order = [a for a in axes if a != U]
    order.insert(order.index(found.x), U)
    a = permute(reshape(a, split), [axes.index(b) for b in order])
    at = order.index(found.y)
    order.insert(at, V)
    a = expand_dims(a, at)
    a = expand(a, (*a.shape[:at], u, *a.shape[at + 1 :]))
    return joined(e.where(same(a, order), a, 0.0), order)


def diagonal(a: Node, letters: Sequence[str], found: Groups) -> Node:
    """The filter's gradient, without what it has for channels of two groups."""
    u, order, shape = found.together, list(letters), list(a.shape)
    for one, before in ((U, found.x), (V, found.y)):
        k = order.index(before)
        order.insert(k, one)
        shape[k : k + 1] = [u, shape[k] // u]
    a = reshape(a, tuple(shape))
    a = sum_(e.where(same(a, order), a, 0.0), order.index(V))
    order.remove(V)
    new = [b for b in order if b != U]
    new.insert(new.index(found.group) + 1, U)
    return permute(a, [order.index(b) for b in new])


def same(a: Node, order: Sequence[str | None]) -> Node:
    return e.equal(*(position(a.shape, order.index(x)) for x in (U, V)))


def joined(a: Node, order: Sequence[str | None]) -> Node:
    """u and v made one with the axes that follow them."""
    shape: list[Dim] = []
    for n, before in zip(a.shape, [None, *order], strict=False):
        shape[-1:] = [mul(shape[-1], n)] if before in (U, V) else [*shape[-1:], n]
    return reshape(a, tuple(shape))


def names(places: Sequence[Position]) -> list[str | None]:
    """The letter of each axis; None for a window."""
    return [p.letter for p in places]


def after(letters: Sequence[str | None], g: str) -> str | None:
    k = letters.index(g) + 1
    return letters[k] if k < len(letters) else None
