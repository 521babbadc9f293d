"""Pooling and resizing of images (n, channels, *spatial), as functions of nodes. They work along axes wherever these are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tinyflow.core.dtypes import float64, int64
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing as ix
from tinyflow.ops import movement as m
from tinyflow.ops import pooling as p
from tinyflow.ops import reduction as r
from tinyflow.torch.errors import SizeError
from tinyflow.torch.nn.images import each, single
from tinyflow.torch.tensor import from_array, use

# ------------------------------------------------------------------------------------------ windows


def image(x: Node, rank: int, name: str) -> tuple[Node, bool, tuple[int, ...]]:
    """An image alone counts as a batch of one; and the axes of its places."""
    if x.ndim not in (rank + 1, rank + 2):
        raise SizeError(f"{name}() Expected {rank + 1}D or {rank + 2}D input tensor, but got input of size: {list(x.shape)}")  # fmt: skip
    alone = x.ndim == rank + 1
    return (m.expand_dims(x, 0) if alone else x), alone, tuple(range(2, rank + 2))


def extra(n: Any, k: int, s: int, p: int, d: int) -> int:
    """How much more padding at the end lets a last window begin inside the image or its padding."""
    room = n + 2 * p - d * (k - 1) - 1
    count = -(-room // s)
    return count * s - room if count * s < n + p else 0


def windows(x: Node, axes: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> p.Windows:  # fmt: skip
    rank = len(axes)
    k, low, d = each(kernel_size, rank), each(padding, rank), each(dilation, rank)
    s = each(stride, rank) if stride not in (None, [], ()) else k
    if any(b > a // 2 for a, b in zip(k, low, strict=True)):
        raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={low[0]}, kernel_size={k[0]} and dilation={d[0]}")  # fmt: skip
    sizes = [x.shape[a] for a in axes]
    high = [b + (extra(*row) if ceil_mode else 0) for b, row in zip(low, zip(sizes, k, s, low, d), strict=True)]
    return f.pools(x, k, s, low, high, d, axes)


def max_pool(rank: int) -> Any:
    def pool(input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
        x, alone, axes = image(input, rank, f"max_pool{rank}d")
        w = windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
        y = single(p.pool_max(x, w), alone)
        return (y, single(places(p.pool_argmax(e.stop_gradient(x), w), w), alone)) if return_indices else y

    return pool


def places(a: Node, w: p.Windows) -> Node:
    """Where the a-th place of each window lies in the image, counted row by row."""
    left, flat, inner = e.cast(a, int64), None, 1
    for axis, size, _, window, stride, low, dilation in reversed(list(p.rows(w))):
        k, left = e.mod(left, window), e.floordiv(left, window)
        at = f.position(a.shape, axis) * stride + k * dilation - low
        flat, inner = at * inner if flat is None else flat + at * inner, inner * size  # type: ignore[operator]
    assert flat is not None
    return flat


def avg_pool(rank: int) -> Any:
    def pool(input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Node:  # fmt: skip
        if divisor_override == 0:
            raise RuntimeError("divisor must be not zero")
        x, alone, axes = image(input, rank, f"avg_pool{rank}d")
        w = windows(x, axes, kernel_size, stride, padding, 1, ceil_mode)
        total = p.pool_sum(x, w)
        border = each(padding, rank) if count_include_pad else (0,) * rank
        leaves = any(a != b or (o - 1) * s + k - a > n + b for a, b, (_, n, o, k, s, *_) in zip(w.low, border, p.rows(w), strict=True))  # fmt: skip
        count: Any = divisor_override or (f.inside(w, x.dtype, x.ndim, border) if leaves else w.area)
        count = m.expand(count, total.shape) if isinstance(count, Node) else float(count)
        return single(total / count, alone)

    return pool


def lp_pool(rank: int) -> Any:
    def pool(input: Node, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Node:
        """(sum of x^p over each window)^(1/p)"""
        x, alone, axes = image(input, rank, f"lp_pool{rank}d")
        w = windows(x, axes, kernel_size, stride, 0, 1, ceil_mode)
        total = p.pool_sum(e.pow_(*e.broadcast(x, float(norm_type))), w)
        return single(e.pow_(*e.broadcast(e.sign(total) * e.relu(e.abs_(total)), 1.0 / norm_type)), alone)

    return pool


def max_unpool(rank: int) -> Any:
    def pool(input: Node, indices: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Node:  # fmt: skip
        """Zeros in which each entry stands where `indices` says that it was found."""
        x, alone, axes = image(input, rank, f"max_unpool{rank}d")
        at = image(indices, rank, f"max_unpool{rank}d")[0]
        k, low = each(kernel_size, rank), each(padding, rank)
        s = each(stride, rank) if stride not in (None, [], ()) else k
        usual = tuple((x.shape[a] - 1) * c - 2 * b + n for a, c, b, n in zip(axes, s, low, k, strict=True))  # type: ignore[operator]
        out = usual if output_size is None else tuple(output_size)[-rank:]
        lead = x.shape[:2]
        flat = f.zeros((*lead, math.prod(out)), x.dtype)
        y = ix.scatter_set(flat, m.reshape(x, (*lead, -1)), m.reshape(at, (*lead, -1)), batch=2)
        return single(m.reshape(y, (*lead, *out)), alone)

    return pool


# ------------------------------------------------------------------------------------------ a given number of windows


def spans(n: int, o: int) -> list[range]:
    """The windows that cover n places in o steps: from floor(i n / o) to ceil((i + 1) n / o)."""
    return [range(i * n // o, -(-(i + 1) * n // o)) for i in range(o)]


def adaptive(rank: int, greatest: bool) -> Any:
    def pool(input: Node, output_size: Any, return_indices: bool = False) -> Any:
        x, alone, axes = image(input, rank, "adaptive_pool")
        sizes: Any = tuple(x.shape[a] for a in axes)
        out = tuple(n if o is None else o for o, n in zip(each(output_size, rank), sizes, strict=True))
        even = all(n % o == 0 if o else False for n, o in zip(sizes, out, strict=True))
        if greatest and not even:
            y, at = uneven_max(x, sizes, out)
            return (single(y, alone), single(at, alone)) if return_indices else single(y, alone)
        if even:
            k = tuple(n // o for n, o in zip(sizes, out, strict=True))
            if greatest:
                w = f.pools(x, k, k, (0,) * rank, (0,) * rank, None, axes)
                y = single(p.pool_max(x, w), alone)
                return (y, single(places(p.pool_argmax(e.stop_gradient(x), w), w), alone)) if return_indices else y
            if all(o == 1 for o in out):
                return single(r.mean(x, axes, keepdims=True), alone)
            return single(f.avg_pool(x, k, k, (0,) * rank, (0,) * rank, axes), alone)
        for a, n, o in zip(axes, sizes, out, strict=True):
            x = sampled(x, a, *covering(n, o)) if n != o else x
        return single(x, alone)

    return pool


@lru_cache(maxsize=256)
def covering(n: int, o: int) -> tuple[Any, ...]:
    """Tables of the means over spans."""
    return p.taps([list(s) for s in spans(n, o)], [[1 / len(s)] * len(s) for s in spans(n, o)], n)


def uneven_max(x: Node, sizes: Sequence[int], out: Sequence[int]) -> tuple[Node, Node]:
    """The greatest of each window, taken at its place: the windows overlap and differ in size, so they are written out."""
    flat = np.zeros((*out, 1), np.int64)
    for d, (n, o) in enumerate(zip(sizes, out, strict=True)):
        entries = p.table([list(s) for s in spans(n, o)], [[0.0] * len(s) for s in spans(n, o)])[0].T  # (o, places)
        entries = entries.reshape(*(o if a == d else 1 for a in range(len(out))), 1, entries.shape[1])
        flat = (flat[..., None] * n + entries).reshape(*out, -1)
    lead, count = x.shape[:2], math.prod(out)
    seen = use(from_array(flat.reshape(count, -1)))
    row = m.reshape(x, (*lead, math.prod(sizes)))
    best = r.argmax(ix.gather_axis(e.stop_gradient(row), seen, 2), -1)  # (n, c, windows)
    number = f.position(best.shape, -1) * seen.shape[1] + best
    at = ix.gather(m.reshape(seen, (-1,)), number)
    return m.reshape(ix.take_along(row, at, 2), (*lead, *out)), m.reshape(at, (*lead, *out))


def sampled(x: Node, axis: int, index: Any, weight: Any, back: Any, back_weight: Any) -> Node:
    tables = (index, weight.astype(x.dtype.numpy), back, back_weight.astype(x.dtype.numpy))
    return p.resample(x, *(use(from_array(t)) for t in tables), axis=axis)


# ------------------------------------------------------------------------------------------ resizing

MODES = {"nearest": None, "nearest-exact": None, "area": None, "linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}


def interpolate(
    input: Node,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Node:
    """An image resized, axis by axis: the nearest entry, or a mean of near ones weighted by a line, a cubic, or an area."""
    rank = input.ndim - 2
    check(input, size, scale_factor, mode, align_corners, antialias)
    have: Any = input.shape[2:]
    if size is not None:
        out, ratio = each(size, rank), [n / o if o else 0.0 for n, o in zip(have, each(size, rank), strict=True)]
    else:
        scale = each(scale_factor, rank)
        out = tuple(math.floor(n * s) for n, s in zip(have, scale, strict=True))
        ratio = [n / o if recompute_scale_factor else 1.0 / s for n, o, s in zip(have, out, scale, strict=True)]
    if any(o < 1 for o in out):
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got input {list(have)} and output {list(out)}")  # fmt: skip
    if mode == "area":
        return adaptive(rank, False)(input, out)  # type: ignore[no-any-return]
    x = input
    # the axis that makes the image least is done first
    for d in sorted(range(rank), key=lambda d: (out[d] / have[d], -d)):
        if out[d] != have[d] or not mode.startswith("nearest"):
            x = resized(x, d + 2, out[d], ratio[d], mode, bool(align_corners), antialias)
    return x


def check(x: Node, size: Any, scale: Any, mode: str, corners: bool | None, antialias: bool) -> None:
    if mode not in MODES:
        raise NotImplementedError(f"interpolate with mode={mode!r}; there are {', '.join(MODES)}")
    if MODES[mode] not in (None, x.ndim - 2):
        raise NotImplementedError(f"Got {x.ndim}D input, but {mode} mode needs {MODES[mode] + 2}D input")  # type: ignore[operator]
    if (size is None) == (scale is None):
        raise ValueError("only one of size or scale_factor should be defined" if size is not None else "either size or scale_factor should be defined")  # fmt: skip
    if corners is not None and MODES[mode] is None:
        raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear")  # fmt: skip
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input")  # fmt: skip


def resized(x: Node, axis: int, o: int, ratio: float, mode: str, corners: bool, antialias: bool) -> Node:
    n: Any = x.shape[axis]
    tables = near(n, o, ratio, mode, corners, antialias, np.float64 if x.dtype is float64 else np.float32)
    if x.dtype.is_floating:
        return sampled(x, axis, *tables)
    if not mode.startswith("nearest"):
        raise RuntimeError(f"interpolate with mode={mode!r} takes float32 or float64, not {x.dtype}; cast it first")
    return ix.gather_axis(x, use(from_array(tables[0][0])), axis)


@lru_cache(maxsize=256)
def near(n: int, o: int, ratio: float, mode: str, corners: bool, antialias: bool, real: Any) -> tuple[Any, ...]:
    """The tables of one axis. Where a result lies between entries is computed in the image's type, as PyTorch does it."""
    real = np.float32 if mode.startswith("nearest") else real
    place, step, half = np.arange(o, dtype=real), real(ratio), real(0.5)
    if mode.startswith("nearest"):
        at = (place + half if mode == "nearest-exact" else place) * step
        return p.taps(np.minimum(at.astype(np.int64), n - 1)[:, None].tolist(), [[1.0]] * o, n)
    if corners:
        step = real((n - 1) / (o - 1) if o > 1 else 0.0)
    if antialias:
        return p.taps(*smooth(n, o, float(step), mode), n)
    at = place * step if corners else (place + half) * step - half
    at = at if mode == "bicubic" else np.maximum(at, real(0))
    low = np.floor(at).astype(np.int64)
    t = (at - low.astype(real)).astype(np.float64)
    if mode == "bicubic":
        weights = np.stack([cubic(1 + t, -0.75), cubic(t, -0.75), cubic(1 - t, -0.75), cubic(2 - t, -0.75)], 1)
        return p.taps(np.clip(low[:, None] + np.arange(-1, 3), 0, n - 1).tolist(), weights.tolist(), n)
    low = np.minimum(low, n - 1)
    return p.taps(np.stack([low, np.minimum(low + 1, n - 1)], 1).tolist(), np.stack([1 - t, t], 1).tolist(), n)


