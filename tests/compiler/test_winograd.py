"""Filters by Winograd's minimal filtering: odd sizes, all gradients, what is fused with them, any threads."""

import numpy as np
import pytest

from tests.compiler.native import check, check_close
from tests.compiler.test_convolution import slow, slow_gradients
from tinyflow.compiler import pipeline, winograd
from tinyflow.compiler.contraction import has_recipe
from tinyflow.compiler.schedule import Schedule
from tinyflow.core.dtypes import float32, float64
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import convolution, matmul
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import concat, permute, reshape
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline as passes
from tinyflow.passes.gradient import gradients

# fmt: off
SIZES = {  # images with channels, filters, padding, dilation, groups
    "even":               ((4, 16, 16, 16),    (3, 3, 16),  1, 1, 1),
    "odd":                ((3, 17, 15, 20),    (3, 3, 37),  1, 1, 1),
    "odd height":         ((3, 15, 16, 16),    (3, 3, 64),  1, 1, 1),
    "no padding":         ((2, 20, 21, 32),    (3, 3, 48),  0, 1, 1),
    "full padding":       ((2, 30, 9, 48),     (3, 3, 33),  2, 1, 1),
    "one image":          ((1, 33, 33, 64),    (3, 3, 100), 1, 1, 1),
    "many small images":  ((33, 4, 4, 40),     (3, 3, 70),  1, 1, 1),
    "deep":               ((2, 16, 16, 300),   (3, 3, 17),  1, 1, 1),
    "wide":               ((1, 5, 150, 17),    (3, 3, 33),  1, 1, 1),
    "one block":          ((2, 16, 16, 70),    (3, 3, 50),  1, 1, 1),
    "5x5":                ((4, 14, 14, 32),    (5, 5, 64),  2, 1, 1),
    "5x5, odd":           ((3, 15, 17, 33),    (5, 5, 18),  2, 1, 1),
    "5x5, no padding":    ((2, 20, 21, 20),    (5, 5, 20),  0, 1, 1),
    "2x2":                ((3, 15, 17, 33),    (2, 2, 18),  1, 1, 1),
    "7x7":                ((2, 15, 16, 17),    (7, 7, 20),  3, 1, 1),
    "3x5":                ((2, 16, 16, 20),    (3, 5, 33),  1, 1, 1),
    "3x11":               ((3, 16, 20, 17),    (3, 11, 16), 1, 1, 1),
    "dilated":            ((3, 16, 16, 20),    (3, 3, 17),  2, 2, 1),
    "dilated, a rest":    ((3, 17, 23, 20),    (3, 3, 17),  3, 3, 1),
    "groups":             ((3, 16, 15, 60),    (3, 3, 54),  1, 1, 3),
    "groups, many tiles": ((3, 32, 32, 32),    (3, 3, 40),  1, 1, 2),
    "line":               ((3, 101, 20),       (3, 33),     1, 1, 1),
    "line, dilated":      ((2, 100, 33),       (5, 20),     8, 4, 1),
    "line, groups":       ((5, 64, 100),       (3, 80),     1, 1, 5),
    "depth":              ((2, 4, 8, 9, 20),   (3, 3, 3, 17), 1, 1, 1),
    "depth, dilated":     ((2, 5, 8, 8, 16),   (2, 3, 3, 33), 2, 2, 1),
    "depth, groups":      ((1, 3, 8, 12, 40),  (3, 3, 3, 32), 1, 1, 2),
    "great":              ((8, 4, 5, 256),     (3, 3, 384), 1, 1, 1),
    "great, groups":      ((8, 4, 4, 512),     (3, 3, 512), 1, 1, 2),
    "great, line":        ((8, 14, 768),       (5, 512),    2, 1, 1),
}
BY_TWOS = {
    "3x3 by twos":        ((3, 32, 31, 20),    (3, 3, 33),  1, 1, 1),
    "2x4 by twos":        ((3, 16, 16, 20),    (2, 4, 33),  1, 1, 1),
    "5x7 by twos":        ((2, 32, 29, 17),    (5, 7, 20),  3, 1, 1),
    "dilated by twos":    ((2, 40, 37, 17),    (3, 3, 20),  2, 2, 1),
    "far by twos":        ((2, 36, 33, 17),    (3, 3, 20),  4, 4, 1),
    "depth by twos":      ((2, 8, 16, 16, 16), (3, 3, 3, 32), 1, 1, 1),
    "groups by twos":     ((3, 32, 32, 40),    (3, 3, 32),  1, 1, 2),
}
# fmt: on


