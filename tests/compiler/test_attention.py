"""Attention in native code: sizes that fit no tile, masks, rows that see nothing, threads, and views read in place."""

import math

import numpy as np
import pytest

from tests.compiler.native import check, needs_avx2, run
from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import bool_, float32, float64, int64
from tinyflow.graph.evaluate import evaluate
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.attention import attention, attention_grad
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import concat, permute, reshape
from tinyflow.ops.random import uniform
from tinyflow.ops.reduction import sum_
from tinyflow.passes.gradient import gradients

INF = math.inf
RNG = np.random.default_rng(0)


def given(*shapes, dtype=float32):
    """Placeholders, and numbers for them."""
    nodes = [placeholder(dtype, s, "qkvg"[n]) for n, s in enumerate(shapes)]
    return nodes, {n: RNG.standard_normal(n.shape).astype(dtype.numpy) for n in nodes}


def all_of(lead, m, n, d, e, steps, more=(), dtype=float32):
    """The result and the three gradients, and what to feed."""
    (q, k, v, g), fed = given((*lead, m, d), (*lead, n, d), (*lead, n, e), (*lead, m, e), dtype=dtype)
    masks = {placeholder(bool_ if a.dtype == bool else dtype, a.shape, "mask"): a for a in more}
    y = attention(q, k, v, *masks, steps=steps)
    return [y, *(attention_grad(of, q, k, v, g, *masks, steps=steps) for of in "qkv")], fed | masks


# fmt: off
SIZES = [  # heads, rows, keys, widths of q and k and of v
    ((), 1, 1, 1, 1), ((2,), 1, 40, 16, 16), ((2,), 5, 1, 4, 4), ((3,), 15, 17, 5, 5), ((2, 2), 29, 31, 16, 64), ((1,), 70, 70, 80, 80),
    ((2,), 57, 130, 64, 128), ((1,), 113, 113, 128, 33), ((5,), 16, 16, 8, 8), ((1, 3), 100, 7, 20, 1), ((1,), 30, 1030, 32, 32), ((0, 2), 5, 6, 4, 4),
    ((2,), 61, 2700, 8, 16),
]
# fmt: on


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(sizes, causal):
    _, m, n, d, _ = sizes
    steps = (("mul", d**-0.5), *([("causal", max(n - m, 0))] if causal else []))
    nodes, fed = all_of(*sizes, steps)
    check(nodes, fed, threads=(1, 2, 3), added=max(m, n, d))


@pytest.mark.parametrize("sizes", SIZES[3:6], ids=str)
def test_float64(sizes):
    nodes, fed = all_of(*sizes, (("div", 2.0), ("causal", 1)), dtype=float64)
    check(nodes, fed, threads=(1, 2), added=64)


@needs_avx2
@pytest.mark.parametrize("sizes", SIZES[3:7], ids=str)
def test_shorter_vectors(sizes):
    nodes, fed = all_of(*sizes, (("mul", 0.1), ("causal", 0)))
    with config(TARGET="avx2"):
        check(nodes, fed, threads=(1, 2), added=128)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (1, 2), (2, 3), (0, 1, 3)], ids=str)
def test_gradients_of_some_operands(wanted):
    nodes, fed = all_of((2,), 20, 33, 16, 20, (("causal", 5),))
    check([nodes[w] for w in wanted], fed, threads=(1, 2), added=33)


def test_many_threads_and_few_heads():
    nodes, fed = all_of((1,), 300, 300, 16, 16, (("causal", 0),))
    check(nodes, fed, threads=(1, 2, 3, 4), added=300)


# ------------------------------------------------------------------------------------------ masks


