"""Reductions and what is made of them: sums, extrema with their places, moments, norms, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tinyflow.core.dtypes import bool_, int64
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import movement as m
from tinyflow.ops import reduction as r
from tinyflow.torch.dtypes import core_of
from tinyflow.torch.errors import DimError
from tinyflow.torch.functions import install
from tinyflow.torch.pointwise import floats, maximum, minimum, truth
from tinyflow.torch.shapes import normal_dim


class ValuesAndIndices(NamedTuple):
    """Extrema and where they are."""

    values: Any
    indices: Any

    def __repr__(self) -> str:
        return f"torch.return_types.{type(self).__name__}(\nvalues={self.values!r},\nindices={self.indices!r})"


def returned(kind: str) -> type[ValuesAndIndices]:
    return type(kind, (ValuesAndIndices,), {})


TYPES = {
    kind: returned(kind) for kind in ("max", "min", "sort", "topk", "median", "kthvalue", "mode", "cummax", "cummin")
}


def axes(dim: Any, x: Node) -> tuple[int, ...] | None:
    """The axes that `dim` names; None for all."""
    if dim is None or (isinstance(dim, tuple | list) and not dim):
        return None
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    chosen = tuple(normal_dim(d, x.ndim) for d in dims)
    if len(set(chosen)) != len(chosen):
        raise RuntimeError(f"dim {chosen[-1]} appears multiple times in the list of dims")
    return chosen if x.ndim else ()


def summed(x: Node, dtype: Any) -> Node:
    """Integers and bools are summed as int64."""
    if dtype is not None:
        return e.cast(x, core_of(dtype))
    return x if x.dtype.is_floating else e.cast(x, int64)


def sum_(input: Node, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    """The sum over some axes; over all if none is named."""
    return r.sum_(summed(input, dtype), axes(dim, input), keepdim)


def prod(input: Node, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    """The product over one axis, or over all."""
    return r.prod(summed(input, dtype), axes(dim, input), keepdim)


def mean(input: Node, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    """The mean over some axes, of floats."""
    x = input if dtype is None else e.cast(input, core_of(dtype))
    if not x.dtype.is_floating:
        names = {"int64": "Long", "int32": "Int", "uint8": "Byte", "bool": "Bool"}
        raise RuntimeError(f"mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: {names[x.dtype.name]}")  # fmt: skip
    return r.mean(x, axes(dim, x), keepdim)


def correction_of(unbiased: bool | None, correction: Any) -> int:
    return (1 if unbiased is None or unbiased else 0) if correction is None else int(correction)


def var(input: Node, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Node:
    """The variance: sum (x - mean)^2 / (n - 1), or / n with unbiased=False."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return f.variance(input, axes(dim, input), keepdim, correction_of(unbiased, correction))


