"""backward: which nodes of a graph are the gradient of which. It is found by differentiating again.

Equal nodes are one node, so a gradient that is in the graph already is made again as the very same nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from tinyflow.core.config import config
from tinyflow.graph.node import Node, make, rewrite, toposort
from tinyflow.graph.show import equations
from tinyflow.ops.functions import ones
from tinyflow.ops.leaf import placeholder
from tinyflow.passes.gradient import gradients
from tinyflow.passes.simplify import stabilise

MOST_NODES, MOST_LOSSES = 3000, 40  # beyond these no gradients are looked for: a page is not worth the wait


class Gradient(NamedTuple):
    loss: Node
    value: Node  # d loss / d node
    made: list[Node]  # what the row of the node's op added to the graph to carry it to the inputs


def backward(order: Sequence[Node]) -> dict[Node, Gradient]:
    """Node -> its gradient, for every node of a graph (in topological order) whose gradient the graph has too."""
    present = set(order)
    found: dict[Node, Gradient] = {}
    if len(order) <= MOST_NODES:
        with config(DEBUG=0):
            for loss in losses(order, present):
                found = gradients_of(loss, present) | found
    return found


def losses(order: Sequence[Node], present: set[Node]) -> list[Node]:
    """The tensors that may have been differentiated, the last first: their seed, ones of their shape, is in the graph, and
    so is what the op's row makes of it."""

    def may(n: Node) -> bool:
        if (
            not n.dtype.is_floating
            or not n.inputs
            or n.op.grad is None
            or (seed := ones(n.shape, n.dtype)) not in present
        ):
            return False
        made = row_nodes(n, seed)
        return not made or any(m in present and m.uid > n.uid for m in made)

    return list(islice((n for n in reversed(order) if may(n)), MOST_LOSSES))


def gradients_of(loss: Node, present: set[Node]) -> dict[Node, Gradient]:
    """What of the loss's gradients is in the graph; nothing unless they reach a leaf there."""
    stable = rewrite([loss], stabilise)  # as the pass does before it differentiates
    order = toposort([stable[loss]])
    grads = dict(zip(order, gradients([stable[loss]], order), strict=True))
    if not any(g in present and g.uid > loss.uid for y, g in grads.items() if g is not None and not y.inputs):
        return {}
    images = set(stable.values())
    forward = {*stable, *order}
    found: dict[Node, Gradient] = {}
    for node, y in stable.items():
        g = grads.get(y)
        if g in present and g is not None:
            made = dict.fromkeys(m for z in replaced(node, stable, images) for m in row_nodes(z, grads.get(z)))
            found[node] = Gradient(loss, g, [m for m in made if m in present and m not in forward])
    return found


def replaced(node: Node, stable: Mapping[Node, Node], images: set[Node]) -> list[Node]:
    """What stands for a node in the stable form: itself, or what a rule made of it."""
    y = stable[node]
    order = toposort([y], stop=lambda z: z is not y and z in images)
    return [z for z in order if z is y or z not in images]


def row_nodes(y: Node, g: Node | None) -> list[Node]:
    """The nodes that the op's row makes of the gradient g of y."""
    if g is None or y.op.grad is None or not y.inputs:
        return []
    known = {g, y, *y.inputs}
    roots = [p for p in parts(y, g) if p is not None]
    return [n for n in toposort(roots, stop=known.__contains__) if n not in known]


def parts(y: Node, g: Node) -> list[Node | None]:
    """What the op's row gives each input; a row may leave the making of a part to who wants it."""
    assert y.op.grad is not None
    found = y.op.grad(g, y, *y.inputs, **y.attrs)
    return [p() if callable(p) else p for p in (found if isinstance(found, tuple) else (found,))]


def row_text(node: Node) -> list[str]:
    """The gradient that the node's op brings, as equations over g (the gradient of the output y) and the operands."""
    if node.op.grad is None or not node.inputs:
        return []
    letters = ["x"] if len(node.inputs) == 1 else [a for a in "abcdefhijklmnopq" if a not in "gy"]
    if len(node.inputs) > len(letters):
        return []
    operands = [placeholder(x.dtype, x.shape, a) for x, a in zip(node.inputs, letters, strict=False)]
    y = make(node.op, *operands, **node.attrs)
    g = placeholder(y.dtype, y.shape, "g")
    names = {g: "g", y: "y"} | {x: str(x.attrs["name"]) for x in operands}
    results = {f"d{names[x]}": p for x, p in zip(operands, parts(y, g), strict=True) if p is not None}
    return equations(results, names)