def masks(m, n):
    seen = RNG.random((2, m, n)) < 0.6
    seen[0, 3], seen[1, : m // 2] = False, False  # rows that see nothing
    return seen, np.where(seen, RNG.standard_normal(seen.shape), -INF).astype(np.float32)


@pytest.mark.parametrize("last", [(), (("causal", 2),), (("safe",),), (("causal", 2), ("safe",))], ids=str)
@pytest.mark.parametrize("kind", ["add", "where", "unless", "finite"])
def test_masks(kind, last):
    """Rows that see nothing are NaN, in all that depends on them, or 0 where that was asked for."""
    seen, bias = masks(37, 50)
    more = [{"add": bias, "where": seen, "unless": ~seen, "finite": seen}[kind]]
    step = {"add": ("add", 0), "where": ("where", 0, -INF), "unless": ("unless", 0, -INF), "finite": ("where", 0, -1e4)}
    nodes, fed = all_of((2,), 37, 50, 16, 24, (("mul", 0.25), step[kind], *last), more)
    got = check(nodes, fed, threads=(1, 2), added=50)
    assert np.isnan(got[0]).any() == (kind != "finite" and ("safe",) not in last)


def test_infinite_scores_and_numbers_that_are_none():
    nodes, fed = all_of((2,), 20, 30, 4, 4, (("causal", 3),))
    q = next(iter(fed))
    fed[q][0, 3, 0], fed[q][1, 7, 1] = INF, np.nan
    check(nodes[:2], fed, threads=(1, 2), added=30)  # of dk and dv, 0 times NaN is left out for keys that are not seen


def test_great_scores_do_not_overflow():
    nodes, fed = all_of((2,), 20, 30, 4, 4, (("mul", 1e4),))
    got = run(nodes, fed)
    assert all(np.isfinite(a).all() for a in got)
    np.testing.assert_allclose(got[0], evaluate(nodes, fed)[nodes[0]], rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------ dropout


def dropped(key, m, n, lead=(2,), rate=0.25):
    """What probabilities are multiplied by."""
    return e.where(e.less(uniform(key, (*lead, m, n)), rate), 0.0, 1 / (1 - rate))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_weights_of_any_size(sizes, causal):
    lead, m, n, d, _ = sizes
    steps = (("mul", d**-0.5), *([("causal", max(n - m, 0))] if causal else []), ("weigh", 0))
    nodes, fed = all_of(*sizes, steps, [RNG.standard_normal((*lead, m, n)).astype(np.float32)])
    check(nodes, fed, threads=(1, 2, 3), added=max(m, n, d))


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("last", [(), (("causal", 2),), (("safe",),), (("causal", 2), ("safe",))], ids=str)
def test_random_numbers_are_drawn_again_and_not_kept(last, dtype):
    """Beside masks, and rows that see nothing."""
    key, (m, n) = placeholder(int64, (), "key"), (37, 50)
    seen, _ = masks(m, n)
    (q, k, v, g), fed = given((2, m, 16), (2, n, 16), (2, n, 24), (2, m, 24), dtype=dtype)
    mask = placeholder(bool_, seen.shape, "mask")
    operands, steps = (mask, e.cast(dropped(key, m, n), dtype)), (("where", 0, -INF), *last, ("weigh", 1))
    nodes = [attention(q, k, v, *operands, steps=steps)]
    nodes += [attention_grad(of, q, k, v, g, *operands, steps=steps) for of in "qkv"]
    fed |= {mask: seen, key: np.int64(5)}
    check(nodes, fed, added=n)
    labels, program = kernels(nodes, fed)
    assert len(labels) == 2
    assert not any(s.kind == "temp" and not s.per_thread for s in program.slots)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (1, 2), (2, 3)], ids=str)
def test_some_gradients_of_weights(wanted):
    key = placeholder(int64, (), "key")
    (q, k, v, g), fed = given((2, 20, 16), (2, 33, 16), (2, 33, 20), (2, 20, 20))
    steps, weights = (("causal", 5), ("weigh", 0)), dropped(key, 20, 33)
    nodes = [attention(q, k, v, weights, steps=steps)]
    nodes += [attention_grad(of, q, k, v, g, weights, steps=steps) for of in "qkv"]
    check([nodes[w] for w in wanted], fed | {key: np.int64(-3)}, threads=(1, 2), added=33)


def test_random_numbers_that_are_shown_too():
    key = placeholder(int64, (), "key")
    (q, k, v), fed = given((2, 20, 16), (2, 33, 16), (2, 33, 20))
    drawn = dropped(key, 20, 33)
    check([attention(q, k, v, drawn, steps=(("weigh", 0),)), drawn], fed | {key: np.int64(1)}, added=33)


