"""What a row of the table of ops must keep, as functions that raise AssertionError: the tests call them on every row
and sample, and the tests of the tests call them on rows that are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyflow.ops  # noqa: F401  fills the table
from tinyflow.core.dtypes import DType, bool_, float32, float64
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.evaluate import DEAD, bind_dims, evaluate
from tinyflow.graph.node import Node, make, substitute, toposort
from tinyflow.graph.op import TABLE, Op, Sample
from tinyflow.ops.contraction import Spec
from tinyflow.ops.elementwise import mul
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.pooling import Windows
from tinyflow.ops.reduction import sum_
from tinyflow.passes.gradient import gradients

STEP = 1e-5  # of central differences in float64: their error is about STEP**2 from above, 1e-16 / STEP from below
CLOSE = dict(rtol=2e-5, atol=1e-6)


def cases(wanted: Callable[[Op], Any] = lambda op: True) -> list[Any]:
    """Every row and sample, as parameters of a test."""
    return [
        pytest.param(op, s, id=f"{op}-{k}{described(s)}")
        for op in TABLE.values()
        if wanted(op)
        for k, s in enumerate(op.samples)
    ]


def described(sample: Sample) -> str:
    """The operands' shapes and types, for the name of a test."""
    inputs = list(map(filled, sample.inputs))
    shapes = "".join("-" + ("x".join(map(str, shape)) or "scalar") for shape, *_ in inputs)
    return shapes + "".join(f"-{dtype}" for dtype in dict.fromkeys(dtype for _, dtype, *_ in inputs))


def filled(given: Any) -> tuple[tuple[int, ...], DType, float, float]:
    """An input of a sample with all that it may leave out."""
    return given if len(given) == 4 and isinstance(given[0], tuple) else (given, float32, -1.0, 1.0)


def random_array(shape: tuple[int, ...], dtype: DType, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    if dtype is bool_:
        return rng.integers(0, 2, shape).astype(bool)
    drawn = (
        rng.uniform(low, high, shape) if dtype.is_floating else rng.integers(int(low), int(high), shape, endpoint=False)
    )
    return np.asarray(drawn).astype(dtype.numpy)


def operands(sample: Sample, double: bool = False, seed: int = 0) -> dict[Node, np.ndarray]:
    """A placeholder and an array for each input of a sample; `double` makes all floats float64."""
    rng = np.random.default_rng(seed)
    fed = {}
    for k, (shape, dtype, low, high) in enumerate(map(filled, sample.inputs)):
        dtype = float64 if double and dtype is float32 else dtype
        fed[placeholder(dtype, shape, "abcdefgh"[k])] = random_array(shape, dtype, low, high, rng)
    return fed


def attributes(sample: Sample, double: bool = False) -> dict[str, Any]:
    return {k: float64 if double and v is float32 else v for k, v in sample.attrs.items()}


def apply(op: Op, sample: Sample, double: bool = False) -> tuple[Node, dict[Node, np.ndarray]]:
    """The row applied to placeholders, and what to feed them."""
    fed = operands(sample, double)
    return make(op, *fed, **attributes(sample, double)), fed


# ------------------------------------------------------------------------------------------ shape and type


def check_shape_and_dtype(op: Op, sample: Sample) -> None:
    """The rules foretell what the numpy column gives."""
    node, fed = apply(op, sample)
    with np.errstate(all="ignore"):
        got = np.asarray(op.numpy(*fed.values(), **sample.attrs))
    assert node.shape == got.shape
    assert node.dtype.numpy == got.dtype


# ------------------------------------------------------------------------------------------ gradients


def weighted(y: Node, seed: int) -> tuple[Node, dict[Node, np.ndarray]]:
    """sum(w * y) for random weights: a scalar whose gradient tells all elements of y apart."""
    w = placeholder(float64, y.shape, "w")
    return sum_(mul(w, y)), {w: np.random.default_rng(seed).uniform(-1, 1, y.shape)}


def value(node: Node, fed: dict[Node, np.ndarray]) -> np.ndarray:
    return evaluate([node], fed)[node]


def number(node: Node | None, fed: dict[Node, np.ndarray]) -> Any:
    """A gradient's value: where there is none, and on the side of a switch that is dead, it is 0."""
    got = 0.0 if node is None else value(node, fed)
    return 0.0 if got is DEAD else got


def check_slope(y: Node, x: Node, gx: Node | None, fed: dict[Node, np.ndarray], seed: int) -> None:
    """<gx, v> is the slope of the scalar y along a random direction v of x; no gradient means no slope."""
    v = np.random.default_rng(seed).uniform(-1, 1, fed[x].shape)
    at = lambda t: float(number(y, {**fed, x: fed[x] + t * v}))
    slope = (at(STEP) - at(-STEP)) / (2 * STEP)
    told = float(np.sum(number(gx, fed) * v))
    scale = max(1.0, abs(float(number(y, fed))), np.sqrt(v.size))
    np.testing.assert_allclose(told, slope, rtol=CLOSE["rtol"], atol=CLOSE["atol"] * scale)


def check_gradient(op: Op, sample: Sample) -> None:
    """The gradient against central differences; then the gradient's own gradient, by every operand."""
    node, fed = apply(op, sample, double=True)
    if not node.dtype.is_floating:
        return
    y, weights = weighted(node, 1)
    fed = fed | weights
    xs = [x for x in fed if x.dtype.is_floating and x not in weights]
    for x, gx in zip(xs, gradients([y], xs), strict=True):
        check_slope(y, x, gx, fed, 2)
        if gx is None:
            continue
        assert (gx.shape, gx.dtype) == (x.shape, x.dtype)
        slope, weights = weighted(gx, 3)
        for x2, gx2 in zip(xs, gradients([slope], xs), strict=True):
            check_slope(slope, x2, gx2, fed | weights, 4)


# ------------------------------------------------------------------------------------------ sizes known when running


def symbolic(op: Op, sample: Sample) -> tuple[Node, dict[Node, np.ndarray]]:
    """The row on placeholders whose sizes are symbols, one for each size above 1. A block's last two axes are known."""
    names: dict[int, Any] = {}
    fed = {}
    for x, a in operands(sample).items():
        known = x.ndim - 2 if op.kind == "block" else x.ndim
        lead = (n if n == 1 else names.setdefault(n, fresh_dim()) for n in x.shape[:known])
        fed[placeholder(x.dtype, (*lead, *x.shape[known:]), x.label)] = a
    return make(op, *fed, **{k: symbolic_attribute(k, v, names) for k, v in sample.attrs.items()}), fed


def symbolic_attribute(name: str, value: Any, names: dict[int, Any]) -> Any:
    """Attributes that are sizes, in terms of the symbols."""
    if isinstance(value, Spec):
        plain = {p.letter for places in value.operands for p in places}
        return value._replace(sizes=tuple((a, names.get(n, n) if a in plain else n) for a, n in value.sizes))
    if isinstance(value, Windows):
        return value._replace(**{k: tuple(names.get(n, n) for n in getattr(value, k)) for k in ("sizes", "out")})
    if name == "shape" and any(n in names for n in value):
        return tuple(names.get(n, n) for n in value)
    return value


def check_dynamic(op: Op, sample: Sample) -> None:
    """Sizes known only when running give the values that known ones give."""
    static, fed = apply(op, sample)
    dynamic, fed_dynamic = symbolic(op, sample)
    assert substitute(dynamic.shape, bind_dims(fed_dynamic)) == static.shape
    np.testing.assert_array_equal(value(dynamic, fed_dynamic), value(static, fed))


def count(*roots: Node) -> int:
    return len(toposort(roots))