def cubic(x: Any, a: float) -> Any:
    """Keys' cubic: 1 at 0, 0 at the other whole numbers, 0 from 2 on."""
    x = np.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))


def smooth(n: int, o: int, step: float, mode: str) -> tuple[list[list[int]], list[list[float]]]:
    """Weights that are stretched where the image becomes smaller, so that every entry has its part."""
    wide = max(step, 1.0)
    reach = (2.0 if mode == "bicubic" else 1.0) * wide
    index, weight = [], []
    for i in range(o):
        center = step * (i + 0.5)
        start, stop = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), n)
        x = (np.arange(start, stop) - center + 0.5) / wide
        w = cubic(x, -0.5) if mode == "bicubic" else np.maximum(1 - np.abs(x), 0.0)
        index.append(list(range(start, stop)))
        weight.append((w / w.sum()).tolist())
    return index, weight


# fmt: off
ROWS: dict[str, Any] = {
    "max_pool1d": max_pool(1), "max_pool2d": max_pool(2), "max_pool3d": max_pool(3),
    "avg_pool1d": avg_pool(1), "avg_pool2d": avg_pool(2), "avg_pool3d": avg_pool(3),
    "lp_pool1d": lp_pool(1), "lp_pool2d": lp_pool(2), "lp_pool3d": lp_pool(3),
    "max_unpool1d": max_unpool(1), "max_unpool2d": max_unpool(2), "max_unpool3d": max_unpool(3),
    "adaptive_avg_pool1d": adaptive(1, False), "adaptive_avg_pool2d": adaptive(2, False), "adaptive_avg_pool3d": adaptive(3, False),
    "adaptive_max_pool1d": adaptive(1, True), "adaptive_max_pool2d": adaptive(2, True), "adaptive_max_pool3d": adaptive(3, True),
    "interpolate": interpolate, "upsample": interpolate,
}
# fmt: on
