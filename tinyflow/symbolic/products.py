"""Products: of matrices, of stacks of them, over any pairs of axes."""

from __future__ import annotations

from typing import Any

from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import product as size_of
from tinyflow.graph.node import Node, shape_text
from tinyflow.ops import contraction
from tinyflow.ops.movement import expand_dims, permute, reshape, squeeze
from tinyflow.symbolic.table import combine, integers
from tinyflow.symbolic.tensor import Tensor


def matmul(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, adjoint_a: bool = False, adjoint_b: bool =
    False, a_is_sparse: bool = False, b_is_sparse: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The matrix product of the last two axes: (..., m, k) @ (..., k, n) -> (..., m, n). ShapeError if the k differ."""

    def product(x: Node, y: Node) -> Node:
        if x.ndim < 2 or y.ndim < 2:
            raise ShapeError(
                f"matmul({x.dtype} {shape_text(x.shape)}, {y.dtype} {shape_text(y.shape)}): both want two axes at least; "
                "tf.expand_dims(v, 1) makes a vector a column, tf.tensordot(a, v, 1) multiplies by a vector"
            )
        return contraction.matmul(x, y, bool(transpose_a or adjoint_a), bool(transpose_b or adjoint_b))

    return combine("MatMul", product, ("a", "b"), (a, b), name)


def batch_matmul(x: Any, y: Any, adj_x: bool = False, adj_y: bool = False, name: str | None = None) -> Tensor:
    """The matrix products of stacks of matrices."""
    return matmul(x, y, adj_x, adj_y, name=name or "BatchMatMul")


def matvec(
    a: Any, b: Any, transpose_a: bool = False, adjoint_a: bool = False, a_is_sparse: bool = False, b_is_sparse: bool =
    False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Matrix times vector: (..., m, k), (..., k) -> (..., m)."""
    turned = bool(transpose_a or adjoint_a)
    return combine(
        "MatVec",
        lambda x, y: squeeze(contraction.matmul(x, expand_dims(y, -1), turned), (-1,)),
        ("a", "b"),
        (a, b),
        name or "MatVec",
    )


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """The sum of products over pairs of axes: axes=1 is the last of a with the first of b; or give ([of a], [of b])."""
    pair = (
        integers(axes, "the axes of tensordot")
        if not isinstance(axes, list | tuple)
        else [integers(x, "the axes of tensordot") for x in axes]
    )

    def product(x: Node, y: Node) -> Node:
        ours, theirs = (
            (list(range(x.ndim - pair[0], x.ndim)), list(range(pair[0])))
            if isinstance(pair[0], int) and len(pair) == 1
            else pair
        )
        ours, theirs = [d % x.ndim for d in ours], [d % y.ndim for d in theirs]
        keep_x, keep_y = [d for d in range(x.ndim) if d not in ours], [d for d in range(y.ndim) if d not in theirs]
        rows = matrix(permute(x, (*keep_x, *ours)), len(keep_x))
        columns = matrix(permute(y, (*theirs, *keep_y)), len(theirs))
        return reshape(
            contraction.matmul(rows, columns), (*(x.shape[d] for d in keep_x), *(y.shape[d] for d in keep_y))
        )

    return combine("Tensordot", product, ("a", "b"), (a, b), name or "Tensordot")


def matrix(x: Node, rows: int) -> Node:
    """The first axes joined, and the others."""
    return reshape(x, (size_of(x.shape[:rows]), size_of(x.shape[rows:])))


def einsum(equation: str, *inputs: Any, **kwargs: Any) -> Tensor:
    """Einstein's summation: einsum("bij,bjk->bik", a, b). Letters that are absent on the right are summed over."""
    text = equation.replace(" ", "")
    if "." in text:
        raise ValueError(f"einsum({equation!r}): write every axis as a letter instead of '...'")
    if "->" not in text:
        count = [a for a in text if a.isalpha()]
        text += "->" + "".join(sorted(a for a in set(count) if count.count(a) == 1))
    left, out = text.split("->")
    terms = left.split(",")
    if len(terms) != len(inputs):
        raise ValueError(f"einsum({equation!r}) has {len(terms)} operands, and was given {len(inputs)}")

    def total(*xs: Node) -> Node:
        nodes, names = list(xs), list(terms)
        while len(nodes) > 2:  # two by two, from the left
            later = set("".join(names[2:]) + out)
            joined = "".join(dict.fromkeys(a for a in names[0] + names[1] if a in later))
            nodes[:2] = [contraction.einsum(f"{names[0]},{names[1]}->{joined}", *nodes[:2])]
            names[:2] = [joined]
        return contraction.einsum(f"{','.join(names)}->{out}", *nodes)

    return combine("Einsum", total, terms, inputs, kwargs.get("name") or "einsum")
