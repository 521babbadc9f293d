"""Convolutions and pooling with stride, padding, dilation and groups, forward and backward, beside plain loops of numpy."""

import itertools

import numpy as np
import pytest

from tests.compiler.native import check, check_close, needs_avx2, run
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, float64
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.node import toposort
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import CONTRACT, convolution
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.pooling import pool_sum
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline as passes
from tinyflow.passes.gradient import gradients


def windows(x, w, stride, low, out, dilation, groups):
    """(result, image, filter): where to find what is multiplied, one tap of one window of one group at a time."""
    filters, channels = w.shape[-1] // groups, w.shape[-2]
    for place, tap in itertools.product(np.ndindex(*out), np.ndindex(*w.shape[:-2])):
        at = [p * s + t * d - n for p, s, t, d, n in zip(place, stride, tap, dilation, low, strict=True)]
        if not all(0 <= a < n for a, n in zip(at, x.shape[1:-1], strict=True)):
            continue
        for g in range(groups):
            these, those = slice(g * filters, (g + 1) * filters), slice(g * channels, (g + 1) * channels)
            yield (slice(None), *place, these), (slice(None), *at, those), (*tap, slice(None), these)


def slow(x, w, *spec):
    """y[n, h, v, o] = sum over i, j, c of x[n, stride*h + dilation*i - low, ..., c] * w[i, j, c, o], one window at a time."""
    y = np.zeros((x.shape[0], *spec[2], w.shape[-1]))
    for result, image, taps in windows(x, w, *spec):
        y[result] += x[image].astype(float) @ w[taps]
    return y


def slow_gradients(x, w, g, *spec):
    """The gradients of sum(g * y), by linearity: one element of an operand at a time would be too slow, one tap is not."""
    gx, gw = np.zeros(x.shape), np.zeros(w.shape)
    for result, image, taps in windows(x, w, *spec):
        gx[image] += g[result] @ w[taps].T
        gw[taps] += x[image].T @ g[result]
    return gx, gw


# fmt: off
SPECS = {  # image (n, h, w, c), kernel (i, j, o), stride, padding before and after, dilation, groups
    "3x3":              ((2, 9, 8, 5),    (3, 3, 17),  (1, 1), (0, 0), (0, 0), (1, 1), 1),
    "3x3 padded":       ((2, 9, 8, 16),   (3, 3, 32),  (1, 1), (1, 1), (1, 1), (1, 1), 1),
    "1x1":              ((3, 7, 5, 20),   (1, 1, 33),  (1, 1), (0, 0), (0, 0), (1, 1), 1),
    "1x1 stride":       ((3, 7, 5, 20),   (1, 1, 33),  (2, 2), (0, 0), (0, 0), (1, 1), 1),
    "5x5 stride 2":     ((2, 14, 13, 3),  (5, 5, 16),  (2, 2), (2, 1), (1, 2), (1, 1), 1),
    "stride 3":         ((1, 16, 16, 4),  (2, 3, 9),   (3, 2), (0, 1), (0, 1), (1, 1), 1),
    "dilated":          ((2, 12, 11, 4),  (3, 3, 8),   (1, 1), (2, 2), (2, 2), (2, 2), 1),
    "dilated, strided": ((2, 12, 13, 4),  (3, 2, 8),   (2, 3), (1, 2), (2, 0), (2, 3), 1),
    "groups":           ((2, 7, 6, 12),   (3, 3, 18),  (1, 1), (1, 1), (1, 1), (1, 1), 3),
    "depthwise":        ((2, 7, 6, 18),   (3, 3, 18),  (1, 1), (1, 1), (1, 1), (1, 1), 18),
    "groups, strided":  ((1, 9, 9, 32),   (3, 3, 64),  (2, 2), (1, 1), (1, 1), (1, 1), 2),
    "patches":          ((3, 8, 9, 5),    (2, 3, 17),  (2, 3), (0, 0), (0, 0), (1, 1), 1),
    "patches, a rest":  ((2, 9, 9, 5),    (2, 3, 17),  (2, 3), (0, 0), (0, 0), (1, 1), 1),
    "patches, groups":  ((2, 8, 8, 6),    (4, 4, 18),  (4, 4), (0, 0), (0, 0), (1, 1), 3),
    "one channel":      ((4, 28, 28, 1),  (5, 5, 8),   (1, 1), (0, 0), (0, 0), (1, 1), 1),
    "tap, no rows":     ((2, 5, 5, 6),    (2, 2, 16),  (3, 3), (0, 0), (0, 0), (1, 1), 1),
    "one filter":       ((2, 8, 8, 16),   (3, 3, 1),   (1, 1), (1, 1), (1, 1), (1, 1), 1),
    "three filters":    ((2, 9, 10, 20),  (3, 3, 3),   (1, 1), (1, 1), (1, 1), (1, 1), 1),
    "three, strided":   ((2, 9, 10, 20),  (3, 4, 3),   (2, 2), (1, 1), (1, 1), (1, 1), 1),
    "three, dilated":   ((2, 9, 10, 20),  (3, 2, 3),   (1, 1), (2, 1), (1, 2), (2, 3), 1),
    "of three":         ((2, 9, 11, 3),   (3, 3, 20),  (2, 1), (1, 1), (1, 1), (1, 1), 1),
    "whole image":      ((3, 6, 6, 8),    (6, 6, 10),  (1, 1), (0, 0), (0, 0), (1, 1), 1),
    "more padding than image": ((1, 2, 2, 3), (3, 3, 4), (1, 1), (4, 3), (3, 4), (1, 1), 1),
    "many channels":    ((1, 4, 4, 130),  (3, 3, 40),  (1, 1), (1, 1), (1, 1), (1, 1), 1),
    "many images":      ((17, 4, 4, 24),  (3, 3, 40),  (1, 1), (1, 1), (1, 1), (1, 1), 1),
    "many, strided":    ((9, 5, 4, 20),   (5, 5, 33),  (2, 1), (2, 2), (1, 2), (1, 1), 1),
    "many, dilated":    ((16, 5, 5, 16),  (3, 3, 16),  (1, 1), (2, 2), (2, 2), (2, 2), 1),
    "many, all border": ((14, 2, 2, 12),  (3, 3, 20),  (1, 1), (4, 3), (3, 4), (1, 1), 1),
    "many, deep":       ((8, 3, 3, 450),  (3, 3, 34),  (1, 1), (1, 1), (1, 1), (1, 1), 1),
    "deep":             ((2, 5, 5, 420),  (3, 2, 34),  (2, 1), (1, 1), (1, 0), (1, 1), 1),
    "wide":             ((3, 3, 150, 9),  (1, 3, 18),  (1, 1), (0, 1), (0, 1), (1, 1), 1),
    "no images":        ((0, 9, 8, 5),    (3, 3, 17),  (1, 1), (1, 1), (1, 1), (1, 1), 1),
}
# fmt: on


