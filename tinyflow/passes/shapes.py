"""shapes: sizes that ops assume to be equal become one.

Two placeholders of unknown length that meet in an addition must be equally long (or one of them 1, which only running
can tell). The assumption makes one loop of both; it is checked when arrays are given.

Other rules, that a slice lies within its operand, that a reshape keeps the number of elements, are asked again with the
sizes of a run: native code touches no memory outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Dim, Expr, is_found
from tinyflow.graph.node import Dim as Size
from tinyflow.graph.node import Node, Shape, call_text, is_static, shape_text, substitute, with_all_bodies
from tinyflow.ops.contraction import CONTRACT
from tinyflow.ops.movement import CONCAT
from tinyflow.ops.scan import SCAN


def assumed_equal(roots: Sequence[Node]) -> dict[Expr, Size]:
    """Symbolic dimension -> what stands for it: a number, or the first of those that must equal it."""
    parent: dict[Expr, Size] = {}

    def find(d: Size) -> Size:
        while isinstance(d, Expr) and d in parent:
            d = parent[d]
        return d

    def join(a: Size, b: Size) -> None:
        a, b = find(a), find(b)
        if a is b or (isinstance(a, int) and isinstance(b, int)) or is_found(a) or is_found(b):
            return
        if isinstance(b, int):
            a, b = b, a
        if isinstance(b, Dim):
            parent[b] = a
        elif isinstance(a, Dim):
            parent[a] = b

    for node in with_all_bodies(roots):
        for a, b in pairs(node):
            if a is not b:
                join(a, b)
    return {d: find(d) for d in parent}


def pairs(node: Node) -> list[tuple[Size, Size]]:
    """Sizes that one op needs to be equal."""
    if node.op.elementwise or node.op.name in ("merge", "assign"):
        shapes = [x.shape for x in node.inputs if x.ndim == node.ndim]
        return [(a, b) for s in shapes[1:] for a, b in zip(shapes[0], s, strict=True)]
    if node.op is CONTRACT:
        size = node.attrs["spec"].size
        return [
            (n, size[p.letter])
            for x, places in zip(node.inputs, node.attrs["spec"].operands, strict=True)
            for n, p in zip(x.shape, places, strict=True)
            if p.letter
        ]
    if node.op is SCAN:
        loop = node.attrs["loop"]
        return [
            *((x.shape[0], loop.length) for x in loop.parts(node.inputs)[1]),
            *(p for x, a in zip(node.inputs, loop.arguments, strict=True) for p in zip(x.shape[x.ndim - a.ndim :], a.shape, strict=True)),
            *(p for a, b in zip(loop.states, loop.new, strict=True) for p in zip(a.shape, b.shape, strict=True)),
        ]  # fmt: skip
    if node.op is CONCAT:
        first, axis = node.inputs[0].shape, node.attrs["axis"]
        return [
            (a, b) for x in node.inputs[1:] for d, (a, b) in enumerate(zip(first, x.shape, strict=True)) if d != axis
        ]
    return []


FIT_ALWAYS = (
    "sum",
    "prod",
    "max",
    "min",
    "argmax",
    "argmin",
    "permute",
    "pad",
    "switch",
    "gather",
    "scatter_add",
    "argsort",
    "cumsum",
    "cumprod",
    "cummax",
    "cummin",
)


def undecided(roots: Sequence[Node]) -> list[Node]:
    """The nodes of which only the sizes of a run tell whether their operands fit."""
    return [n for n in with_all_bodies(roots) if n.inputs and not decided(n)]


def decided(node: Node) -> bool:
    shapes = [x.shape for x in node.inputs]
    alike = node.op.elementwise and all(s == shapes[0] for s in shapes)
    return alike or node.op.name in FIT_ALWAYS or all(map(is_static, (*shapes, node.shape)))


def check_fit(nodes: Iterable[Node], sizes: Mapping[Expr, int]) -> None:
    """The shape rules again, with numbers for sizes: an error that names the op and the line if one does not hold."""
    for node in nodes:
        shapes = [substitute(x.shape, sizes) for x in node.inputs]
        want = substitute(tuple(node.shape), sizes)
        try:
            got = node.op.shape(*shapes, **{k: substitute(v, sizes) for k, v in node.attrs.items()})
        except ShapeError as e:
            raise ShapeError(misfit(node, shapes, str(e))) from None
        if tuple(got) != want or any(n < 0 for n in want):
            raise ShapeError(misfit(node, shapes, f"the result has shape {shape_text(got)}, not {shape_text(want)}"))


def misfit(node: Node, shapes: Sequence[Shape], why: str) -> str:
    return f"{call_text(node.op, node.inputs)} ({node.where}), of {' and '.join(map(shape_text, shapes))} in this run: {why}"
