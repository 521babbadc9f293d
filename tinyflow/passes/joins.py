"""joins: a sum of pieces that lie beside each other is a concatenation, put in the order that its reader wants.

    pad(a) + pad(b) + pad(c)   ->  concat(a, b, c)                      where each element is in one piece
    permute(concat(a, b))      ->  concat(permute(a), permute(b))

Differentiation writes the first for a value that was cut into pieces, and the second where its axes were turned before:
the queries, keys and values of one product. What makes the pieces can then store each where it belongs.
"""

from __future__ import annotations

from tinyflow.graph.node import Dim, Node, at_line, is_static
from tinyflow.graph.op import lookup
from tinyflow.ops.movement import CONCAT, PAD, PERMUTE, RESHAPE, concat, permute, reshape
from tinyflow.passes.rewrite import trace

ADD = lookup("add")


def joins(node: Node) -> Node:
    new = node
    if node.op is ADD:
        new = joined(node)
    elif node.op is PERMUTE and node.inputs[0].op is CONCAT:
        below, order = node.inputs[0], node.attrs["order"]
        new = concat([turned(x, order) for x in below.inputs], order.index(below.attrs["axis"]))
    if new is not node:
        trace("joins", node, new)
    return at_line(node, new)


def joined(node: Node) -> Node:
    """A sum of pads that fill their axis without a gap; the sum itself, if it is another one."""
    pieces: list[Node] = []
    stack = [node]
    while stack:
        x = stack.pop()
        if x.op is ADD:
            stack += x.inputs
        elif x.op is PAD and x.attrs["value"] == 0 and not any(x.attrs["interior"]) and is_static(x.shape):
            pieces.append(x)
        else:
            return node
    axes = {d for x in pieces for d, ends in enumerate(zip(x.attrs["low"], x.attrs["high"])) if any(ends)}
    if len(axes) != 1:
        return node
    (axis,) = axes
    pieces.sort(key=lambda x: x.attrs["low"][axis])
    end: Dim = 0
    for x in pieces:
        if x.attrs["low"][axis] != end:
            return node
        end = end + x.inputs[0].shape[axis]
    return concat([x.inputs[0] for x in pieces], axis) if end == node.shape[axis] else node


def turned(x: Node, order: tuple[int, ...]) -> Node:
    """The permutation, of what has more axes than the reshape that only adds axes of size 1."""
    if x.op is not RESHAPE or [n for n in x.shape if n != 1] != [n for n in x.inputs[0].shape if n != 1]:
        return permute(x, order)
    (y,) = x.inputs
    wide = [d for d, n in enumerate(x.shape) if n != 1]
    own = [d for d, n in enumerate(y.shape) if n != 1]
    before = [own[wide.index(d)] for d in order if d in wide]
    alone = [d for d, n in enumerate(y.shape) if n == 1]
    return reshape(permute(y, (*alone, *before)), tuple(x.shape[d] for d in order))


__all__ = ["joins"]