def made(name, dtype=float32, images=None):
    """The convolution of that name, its operands, and what the slow one needs to know."""
    image, (i, j, filters), stride, low, high, dilation, groups = SPECS[name]
    out = f.pooled_sizes(image[1:3], (i, j), stride, low, high, dilation)
    x = placeholder(dtype, image if images is None else (images, *image[1:]), "x")
    w = placeholder(dtype, (i, j, image[-1] // groups, filters), "w")
    y = convolution(x, w, stride, low, out, dilation, groups)
    rng = np.random.default_rng(1)
    fed = {x: rng.uniform(-1, 1, image).astype(dtype.numpy), w: rng.uniform(-1, 1, w.shape).astype(dtype.numpy)}
    return y, x, w, fed, (stride, low, out, dilation, groups)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("name", SPECS)
def test_convolution_and_its_gradients(name, dtype):
    y, x, w, fed, spec = made(name, dtype)
    g = placeholder(dtype, y.shape, "g")
    fed[g] = np.random.default_rng(2).uniform(-1, 1, y.shape).astype(dtype.numpy)
    nodes = [y, *gradients([y], [x, w], seeds=[g])]
    got = check(nodes, fed, threads=(1, 2, 4), added=1000)
    want = slow(fed[x], fed[w], *spec), *slow_gradients(fed[x], fed[w], fed[g], *spec)
    for a, b in zip(got, want, strict=True):
        check_close(a, b.astype(dtype.numpy), 1000)


@pytest.mark.parametrize("name", ["one filter", "three filters", "of three"])
def test_few_results_are_one_product_for_all_taps(name):
    y, x, *_ = made(name)
    wanted = gradients([sum_(y)], [x])[0] if name == "of three" else y
    found = [n for n in toposort(passes.run([wanted])) if n.op is CONTRACT]
    assert {len(n.inputs) for n in found} == {1, 2}
    assert all(not n.attrs["spec"].plain for n in found if len(n.inputs) == 1)
    assert all(n.attrs["spec"].plain for n in found if len(n.inputs) == 2)


@pytest.mark.parametrize("name", ["3x3 padded", "5x5 stride 2", "dilated, strided", "groups", "depthwise"])
def test_any_number_of_images(name):
    y, x, w, fed, spec = made(name, images=fresh_dim())
    nodes = [y, *gradients([sum_(y * y)], [x, w])]
    for count in (2, 1, 0, 5):
        fed[x] = np.random.default_rng(count).uniform(-1, 1, (count, *x.shape[1:])).astype(np.float32)
        got = check(nodes, fed, threads=(2,), added=2000)
        check_close(got[0], slow(fed[x], fed[w], *spec).astype(np.float32), 1000)


def test_images_of_any_size():
    n, h, v = fresh_dim(), fresh_dim(), fresh_dim()
    x, w = placeholder(float32, (n, h, v, 3), "x"), placeholder(float32, (3, 3, 3, 8), "w")
    out = f.pooled_sizes((h, v), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1))
    y = e.relu(convolution(x, w, (2, 2), (1, 1), out, (1, 1)))
    nodes = [y, *gradients([y], [x, w])]
    rng = np.random.default_rng(0)
    for shape in ((2, 7, 9), (1, 8, 8), (3, 1, 1), (1, 2, 17)):
        fed = {x: rng.uniform(-1, 1, (*shape, 3)).astype(np.float32), w: rng.uniform(-1, 1, w.shape).astype(np.float32)}
        check(nodes, fed, threads=(1, 3), added=300)


@pytest.mark.parametrize("name", ["3x3 padded", "5x5 stride 2", "groups, strided"])
def test_bias_and_relu_are_computed_with_it(name):
    y, x, w, fed, spec = made(name)
    b = placeholder(float32, (y.shape[-1],), "b")
    fed[b] = np.random.default_rng(3).uniform(-1, 1, b.shape).astype(np.float32)
    (got,) = run([e.relu(y + b)], fed)
    check_close(got, np.maximum(slow(fed[x], fed[w], *spec) + fed[b], 0).astype(np.float32), 1000)


@needs_avx2
@pytest.mark.parametrize("name", ["3x3 padded", "dilated, strided", "depthwise"])
def test_shorter_vectors(name):
    y, x, w, fed, spec = made(name)
    with config(TARGET="avx2"):
        (got,) = check([y], fed, threads=(1, 2), added=1000)
    check_close(got, slow(fed[x], fed[w], *spec).astype(np.float32), 1000)


@pytest.mark.parametrize("rank", [1, 3])
def test_lines_and_volumes(rank):
    shape, kernel = ((2, 20, 4), (3, 4, 8)) if rank == 1 else ((2, 5, 6, 7, 3), (2, 3, 2, 3, 8))
    x, w = placeholder(float32, shape, "x"), placeholder(float32, kernel, "w")
    one = (1,) * rank
    out = f.pooled_sizes(shape[1:-1], kernel[:rank], one, one, one, one)
    y = convolution(x, w, one, one, out, one)
    rng = np.random.default_rng(0)
    fed = {n: rng.uniform(-1, 1, n.shape).astype(np.float32) for n in (x, w)}
    check([y, *gradients([y * y], [x, w])], fed, threads=(1, 3), added=300)


# ------------------------------------------------------------------------------------------ pooling


def slow_pool(x, window, stride, low, high, how):
    """how(the elements of each window that lie in the image), one window at a time."""
    out = f.pooled_sizes(x.shape[1:3], window, stride, low, high, (1, 1))
    y = np.zeros((x.shape[0], *out, x.shape[-1]), x.dtype)
    for h, v in itertools.product(*map(range, out)):
        r, c = h * stride[0] - low[0], v * stride[1] - low[1]
        y[:, h, v] = how(x[:, max(r, 0) : r + window[0], max(c, 0) : c + window[1]])
    return y


POOLS = [((2, 2), (2, 2), (0, 0), (0, 0)), ((3, 3), (2, 2), (1, 1), (1, 1)), ((3, 2), (1, 2), (0, 1), (2, 0))]


@pytest.mark.parametrize("spec", POOLS, ids=str)
@pytest.mark.parametrize("channels", [1, 17, 32])
def test_pooling(spec, channels):
    x = placeholder(float32, (2, 8, 9, channels), "x")
    fed = {x: np.random.default_rng(0).uniform(-1, 1, x.shape).astype(np.float32)}
    most, mean = f.max_pool(x, *spec), f.avg_pool(x, *spec)
    plain = pool_sum(x, f.pools(x, *spec, None, None)) / float(spec[0][0] * spec[0][1])
    got = check([most, mean, plain, *gradients([most * most, mean * plain], [x])], fed, added=20)
    check_close(got[0], slow_pool(fed[x], *spec, lambda w: w.max((1, 2))))
    check_close(got[1], slow_pool(fed[x], *spec, lambda w: w.mean((1, 2))))
    area = spec[0][0] * spec[0][1]
    check_close(got[2], slow_pool(fed[x], *spec, lambda w: w.sum((1, 2)) / np.float32(area)))


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equals():
    x = placeholder(float32, (1, 4, 4, 1), "x")
    (gx,) = gradients([f.max_pool(x, (2, 2), (2, 2), (0, 0), (0, 0))], [x])
    (got,) = check([gx], {x: np.ones((1, 4, 4, 1), np.float32)})
    want = np.zeros((4, 4), np.float32)
    want[::2, ::2] = 1
    np.testing.assert_array_equal(got[0, :, :, 0], want)
