"""layout: axes are put in another order as late as possible, so that a network keeps the order of its contractions.

A convolution computes with channels last. A program that wants them first permutes before and after each one; here the
permutation after one sinks below what follows,

    relu(permute(y) + permute(z))  ->  permute(relu(y + z))

until it meets the one before the next and both are gone. It stops at leaves in the other order: so an optimizer's
update keeps to the order of its variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinyflow.graph.node import Dim, Node, at_line, make
from tinyflow.ops.movement import CONCAT, PAD, PERMUTE, RESHAPE, SLICE, inverse, permute, reshape
from tinyflow.ops.pooling import POOL_ARG, POOL_MAX, POOL_PICK, POOL_SUM, RESAMPLE, SPREAD
from tinyflow.ops.reduction import ARGMAX, ARGMIN, MAX, MIN, PROD, SUM
from tinyflow.passes.simplify import permute_of

Order = tuple[int, ...]
DEEP = 8  # how far is looked for what lies in memory


def layout(node: Node) -> Node:
    """One node, its inputs being done already: the permutation that it reads comes after it, if it can."""
    if node.op is PERMUTE:
        return at_line(node, permute_of(node))
    sink = SINK.get(node.op, elementwise if node.op.elementwise else None)
    if sink is None or not any(x.op is PERMUTE for x in node.inputs):
        return node
    return at_line(node, sink(node))


def common_order(node: Node) -> Order | None:
    """The order in which all inputs are read that have one of their own; None if they disagree."""
    orders = {x.attrs["order"] for x in node.inputs if x.op is PERMUTE}
    others = [x for x in node.inputs if x.op is not PERMUTE]
    if len(orders) != 1 or any(lies_in_memory(x) for x in others):
        return None
    return orders.pop()  # type: ignore[no-any-return]


def lies_in_memory(x: Node, deep: int = DEEP) -> bool:
    """Whether a value is read, element by element, from a leaf, whose order is not ours to choose."""
    if x.op.kind == "leaf":
        return x.shape != () and x.op.name != "constant"
    return bool(deep) and (x.op.elementwise or x.op is RESHAPE) and any(lies_in_memory(y, deep - 1) for y in x.inputs)


def before(x: Node, order: Order) -> Node:
    """What x is a permutation of."""
    return x.inputs[0] if x.op is PERMUTE else permute(x, inverse(order))


def elementwise(node: Node) -> Node:
    order = common_order(node)
    if order is None:
        return node
    return permute(make(node.op, *(before(x, order) for x in node.inputs), **node.attrs), order)


def concatenation(node: Node) -> Node:
    order = common_order(node)
    if order is None:
        return node
    return permute(make(CONCAT, *(before(x, order) for x in node.inputs), axis=order[node.attrs["axis"]]), order)


def reduction(node: Node) -> Node:
    (x,) = node.inputs
    order, axes = x.attrs["order"], node.attrs["axes"]
    folded = tuple(sorted(order[d] for d in axes))
    kept = [d for d in range(x.ndim) if d not in folded]
    return permute(
        make(node.op, x.inputs[0], axes=folded), [kept.index(order[d]) for d in range(x.ndim) if d not in axes]
    )


def pooling(node: Node) -> Node:
    order = common_order(node)
    if order is None:
        return node
    windows = node.attrs["windows"]
    windows = windows._replace(axes=tuple(order[d] for d in windows.axes))
    return permute(make(node.op, *(before(x, order) for x in node.inputs), windows=windows), order)


def resampling(node: Node) -> Node:
    x, *tables = node.inputs
    if x.op is not PERMUTE:
        return node
    order = x.attrs["order"]
    return permute(make(RESAMPLE, x.inputs[0], *tables, axis=order[node.attrs["axis"]]), order)


def along_axes(node: Node) -> Node:
    """Slices and pads: each attribute that is a tuple has an entry for every axis."""
    (x,) = node.inputs
    order = x.attrs["order"]
    back = inverse(order)
    attrs = {k: tuple(v[d] for d in back) if isinstance(v, tuple) else v for k, v in node.attrs.items()}
    return permute(make(node.op, x.inputs[0], **attrs), order)


def reshaping(node: Node) -> Node:
    """Where axes that are joined are neighbours in memory too."""
    (x,) = node.inputs
    source, order = x.inputs[0], x.attrs["order"]
    groups = matched(x.shape, node.shape)
    if groups is None:
        return node
    wide = [d for d in range(source.ndim) if source.shape[d] != 1]
    placed: list[tuple[int, list[int]]] = []
    for ins, outs in groups:
        at = [wide.index(order[d]) for d in ins if x.shape[d] != 1]
        if at != list(range(at[0], at[0] + len(at))) if at else False:
            return node
        placed.append((at[0] if at else source.ndim, outs))
    new = [d for _, outs in sorted(placed) for d in outs]
    return permute(reshape(source, tuple(node.shape[d] for d in new)), [new.index(d) for d in range(node.ndim)])


def matched(old: Sequence[Dim], new: Sequence[Dim]) -> list[tuple[list[int], list[int]]] | None:
    """Groups of axes with as many elements in both shapes, in order; None where that cannot be told."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and old[i] == 1:
            groups.append(([i], []))
            i += 1
            continue
        if j < len(new) and new[j] == 1:
            groups.append(([], [j]))
            j += 1
            continue
        if i == len(old) or j == len(new):
            return None
        a, b = old[i], new[j]
        first = i, j
        i, j = i + 1, j + 1
        while a != b:
            if not (isinstance(a, int) and isinstance(b, int)) or not (a and b):
                return None
            if a < b and i < len(old):
                a, i = a * old[i], i + 1
            elif b < a and j < len(new):
                b, j = b * new[j], j + 1
            else:
                return None
        groups.append((list(range(first[0], i)), list(range(first[1], j))))
    return groups


SINK: dict[object, Callable[[Node], Node]] = {
    SUM: reduction, PROD: reduction, MAX: reduction, MIN: reduction, ARGMAX: reduction, ARGMIN: reduction,
    SLICE: along_axes, PAD: along_axes, CONCAT: concatenation, RESHAPE: reshaping, RESAMPLE: resampling,
    POOL_MAX: pooling, POOL_ARG: pooling, POOL_SUM: pooling, POOL_PICK: pooling, SPREAD: pooling,
}  # fmt: skip
