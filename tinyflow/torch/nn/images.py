"""Convolution, pooling, padding and windows of images (n, channels, *spatial), as functions of nodes.

Inside, channels come last: each function turns its image, and turns its result back. Turning costs nothing at run time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinyflow.core import expr
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Node, shape_text
from tinyflow.ops import contraction as c
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing as ix
from tinyflow.ops import movement as m
from tinyflow.ops import rules
from tinyflow.ops.leaf import placeholder
from tinyflow.passes.gradient import gradients
from tinyflow.torch.errors import SizeError


def each(n: Any, rank: int) -> tuple[int, ...]:
    """A number for all axes, or one for each."""
    t = tuple(n) if isinstance(n, tuple | list) else (n,) * rank
    return t * rank if len(t) == 1 else t


def last(x: Node) -> Node:
    """Channels last."""
    return m.permute(x, (0, *range(2, x.ndim), 1))


def first(x: Node) -> Node:
    """Channels first."""
    return m.permute(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))


def batched(x: Node, rank: int) -> tuple[Node, bool]:
    """An image alone counts as a batch of one."""
    if x.ndim not in (rank + 1, rank + 2):
        raise SizeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to conv{rank}d, but got input of size: {list(x.shape)}"
        )
    return (m.expand_dims(x, 0), True) if x.ndim == rank + 1 else (x, False)


def single(y: Node, alone: bool) -> Node:
    return m.reshape(y, y.shape[1:]) if alone else y


# ------------------------------------------------------------------------------------------ convolution


def convolution(rank: int) -> Any:
    def conv(
        input: Node,
        weight: Node,
        bias: Node | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Node:
        x, alone = batched(input, rank)
        if isinstance(x.shape[1], int) and isinstance(weight.shape[1], int) and x.shape[1] != weight.shape[1] * groups:
            raise SizeError(f"Given groups={groups}, weight of size {list(weight.shape)}, expected input{list(x.shape)} to have {weight.shape[1] * groups} channels, but got {x.shape[1]} channels instead")  # fmt: skip
        if isinstance(weight.shape[0], int) and (groups < 1 or weight.shape[0] % groups):
            raise SizeError(f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of size {list(weight.shape)} instead")  # fmt: skip
        s, d, kernel = each(stride, rank), each(dilation, rank), weight.shape[2:]
        low, high = paddings(padding, kernel, s, d, rank)
        room = [
            n + a + b - k * (size - 1) - 1 for n, a, b, k, size in zip(x.shape[2:], low, high, d, kernel, strict=True)
        ]  # type: ignore[operator]
        if any(isinstance(n, int) and n < 0 for n in room):
            padded = [n + a + b for n, a, b in zip(x.shape[2:], low, high, strict=True)]  # type: ignore[operator]
            raise SizeError(f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: ({' x '.join(map(str, kernel))}). Kernel size can't be greater than actual input size")  # fmt: skip
        out = f.pooled_sizes(x.shape[2:], kernel, s, low, high, d)  # type: ignore[arg-type]
        w = m.permute(weight, (*range(2, rank + 2), 1, 0))
        y = c.convolution(last(x), w, s, low, out, d, groups)
        y = y if bias is None else y + bias
        return single(first(y), alone)

    conv.__doc__ = f"Cross-correlation over {rank} axes: x (n, c, *spatial), w (o, c/groups, *kernel) -> (n, o, *out)"
    return conv


def paddings(padding: Any, kernel: Sequence[Any], stride: Sequence[int], dilation: Sequence[int], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:  # fmt: skip
    """Zeros before and after each axis: a number, one for each axis, "same" or "valid"."""
    if padding == "valid":
        return (0,) * rank, (0,) * rank
    if padding == "same":
        if any(s != 1 for s in stride):
            raise RuntimeError("padding='same' is not supported for strided convolutions")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return each(padding, rank), each(padding, rank)


def transposed(rank: int) -> Any:
    def conv(input: Node, weight: Node, bias: Node | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Node:  # fmt: skip
        x, alone = batched(input, rank)
        s, p, o, d, kernel = (*(each(n, rank) for n in (stride, padding, output_padding, dilation)), weight.shape[2:])
        if not rules.same_dim(x.shape[1], weight.shape[0]):
            raise ShapeError(f"conv_transpose{rank}d({x.dtype} {shape_text(x.shape)}, {weight.dtype} {shape_text(weight.shape)}): the image has {x.shape[1]} channels, the filters take {weight.shape[0]}")  # fmt: skip
        reach = [k * (size - 1) for k, size in zip(d, kernel, strict=True)]  # type: ignore[operator]
        out = tuple((n - 1) * a + r + q + 1 - 2 * b for n, a, b, q, r in zip(x.shape[2:], s, p, o, reach, strict=True))
        image = placeholder(x.dtype, (x.shape[0], *out, expr.mul(weight.shape[1], groups)), "image")
        w = m.permute(weight, (*range(2, rank + 2), 1, 0))
        convolved = c.convolution(image, w, s, p, x.shape[2:], d, groups)
        (y,) = gradients([convolved], [image], [last(x)])  # linear: it does not depend on the image it is taken at
        assert y is not None
        return single(first(y if bias is None else y + bias), alone)

    conv.__doc__ = (
        f"The gradient of a convolution over {rank} axes by its image: x (n, c, *spatial), w (c, o/groups, *kernel)"
    )
    return conv


# ------------------------------------------------------------------------------------------ padding and windows


def pad(input: Node, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Node:
    """Elements added (or, where negative, taken away) at the ends, the last axis first: (before, after) for each."""
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise RuntimeError(
            "Padding length must be divisible by 2 and at most twice the number of dimensions of the input"
        )
    low, high = [0] * input.ndim, [0] * input.ndim
    for k in range(len(pad) // 2):
        low[-1 - k], high[-1 - k] = pad[2 * k], pad[2 * k + 1]
    if mode != "constant":
        return by_index(input, low, high, mode)
    begin = tuple(max(-a, 0) for a in low)
    size = tuple(n + min(a, 0) + min(b, 0) for n, a, b in zip(input.shape, low, high, strict=True))  # type: ignore[operator]
    x = m.slice_(input, begin, size)
    return m.pad(x, tuple(max(a, 0) for a in low), tuple(max(b, 0) for b in high), value=value or 0)


def by_index(x: Node, low: Sequence[int], high: Sequence[int], mode: str) -> Node:
    """Padding by what is inside: reflected, repeated, or from the other end."""
    for d, (a, b) in enumerate(zip(low, high, strict=True)):
        if a == b == 0:
            continue
        n: Any = x.shape[d]
        if mode == "reflect" and max(a, b) >= n:
            raise RuntimeError(f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding ({a}, {b}) at dimension {d} of input {list(x.shape)}")  # fmt: skip
        i = f.arange(-a, n + b)
        if mode == "circular":
            i = e.mod(i, n)
        elif mode == "replicate":
            i = e.minimum(e.maximum(i, 0), n - 1)
        elif mode == "reflect":
            i = e.abs_(i)
            i = (n - 1) - e.abs_((n - 1) - i)  # type: ignore[operator]
        else:
            raise NotImplementedError(f"padding mode {mode!r}; there are constant, reflect, replicate and circular")
        x = ix.gather_axis(x, i, d)
    return x


def pixel_shuffle(input: Node, upscale_factor: int) -> Node:
    """(n, c r^2, h, w) -> (n, c, h r, w r)"""
    r = upscale_factor
    n, channels, h, w = input.shape
    x = m.reshape(input, (n, channels // (r * r), r, r, h, w))  # type: ignore[operator]
    return m.reshape(m.permute(x, (0, 1, 4, 2, 5, 3)), (n, channels // (r * r), h * r, w * r))  # type: ignore[operator]


def unfold(input: Node, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Node:
    """The windows of an image as columns: (n, c, h, w) -> (n, c k k, places)"""
    k, d, p, s = (each(n, 2) for n in (kernel_size, dilation, padding, stride))
    out = f.pooled_sizes(input.shape[2:], k, s, p, p, d)
    w = c.windows(last(input), k, s, p, out, d)  # (n, h, w, c, i, j)
    y = m.permute(w, (0, 3, 4, 5, 1, 2))
    return m.reshape(y, (y.shape[0], math.prod(y.shape[1:4]), math.prod(out)))  # type: ignore[arg-type]


# fmt: off
ROWS: dict[str, Any] = {
    "conv1d": convolution(1), "conv2d": convolution(2), "conv3d": convolution(3),
    "conv_transpose1d": transposed(1), "conv_transpose2d": transposed(2), "conv_transpose3d": transposed(3),
    "pad": pad, "pixel_shuffle": pixel_shuffle, "unfold": unfold,
}
# fmt: on