def test_the_gradient_of_dropout_is_its_slope():
    """Against differences, for one key: what is dropped in the result is dropped in its gradients."""
    key = placeholder(int64, (), "key")
    (q, k, v), fed = given((2, 9, 5), (2, 11, 5), (2, 11, 4), dtype=float64)
    s = e.where(f.triangle(9, 11, 2), matmul(q, k, transpose_b=True), -INF)
    y = sum_(e.tanh(matmul(e.where(e.less(uniform(key, s.shape), 0.3), 0.0, f.softmax(s) / 0.7), v)))
    fed[key] = np.int64(11)
    value = lambda moved: run([y], fed | moved, threads=(1,))[0]
    for x, slope in zip((q, k, v), run(gradients([y], [q, k, v]), fed), strict=True):
        way = RNG.standard_normal(x.shape)
        step = 1e-5 * way
        found = (value({x: fed[x] + step}) - value({x: fed[x] - step})) / 2e-5
        np.testing.assert_allclose(np.sum(slope * way), found, rtol=1e-7)


# ------------------------------------------------------------------------------------------ what is fused


def kernels(nodes, fed):
    runner = execute.compile(nodes)
    runner(fed, {})
    return [c.label for c in runner.native.program.items], runner.native.program


def test_heads_are_read_within_the_projection_and_no_scores_are_written():
    b, h, t, d = 2, 3, 40, 16
    x = placeholder(float32, (b, t, 3 * h * d), "qkv")
    q, k, v = (permute(reshape(p, (b, t, h, d)), (0, 2, 1, 3)) for p in f.split(x, (h * d,) * 3, 2))
    s = e.where(f.triangle(t, t), matmul(q * d**-0.5, k, transpose_b=True), -INF)
    y = reshape(permute(matmul(f.softmax(s), v), (0, 2, 1, 3)), (b, t, h * d)) * 2.0
    g = placeholder(float32, y.shape, "g")
    nodes = [y, *gradients([y], [x], [g])]
    fed = {n: RNG.standard_normal(n.shape).astype(np.float32) for n in (x, g)}
    check(nodes, fed, added=t)
    labels, program = kernels(nodes, fed)
    assert len(labels) == 4  # the result, twice it, the gradients, and their places in that of x
    assert not any(not s.per_thread and s.kind == "temp" and s.size >= b * h * t * t * 4 for s in program.slots)


def test_layers_with_dropout_keep_nothing_of_the_size_of_scores():
    """Though what is dropped is wanted again long after."""
    b, h, t, d, layers = 2, 4, 192, 8, 3
    key, x = placeholder(int64, (), "key"), placeholder(float32, (b, h, t, d), "x")
    y = x
    for salt in range(layers):
        s = e.where(f.triangle(t, t), matmul(y * d**-0.5, y, transpose_b=True), -INF)
        drawn = e.less_equal(0.1, uniform(key, s.shape, salt=salt))
        y = y + matmul(e.where(drawn, f.softmax(s) * (1 / 0.9), 0.0), y)
    nodes = [y, *gradients([sum_(y * y)], [x])]
    fed = {x: RNG.standard_normal(x.shape).astype(np.float32) * 0.3, key: np.int64(2)}
    check(nodes, fed, threads=(1, 2), added=t)
    _, program = kernels(nodes, fed)
    assert not any(not s.per_thread and s.kind == "temp" and s.size >= b * h * t * t for s in program.slots)


def test_a_cache_of_keys():
    """Queries are fewer than keys, of which some come from before."""
    b, h, t, old, d = 2, 2, 9, 23, 8
    (q, new, before, v), fed = given((b, h, t, d), (b, h, t, d), (b, h, old, d), (b, h, old + t, d))
    k = concat([before, new], 2)
    s = e.where(f.triangle(t, old + t, old), matmul(q, k, transpose_b=True), -INF)
    y = matmul(f.softmax(s), v)
    nodes = [y, *gradients([y], [q, new, before, v])]
    check(nodes, fed, added=32)
    assert len(kernels([y], fed)[0]) == 1


def test_costly_operands_are_computed_once():
    (q, k, v, g), fed = given(*[(2, 2, 20, 8)] * 4)
    s = matmul(e.tanh(q), e.exp(k), transpose_b=True)
    y = matmul(f.softmax(s), e.sigmoid(v))
    nodes = [y, *gradients([y], [q, k, v], [g])]
    check(nodes, fed, added=20)
    labels, _ = kernels([y], fed)
    assert len(labels) == 4
