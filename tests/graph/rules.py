"""What a rewriting rule must keep: both sides have one value, and the rule fires on its own left side."""

from __future__ import annotations

import itertools

import numpy as np

from tests.graph.rows import value
from tinyflow.core.dtypes import DType
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Node
from tinyflow.ops.leaf import placeholder
from tinyflow.passes.rewrite import WILD, Rule, fill

INF, NAN, TINY, HUGE = np.inf, np.nan, 1e-30, 1e30
FLOATS = [0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 7.25, TINY, -TINY, HUGE, -HUGE, INF, -INF, NAN]
INTEGERS = [0, 1, 2, 3, 7, 100, 127, 200, 255]


def values_of(dtype: DType) -> np.ndarray:
    """Numbers that a type has: special ones, and for integers the ends of the range."""
    if dtype.is_floating:
        return np.array(FLOATS, dtype.numpy)
    ends = np.iinfo(dtype.numpy)
    return np.array([*INTEGERS, ends.min, ends.max, *([] if dtype.kind == "u" else [-1, -2, -50])]).astype(dtype.numpy)


def left_side(rule: Rule, dtype: DType) -> tuple[Node, dict[Node, np.ndarray]] | None:
    """The rule's left side on placeholders that hold every tuple of values; None where its ops refuse the type."""
    grid = np.array(list(itertools.product(values_of(dtype), repeat=2)), dtype.numpy).T
    like = placeholder(dtype, grid.shape[1:], "like")
    fed = {placeholder(dtype, like.shape, w.label): a for w, a in zip(WILD, grid, strict=False)}
    try:
        return fill(rule.left, dict(zip(WILD, fed, strict=False)), like), fed
    except (ShapeError, OverflowError):  # uint8 has no -1
        return None


def sides(rule: Rule, dtype: DType) -> tuple[Node, Node, dict[Node, np.ndarray]] | None:
    made = left_side(rule, dtype)
    if made is None:
        return None
    left, fed = made
    return left, fill(rule.right, dict(zip(WILD, fed, strict=False)), left), fed


def check_exact(rule: Rule, dtype: DType) -> bool:
    """Both sides are equal to the bit, up to the sign of zero. False where the type is not the rule's."""
    made = sides(rule, dtype)
    if made is None:
        return False
    left, right, fed = made
    assert (left.shape, left.dtype) == (right.shape, right.dtype)
    np.testing.assert_array_equal(value(right, fed), value(left, fed))
    return True


def check_stable(rule: Rule, dtype: DType) -> bool:
    """Wherever the left side is finite, the right side is near it."""
    made = sides(rule, dtype)
    if made is None:
        return False
    left, right, fed = made
    a, b = value(left, fed), value(right, fed)
    known, eps = np.isfinite(a), 8 * float(np.finfo(dtype.numpy).eps)
    assert np.count_nonzero(known) > 10
    np.testing.assert_allclose(b[known], a[known], rtol=eps, atol=eps)
    return True