def made(name, dtype=float32):
    step = 2 if name in BY_TWOS else 1
    image, (*taps, filters), pad, apart, groups = SIZES.get(name) or BY_TWOS[name]
    sizes, rank = image[1:-1], len(taps)
    out = tuple((n + 2 * pad - apart * (t - 1) - 1) // step + 1 for n, t in zip(sizes, taps, strict=True))
    x, k = placeholder(dtype, image, "x"), placeholder(dtype, (*taps, image[-1] // groups, filters), "w")
    spec = (step,) * rank, (pad,) * rank, out, (apart,) * rank, groups
    y = convolution(x, k, *spec)
    g = placeholder(dtype, y.shape, "g")
    rng = np.random.default_rng(1)
    fed = {leaf: rng.uniform(-1, 1, leaf.shape).astype(dtype.numpy) for leaf in (x, k, g)}
    return y, x, k, g, fed, spec


def recipes(nodes):
    """The recipes that the kernels of these nodes have."""
    return [type(k.recipe) for k in pipeline.build(passes.run(nodes), {}).kernels]


@pytest.mark.parametrize("name", SIZES)
def test_beside_plain_loops(name):
    y, x, k, g, fed, spec = made(name)
    nodes = [y, *gradients([y], [x, k], seeds=[g])]
    got = check(nodes, fed, threads=(1, 2, 3, 4), added=3000)
    want = slow(fed[x], fed[k], *spec), *slow_gradients(fed[x], fed[k], fed[g], *spec)
    for a, b in zip(got, want, strict=True):
        check_close(a, b.astype(np.float32), 3000)
    found = recipes(nodes)
    assert found.count(winograd.Sharing if name.startswith("great") else winograd.Filtering) == 2
    assert found.count(winograd.Learning) == 1


@pytest.mark.parametrize("name", BY_TWOS)
def test_two_steps_at_a_time(name):
    y, x, k, g, fed, spec = made(name)
    gx, gk = gradients([y], [x, k], seeds=[g])
    got = check([y, gx, gk], fed, threads=(1, 2, 3, 4), added=3000)
    want = slow(fed[x], fed[k], *spec), *slow_gradients(fed[x], fed[k], fed[g], *spec)
    for a, b in zip(got, want, strict=True):
        check_close(a, b.astype(np.float32), 3000)
    assert winograd.Filtering in recipes([y])
    assert winograd.Learning in recipes([gk])


@pytest.mark.parametrize("name", ["one image", "5x5", "7x7"])
def test_error_is_that_of_the_plain_formula(name):
    """Beside float64."""
    y, x, k, g, fed, spec = made(name)
    nodes = [y, *gradients([y], [x, k], seeds=[g])]
    want = slow(fed[x], fed[k], *spec), *slow_gradients(fed[x], fed[k], fed[g], *spec)
    for a, b in zip(check(nodes, fed, threads=(2,), added=3000), want, strict=True):
        assert np.abs(a - b).max() < 1e-6 * np.abs(b).max()


@pytest.mark.parametrize(
    "name", ["even", "odd", "no padding", "5x5, odd", "dilated, a rest", "groups", "line", "depth"]
)
def test_what_is_made_of_the_results_is_made_with_them(name):
    y, x, k, g, fed, _ = made(name)
    b, r = placeholder(float32, (y.shape[-1],), "b"), placeholder(float32, y.shape, "r")
    rng = np.random.default_rng(2)
    fed[b], fed[r] = rng.uniform(-1, 1, b.shape).astype(np.float32), rng.uniform(-1, 1, r.shape).astype(np.float32)
    z = e.relu(y + b) * r
    nodes = [z, y, *gradients([sum_(z * g)], [x, k, b])]
    check(nodes, fed, threads=(1, 2), added=3000)


def test_results_seen_in_another_shape():
    y, _, _, _, fed, _ = made("odd")
    n, h, w, o = y.shape
    check([reshape(e.relu(reshape(y, (n, h * w, o))), y.shape) * 2.0], fed, threads=(2,), added=3000)


def test_filters_in_any_order():
    """As PyTorch keeps them: filters, channels, height, width; and added to their gradient where it is made."""
    (n, h, w, c), (_, _, o), pad, *_ = SIZES["odd"]
    x, k = placeholder(float32, (n, h, w, c), "x"), placeholder(float32, (o, c, 3, 3), "w")
    y = convolution(x, permute(k, (2, 3, 1, 0)), (1, 1), (pad, pad), (h, w), (1, 1))
    rng = np.random.default_rng(1)
    fed = {leaf: rng.uniform(-1, 1, leaf.shape).astype(np.float32) for leaf in (x, k)}
    gx, gk = gradients([sum_(y * y)], [x, k])
    check([y, gx, k - 0.1 * gk], fed, threads=(1, 2), added=100_000)


@pytest.mark.parametrize("name", ["even", "odd"])
def test_float64_and_small_ones_are_computed_plainly(name):
    y, *_ = made(name, float64)
    assert winograd.Filtering not in recipes([y])
    x, k = placeholder(float32, (1, 8, 8, 16), "x"), placeholder(float32, (3, 3, 16, 16), "w")
    assert winograd.Filtering not in recipes([convolution(x, k, (1, 1), (1, 1), (8, 8), (1, 1))])


def test_results_are_stored_where_they_belong_in_a_concatenation():
    y, x, k, _, fed, spec = made("odd")
    z = convolution(x, e.neg(k), *spec)
    n, h, w, o = y.shape
    m = placeholder(float32, (2 * o, 24), "m")
    fed[m] = np.random.default_rng(3).uniform(-1, 1, m.shape).astype(np.float32)
    both = concat([y, z], 3)
    schedule = Schedule(passes.run([matmul(reshape(both, (n * h * w, 2 * o)), m)]), has_recipe)
    assert schedule.joined
    check([matmul(reshape(both, (n * h * w, 2 * o)), m)], fed, threads=(1, 2), added=100_000)
