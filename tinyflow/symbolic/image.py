"""Convolution and pooling. Images are (batch, height, width, channels) inside; channels-first ones are turned round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.core import expr
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Dim, Node, shape_text
from tinyflow.ops import functions as f
from tinyflow.ops import leaf
from tinyflow.ops import movement as m
from tinyflow.ops.contraction import convolution
from tinyflow.passes.gradient import gradients
from tinyflow.symbolic.table import combine, integers, shape_argument
from tinyflow.symbolic.tensor import Tensor, convert, operation, tensor

Pads = tuple[tuple[Dim, ...], tuple[Dim, ...]]  # (before, after) along each spatial axis


def spatial(given: Any, what: str, data_format: str | None, rank: int = 2) -> tuple[int, ...]:
    """The entries of the spatial axes of a list with an entry for every axis (or for the spatial ones, or for all one)."""
    values = integers(given, what)
    if len(values) == 1:
        return (values[0],) * rank
    if len(values) == rank:
        return tuple(values)
    if len(values) != rank + 2:
        raise ValueError(
            f"{what} has an entry for each of the {rank + 2} axes, or for the {rank} spatial ones, not {given!r}"
        )
    first = is_first(data_format)
    batch, channel = values[0], values[1 if first else -1]
    if batch != 1 or channel != 1:
        raise ValueError(f"{what} {given!r}: windows do not go over batch or channels; these entries are 1")
    return tuple(values[2:] if first else values[1:-1])


def is_first(data_format: str | None) -> bool:
    """Whether channels come before the spatial axes."""
    return data_format is not None and (data_format.startswith("NC") or data_format == "channels_first")


def last(x: Node, data_format: str | None) -> Node:
    return m.permute(x, (0, *range(2, x.ndim), 1)) if is_first(data_format) else x


def back(x: Node, data_format: str | None) -> Node:
    return m.permute(x, (0, x.ndim - 1, *range(1, x.ndim - 1))) if is_first(data_format) else x


def pads(
    padding: Any, sizes: Sequence[Dim], window: Sequence[Any], stride: Sequence[int], dilation: Sequence[int]
) -> Pads:
    """How much is added before and after: nothing (VALID), what keeps ceil(n / stride) windows (SAME), or as listed."""
    if not isinstance(padding, str):
        chosen = [tuple(integers(p, "the padding")) for p in padding]
        inner = chosen[1:-1] if len(chosen) == len(sizes) + 2 else chosen
        return tuple(p[0] for p in inner), tuple(p[1] for p in inner)
    if padding.upper() not in ("SAME", "VALID"):
        raise ValueError(f"the padding is 'SAME' or 'VALID', not {padding!r}")
    if padding.upper() == "VALID":
        return (0,) * len(sizes), (0,) * len(sizes)
    both = [f.same_padding(n, k, s, d) for n, k, s, d in zip(sizes, window, stride, dilation, strict=True)]
    return tuple(b[0] for b in both), tuple(b[1] for b in both)


def convolved(x: Node, w: Node, stride: Sequence[int], padding: Any, dilation: Sequence[int], groups: int = 1) -> Node:
    """x (n, *spatial, c), w (*window, c / groups, o) -> (n, *out, o)"""
    rank = w.ndim - 2
    if x.ndim != rank + 2:
        raise ShapeError(f"images {shape_text(x.shape)} and filters {shape_text(w.shape)}: both want {rank + 2} axes")
    window = w.shape[:rank]
    low, high = pads(padding, x.shape[1:-1], window, stride, dilation)
    out = f.pooled_sizes(x.shape[1:-1], window, stride, low, high, dilation)
    return convolution(x, w, stride, low, out, dilation, groups)


def conv2d(
    input: Any, filter: Any = None, strides: Any = None, padding: Any = None, use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC", dilations: Any = (1, 1, 1, 1), name: str | None = None, filters: Any = None,
) -> Tensor:  # fmt: skip
    """y[n, h, w, o] = sum over i, j, c of x[n, s h + i, s w + j, c] filter[i, j, c, o]

    input (n, height, width, c), filter (height, width, c, o); strides has an entry for each axis of the input; padding is
    'SAME' (ceil(size / stride) windows, zeros around) or 'VALID' (whole windows only).
    """
    stride, dilation = (
        spatial(1 if strides is None else strides, "strides", data_format),
        spatial(dilations, "dilations", data_format),
    )
    w = filters if filter is None else filter
    return combine("Conv2D", lambda x, k: back(convolved(last(x, data_format), k, stride, padding, dilation), data_format),
                   ("input", "filter"), (input, w), name)  # fmt: skip


def conv1d(
    value: Any = None, filters: Any = None, stride: Any = None, padding: Any = None, use_cudnn_on_gpu: Any = None,
    data_format: Any = None, name: str | None = None, input: Any = None, dilations: Any = None,
) -> Tensor:  # fmt: skip
    """Convolution along one axis: value (n, width, c), or (n, c, width) in the format NCW; filters (width, c, o)."""
    step, dilation = (
        spatial(stride, "stride", data_format, 1),
        spatial(1 if dilations is None else dilations, "dilations", data_format, 1),
    )
    return combine(
        "Conv1D",
        lambda x, k: back(convolved(last(x, data_format), k, step, padding, dilation), data_format),
        ("value", "filters"),
        (input if value is None else value, filters),
        name or "conv1d",
    )


def convolution_(
    input: Any, filter: Any, padding: Any, strides: Any = None, dilation_rate: Any = None, name: str | None = None,
    data_format: Any = None,
) -> Tensor:  # fmt: skip
    """Convolution over as many axes as the filter has."""

    def meaning(x: Node, w: Node) -> Node:
        rank = w.ndim - 2
        stride, dilation = (spatial(1 if v is None else v, "strides", None, rank) for v in (strides, dilation_rate))
        return back(convolved(last(x, data_format), w, stride, padding, dilation), data_format)

    return combine("Convolution", meaning, ("input", "filter"), (input, filter), name or "convolution")


def depthwise_conv2d(
    input: Any, filter: Any, strides: Any, padding: Any, rate: Any = None, name: str | None = None, data_format: Any =
    None,
) -> Tensor:  # fmt: skip
    """Each channel convolved by itself: filter (height, width, c, multiplier) -> c multiplier channels."""
    stride, dilation = (
        spatial(strides, "strides", data_format),
        spatial(1 if rate is None else rate, "rate", data_format),
    )

    def meaning(x: Node, w: Node) -> Node:
        c, k = w.shape[-2:]
        each = m.reshape(w, (*w.shape[:2], 1, expr.mul(c, k)))
        return back(convolved(last(x, data_format), each, stride, padding, dilation, c), data_format)

    return combine("DepthwiseConv2dNative", meaning, ("input", "filter"), (input, filter), name or "depthwise")


def separable_conv2d(
    input: Any, depthwise_filter: Any, pointwise_filter: Any, strides: Any, padding: Any, rate: Any = None, name: str
    | None = None, data_format: Any = None,
) -> Tensor:  # fmt: skip
    """depthwise_conv2d, then a convolution of windows of one element."""
    return conv2d(
        depthwise_conv2d(input, depthwise_filter, strides, padding, rate, name, data_format),
        pointwise_filter,
        1,
        "VALID",
        data_format=data_format or "NHWC",
    )


def conv2d_transpose(
    value: Any = None, filter: Any = None, output_shape: Any = None, strides: Any = None, padding: Any = "SAME",
    data_format: str = "NHWC", name: str | None = None, input: Any = None, filters: Any = None, dilations: Any = None,
) -> Tensor:  # fmt: skip
    """The gradient of conv2d with respect to its input: value (n, h, w, o), filter (i, j, c, o) -> output_shape (n, H, W, c)."""
    stride = spatial(1 if strides is None else strides, "strides", data_format)
    dilation = spatial(1 if dilations is None else dilations, "dilations", data_format)
    extra, dims = shape_argument(output_shape)

    def meaning(g: Node, w: Node, *s: Node) -> Node:
        shape = dims(*s)
        shape = tuple(shape[d] for d in ((0, 2, 3, 1) if is_first(data_format) else range(4)))
        return back(transposed(last(g, data_format), w, shape, stride, padding, dilation), data_format)

    given = [convert(input if value is None else value), convert(filters if filter is None else filter)]
    return operation("Conv2DBackpropInput", meaning, [*given, *extra], name or "conv2d_transpose").outputs[0]


def transposed(
    g: Node, w: Node, shape: Sequence[Dim], stride: Sequence[int], padding: Any, dilation: Sequence[int]
) -> Node:
    """A convolution is linear, so its gradient does not depend on the image it is taken at."""
    x = leaf.placeholder(g.dtype, tuple(shape), "image")
    y = convolved(x, w, stride, padding, dilation)
    (found,) = gradients([y], [x], [m.expand(g, y.shape)])
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------ pooling


def pooling(kind: str, meaning: Callable[..., Node]) -> Callable[..., Tensor]:
    def build(
        value: Any = None, ksize: Any = None, strides: Any = None, padding: Any = None, data_format: str = "NHWC",
        name: str | None = None, input: Any = None,
    ) -> Tensor:  # fmt: skip
        window, stride = spatial(ksize, "ksize", data_format), spatial(strides, "strides", data_format)

        def pooled(x: Node) -> Node:
            x = last(x, data_format)
            if x.ndim != 4:
                raise ShapeError(f"images have four axes (batch, height, width, channels), not {shape_text(x.shape)}")
            low, high = pads(padding, x.shape[1:-1], window, stride, (1, 1))
            return back(meaning(x, window, stride, low, high), data_format)

        return tensor(kind, pooled, [convert(input if value is None else value)], name)

    build.__doc__ = f"The {'greatest element' if kind == 'MaxPool' else 'mean'} of each window: (n, height, width, c) -> (n, windows, windows, c)."
    return build


max_pool = pooling("MaxPool", f.max_pool)
avg_pool = pooling("AvgPool", f.avg_pool)
max_pool.__name__, avg_pool.__name__ = "max_pool", "avg_pool"
