"""Convolution, pooling, padding and resizing of images (n, channels, *spatial), as functions of nodes.

Inside, channels come last: each function turns its image, and turns its result back. Turning costs nothing at run time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyflow.graph.node import Node
from tinyflow.ops import contraction as c
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing as ix
from tinyflow.ops import movement as m
from tinyflow.ops.reduction import max_, mean
from tinyflow.torch.errors import SizeError
from tinyflow.torch.tensor import from_array, use


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
        reach = [k * (size - 1) for k, size in zip(d, kernel, strict=True)]  # type: ignore[operator]
        wide = m.pad(x, (0,) * x.ndim, (0,) * x.ndim, (0, 0, *(n - 1 for n in s)))
        low = tuple(r - n for r, n in zip(reach, p, strict=True))
        high = tuple(r - n + q for r, n, q in zip(reach, p, o, strict=True))
        w = m.flip(weight, range(2, rank + 2))
        w = m.reshape(w, (groups, weight.shape[0] // groups, *weight.shape[1:]))  # type: ignore[operator]
        w = m.reshape(
            m.permute(w, (0, 2, 1, *range(3, w.ndim))), (groups * weight.shape[1], weight.shape[0] // groups, *kernel)
        )  # type: ignore[operator]
        out = tuple(n + a + b - r for n, a, b, r in zip(wide.shape[2:], low, high, reach, strict=True))
        y = c.convolution(last(wide), m.permute(w, (*range(2, rank + 2), 1, 0)), (1,) * rank, low, out, d, groups)
        return single(first(y if bias is None else y + bias), alone)

    conv.__doc__ = (
        f"The gradient of a convolution over {rank} axes by its image: x (n, c, *spatial), w (c, o/groups, *kernel)"
    )
    return conv


# ------------------------------------------------------------------------------------------ pooling


def extra(n: Any, k: int, s: int, p: int, d: int) -> int:
    """How much more padding at the end lets a last window begin inside the image or its padding."""
    room = n + 2 * p - d * (k - 1) - 1
    count = -(-room // s)
    return count * s - room if count * s < n + p else 0


def max_pool(rank: int) -> Any:
    def pool(input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False) -> Node:  # fmt: skip
        if return_indices:
            raise NotImplementedError("max_pool with return_indices=True: tinyflow's pooling keeps no indices")
        x, alone = batched(input, rank)
        k, p, d = each(kernel_size, rank), each(padding, rank), each(dilation, rank)
        s = each(stride, rank) if stride not in (None, []) else k
        if any(b > a // 2 for a, b in zip(k, p, strict=True)):
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={p[0]}, kernel_size={k[0]} and dilation={d[0]}"
            )
        more = [extra(*row) if ceil_mode else 0 for row in zip(x.shape[2:], k, s, p, d, strict=True)]
        y = f.max_pool(last(x), k, s, p, tuple(a + b for a, b in zip(p, more, strict=True)), d)
        return single(first(y), alone)

    return pool


def avg_pool(rank: int) -> Any:
    def pool(input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Node:  # fmt: skip
        x, alone = batched(input, rank)
        k, p = each(kernel_size, rank), each(padding, rank)
        s = each(stride, rank) if stride not in (None, []) else k
        if ceil_mode and any(extra(n, a, b, q, 1) for n, a, b, q in zip(x.shape[2:], k, s, p, strict=True)):
            raise NotImplementedError("avg_pool with ceil_mode=True and windows that leave the image; pad it first")
        y = f.avg_pool(last(x), k, s, p, p, count_include_pad)
        if divisor_override is not None:
            y = f.avg_pool(last(x), k, s, p, p, True) * (math.prod(k) / divisor_override)
        return single(first(y), alone)

    return pool


def adaptive(rank: int, greatest: bool) -> Any:
    """Windows that cover the image in a given number of places: from floor(i n / o) to ceil((i + 1) n / o)."""

    def pool(input: Node, output_size: Any, return_indices: bool = False) -> Node:
        x, alone = batched(input, rank)
        out = tuple(n if o is None else o for o, n in zip(each(output_size, rank), x.shape[2:], strict=True))
        y = last(x)
        if all(o == 1 for o in out):
            axes = tuple(range(1, rank + 1))
            y = max_(y, axes, keepdims=True) if greatest else mean(y, axes, keepdims=True)
        elif all(n % o == 0 for n, o in zip(x.shape[2:], out, strict=True)):  # type: ignore[operator]
            k = tuple(n // o for n, o in zip(x.shape[2:], out, strict=True))  # type: ignore[operator]
            y = (f.max_pool if greatest else f.avg_pool)(y, k, k, (0,) * rank, (0,) * rank)
        else:
            for d, (n, o) in enumerate(zip(x.shape[2:], out, strict=True)):
                y = uneven_max(y, d + 1, n, o) if greatest else uneven_mean(y, d + 1, n, o)
        return single(first(y), alone)

    return pool


def spans(n: int, o: int) -> list[tuple[int, int]]:
    return [(i * n // o, -(-(i + 1) * n // o)) for i in range(o)]


def uneven_mean(y: Node, axis: int, n: Any, o: int) -> Node:
    """A product with the matrix of means."""
    a = np.zeros((n, o), y.dtype.numpy)
    for i, (start, stop) in enumerate(spans(n, o)):
        a[start:stop, i] = 1.0 / (stop - start)
    names = "abcdefg"[: y.ndim]
    return c.einsum(f"{names},{names[axis]}z->{names.replace(names[axis], 'z')}", y, use(from_array(a)))


def uneven_max(y: Node, axis: int, n: Any, o: int) -> Node:
    def cut(start: int, stop: int) -> Node:
        begin, size = [0] * y.ndim, list(y.shape)
        begin[axis], size[axis] = start, stop - start
        return max_(m.slice_(y, tuple(begin), tuple(size)), axis, keepdims=True)

    return m.concat([cut(*s) for s in spans(n, o)], axis)


# ------------------------------------------------------------------------------------------ padding and resizing


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


def interpolate(
    input: Node,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    **_: Any,
) -> Node:
    """An image resized: "nearest", or "linear", "bilinear" and "trilinear" along each axis"""
    rank = input.ndim - 2
    have = input.shape[2:]
    if size is not None:
        out = each(size, rank)
        ratio = [n / o for n, o in zip(have, out, strict=True)]  # type: ignore[operator]
    else:
        scale = tuple(scale_factor) if isinstance(scale_factor, tuple | list) else (scale_factor,) * rank
        out = tuple(math.floor(n * s) for n, s in zip(have, scale, strict=True))
        ratio = [1.0 / s for s in scale]
    x = input
    for d, (n, o, r) in enumerate(zip(have, out, ratio, strict=True)):
        if o != n or mode != "nearest":
            x = resized(x, d + 2, n, o, r, mode, bool(align_corners))
    return x


def resized(x: Node, axis: int, n: Any, o: int, ratio: float, mode: str, corners: bool) -> Node:
    """One axis: the nearest entry, or a mean of two weighted by nearness."""
    place = np.arange(o)
    if mode == "nearest":
        return ix.gather_axis(x, use(from_array(np.minimum((place * ratio).astype(np.int64), n - 1))), axis)
    if mode not in ("linear", "bilinear", "trilinear"):
        raise NotImplementedError(f"interpolate with mode={mode!r}; there are nearest, linear, bilinear and trilinear")
    at = place * ((n - 1) / (o - 1) if o > 1 else 0.0) if corners else np.maximum((place + 0.5) * ratio - 0.5, 0.0)
    low = np.minimum(at.astype(np.int64), n - 1)
    w = np.zeros((n, o), x.dtype.numpy)
    w[low, place] += 1 - (at - low)
    w[np.minimum(low + 1, n - 1), place] += at - low
    names = "abcdefg"[: x.ndim]
    return c.einsum(f"{names},{names[axis]}z->{names.replace(names[axis], 'z')}", x, use(from_array(w)))


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
    "max_pool1d": max_pool(1), "max_pool2d": max_pool(2), "max_pool3d": max_pool(3),
    "avg_pool1d": avg_pool(1), "avg_pool2d": avg_pool(2), "avg_pool3d": avg_pool(3),
    "adaptive_avg_pool1d": adaptive(1, False), "adaptive_avg_pool2d": adaptive(2, False), "adaptive_avg_pool3d": adaptive(3, False),
    "adaptive_max_pool1d": adaptive(1, True), "adaptive_max_pool2d": adaptive(2, True), "adaptive_max_pool3d": adaptive(3, True),
    "pad": pad, "interpolate": interpolate, "upsample": interpolate, "pixel_shuffle": pixel_shuffle, "unfold": unfold,
}
# fmt: on