def std(input: Node, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Node:
    """The root of the variance; its gradient is 0 where it is 0."""
    return safe_sqrt(var(input, dim, unbiased, keepdim, correction=correction))


def safe_sqrt(v: Node) -> Node:
    zero = e.equal(v, 0.0)
    return e.where(zero, v * 0.0, e.sqrt(e.where(zero, 1.0, v)))


def norm(input: Node, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Node:
    """(sum |x|^p)^(1/p); the greatest |x| for p = inf."""
    x, a = floats(input if dtype is None else e.cast(input, core_of(dtype))), axes(dim, input)
    p = 2.0 if p in ("fro", None) else float(p)
    if p == 2.0:
        return safe_sqrt(r.sum_(x * x, a, keepdim))
    size = e.abs_(x)
    if p == math.inf:
        return r.max_(size, a, keepdim)
    if p == -math.inf:
        return r.min_(size, a, keepdim)
    if p == 1.0:
        return r.sum_(size, a, keepdim)
    if p == 0.0:
        return r.sum_(e.cast(e.not_equal(x, 0.0), x.dtype), a, keepdim)
    return e.pow_(*e.broadcast(r.sum_(e.pow_(*e.broadcast(size, p)), a, keepdim), 1.0 / p))


# ------------------------------------------------------------------------------------------ extrema


def picked(x: Node, place: Node, axis: int) -> Node:
    """The element at a place along an axis; the gradient goes there alone."""
    hit = e.equal(m.expand(m.expand_dims(place, axis), x.shape), f.position(x.shape, axis))
    return r.sum_(e.where(hit, x, 0), axis)


def extremum(
    name: str, whole: Callable[..., Node], place: Callable[..., Node], pair: Callable[..., Node]
) -> Callable[..., Any]:
    def find(input: Node, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            if 0 in input.shape:
                raise RuntimeError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' argument.")  # fmt: skip
            return whole(input)
        if isinstance(dim, Node):
            return pair(input, dim)
        if input.ndim == 0:
            return TYPES[name](input, f.zeros((), int64))
        d = normal_dim(dim, input.ndim)
        x = e.cast(input, int64) if input.dtype is bool_ else input
        if x.shape[d] == 0:
            raise DimError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
        at = place(x, d)
        values = e.cast(picked(x, at, d), input.dtype)
        return TYPES[name](*((m.expand_dims(values, d), m.expand_dims(at, d)) if keepdim else (values, at)))

    def call(input: Node, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        return find(input, dim if other is None else other, keepdim)

    call.__doc__ = (
        f"The {name} of all elements; with dim, (values, indices) along it; with another tensor, element by element."
    )
    return call


def argument(place: Callable[..., Node]) -> Callable[..., Node]:
    def find(input: Node, dim: int | None = None, keepdim: bool = False) -> Node:
        """The place of the extremum along an axis, or in the flattened tensor."""
        if 0 in input.shape and dim is None:
            raise DimError("argmax(): Expected reduction dim to be specified for input.numel() == 0.")
        x = e.cast(input, int64) if input.dtype is bool_ else input
        if dim is None:
            at = place(m.reshape(x, (-1,)), 0)
            return m.reshape(at, (1,) * x.ndim) if keepdim else at
        if x.ndim == 0:
            return f.zeros((), int64)
        d = normal_dim(dim, x.ndim)
        return m.expand_dims(place(x, d), d) if keepdim else place(x, d)

    return find


def aminmax(input: Node, *, dim: int | None = None, keepdim: bool = False) -> tuple[Node, Node]:
    a = axes(dim, input)
    return r.min_(input, a, keepdim), r.max_(input, a, keepdim)


# ------------------------------------------------------------------------------------------ truth, softmax


def over_axes(op: Callable[..., Node]) -> Callable[..., Node]:
    def reduce(input: Node, dim: Any = None, keepdim: bool = False) -> Node:
        return op(input, axes(dim, input), keepdim)

    return reduce


def truth_of(op: Callable[..., Node]) -> Callable[..., Node]:
    def reduce(input: Node, dim: Any = None, keepdim: bool = False) -> Node:
        if 0 in input.shape:  # nothing contradicts "all"
            count = r.sum_(f.zeros(input.shape, int64), axes(dim, input), keepdim)
            return e.equal(count, 0) if op is f.all_ else e.not_equal(count, 0)
        return op(truth(input), axes(dim, input), keepdim)

    return reduce


def softmax(input: Node, dim: int | None = None, dtype: Any = None, _stacklevel: int = 3) -> Node:
    """exp x / sum exp x along an axis"""
    x = floats(input if dtype is None else e.cast(input, core_of(dtype)))
    return f.softmax(x, softmax_dim(dim, x)) if x.ndim else f.ones((), x.dtype)


def softmax_dim(dim: int | None, x: Node) -> int:
    """PyTorch's implicit choice, kept for old programs."""
    return (0 if x.ndim in (0, 1, 3) else 1) if dim is None else normal_dim(dim, x.ndim)


def log_softmax(input: Node, dim: int | None = None, dtype: Any = None, _stacklevel: int = 3) -> Node:
    """log softmax(x) along an axis"""
    x = floats(input if dtype is None else e.cast(input, core_of(dtype)))
    return f.log_softmax(x, softmax_dim(dim, x)) if x.ndim else f.zeros((), x.dtype)


def logsumexp(input: Node, dim: Any, keepdim: bool = False) -> Node:
    """log sum exp x, without overflow"""
    return f.logsumexp(floats(input), axes(dim, input), keepdim)


def normalize(input: Node, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Node:
    """x / max(norm x, eps) along an axis"""
    return input / e.maximum(*e.broadcast(norm(input, p, dim, True), eps))


def trace(input: Node) -> Node:
    i, j = f.position(input.shape, 0), f.position(input.shape, 1)
    return r.sum_(e.where(e.equal(i, j), input, 0))


def count_nonzero(input: Node, dim: Any = None) -> Node:
    return r.sum_(e.cast(truth(input), int64), axes(dim, input))


def std_mean(input: Node, dim: Any = None, **kwargs: Any) -> tuple[Node, Node]:
    return std(input, dim, **kwargs), mean(input, dim, kwargs.get("keepdim", False))


def var_mean(input: Node, dim: Any = None, **kwargs: Any) -> tuple[Node, Node]:
    return var(input, dim, **kwargs), mean(input, dim, kwargs.get("keepdim", False))


def diff(input: Node, n: int = 1, dim: int = -1) -> Node:
    """Each entry less the one before."""
    d = normal_dim(dim, input.ndim)
    for _ in range(n):
        size: Any = input.shape[d]
        head, tail = (m.slice_(input, tuple(k if a == d else 0 for a in range(input.ndim)), tuple(size - 1 if a == d else s for a, s in enumerate(input.shape))) for k in (0, 1))  # fmt: skip
        input = tail - head
    return input


# fmt: off
ROWS: dict[str, Any] = {
    "sum": sum_, "nansum": lambda input, dim=None, keepdim=False: sum_(e.where(e.not_equal(input, input), 0.0, input), dim, keepdim),
    "prod": prod, "mean": mean, "var": var, "std": std, "norm": norm, "std_mean": std_mean, "var_mean": var_mean,
    "max": extremum("max", r.max_, r.argmax, maximum), "min": extremum("min", r.min_, r.argmin, minimum),
    "amax": over_axes(r.max_), "amin": over_axes(r.min_), "aminmax": aminmax, "argmax": argument(r.argmax), "argmin": argument(r.argmin),
    "any": truth_of(f.any_), "all": truth_of(f.all_), "count_nonzero": count_nonzero, "trace": trace, "diff": diff,
    "softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp,
}
# fmt: on
install(ROWS)
