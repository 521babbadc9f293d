"""Whole expressions in few passes: softmax, norms, losses and their gradients, optimisers, movement in the middle."""

import numpy as np
import pytest

from tests.compiler.native import THREADS, check, needs_avx2, run, same_bits
from tinyflow import execute
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, float64, int32, int64
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.evaluate import evaluate
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.indexing import gather, gather_axis, scatter_add, take_along
from tinyflow.ops.leaf import constant, iota, placeholder, variable
from tinyflow.ops.movement import concat, expand, flip, pad, permute, reshape, slice_, stack
from tinyflow.ops.random import normal, truncated_normal, uniform
from tinyflow.ops.reduction import argmax, argmin, max_, mean, min_, prod, sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients

# fmt: off
FUNCTIONS = {  # of a and b, (rows, columns)
    "softmax":             lambda a, b: [f.softmax(a)],
    "softmax down":        lambda a, b: [f.softmax(a, 0)],
    "softmax and log":     lambda a, b: [f.softmax(a), f.log_softmax(a)],
    "log of softmax":      lambda a, b: [e.log(f.softmax(a)) * b],
    "logsumexp":           lambda a, b: [f.logsumexp(a, 1), f.logsumexp(a, 0), f.logsumexp(a)],
    "layer norm":          lambda a, b: [f.layer_norm(a, slice_(b, (0, 0), (1, b.shape[1])), None, (1,))],
    "norm down":           lambda a, b: [f.normalise(a, (0,), 1e-5)],
    "norm of all":         lambda a, b: [f.normalise(a, (0, 1), 1e-5)],
    "cross entropy":       lambda a, b: [mean(f.cross_entropy(a, f.softmax(b)))],
    "moments":             lambda a, b: [mean(a), f.variance(a), f.variance(a, 1, correction=1), mean(a, 0)],
    "extrema":             lambda a, b: [max_(a, 1) - min_(b, 1), max_(a * b), argmax(a, 1), argmin(a + b, 0)],
    "product":             lambda a, b: [prod(1.0 + 0.001 * a, 1)],
    "chain":               lambda a, b: [e.tanh(e.exp(a * 0.1) + e.sigmoid(b)) * e.sqrt(e.abs_(a) + 1.0)],
    "reused":              lambda a, b: [e.exp(a) + b, e.exp(a) * b, e.exp(a)],
    "rows and columns":    lambda a, b: [a - sum_(a, 1, keepdims=True) - sum_(a, 0, keepdims=True)],
    "row of row":          lambda a, b: [a / sum_(e.exp(a - max_(a, 1, keepdims=True)) * sum_(b, 1, keepdims=True), 1, keepdims=True)],
    "attention":           lambda a, b: [matmul(f.softmax(matmul(a, b, transpose_b=True) * 0.1), b)],
    "concat":              lambda a, b: [e.exp(concat([a * 2.0, b + 1.0], 1)) + 1.0, concat([a, b, a * b], 0) * 2.0],
    "concat of folds":     lambda a, b: [concat([sum_(a, 1, keepdims=True), b, max_(a, 1, keepdims=True)], 1)],
    "fold of concat":      lambda a, b: [sum_(concat([a, e.exp(b)], 1), 1), max_(concat([a, b], 0), 0)],
    "pad":                 lambda a, b: [pad(e.exp(a), (1, 2), (3, 0)) + 1.0, sum_(pad(a * b, (0, 3), (2, 0), value=0.5), 1)],
    "pad between":         lambda a, b: [pad(a + b, (0, 1), (2, 0), (1, 2)) * 3.0],
    "pad of folds":        lambda a, b: [pad(f.softmax(a), (1, 1), (1, 1)), pad(sum_(a, 1), (2,), (3,)) + 1.0],
    "stack":               lambda a, b: [stack([a, e.exp(b), a * b], 2), stack([sum_(a, 1), max_(b, 1)], 0)],
    "flip":                lambda a, b: [flip(e.exp(a), (1,)) + b, flip(f.softmax(a), (0, 1))],
    "steps":               lambda a, b: [e.exp(slice_(a * b, (0, 0), ((a.shape[0] + 1) // 2, a.shape[1]), (2, 1)))],
    "transpose":           lambda a, b: [permute(a + b, (1, 0)) * 2.0, sum_(permute(e.exp(a), (1, 0)), 1), f.softmax(permute(a, (1, 0)))],
    "reshape":             lambda a, b: [reshape(a * b, (-1,)) + 1.0, sum_(reshape(e.exp(a), (-1,)))],
    "tile":                lambda a, b: [f.tile(a, (2, 3)) * 2.0, f.softmax(f.tile(a, (1, 2)))],
    "select":              lambda a, b: [e.where(e.less(a, b), e.exp(a), e.log(e.abs_(b) + 1.0))],
    "one hot":             lambda a, b: [f.one_hot(argmax(a, 1), a.shape[1]) * b, sum_(f.one_hot(argmax(a, 0), a.shape[0]), 0)],
    "accuracy":            lambda a, b: [mean(e.cast(e.equal(argmax(a, 1), argmax(b, 1)), float32))],
    "any and all":         lambda a, b: [f.any_(e.less(a, b), 1), f.all_(e.less(a, 4.0 + b), 0), f.all_(e.less(a, b))],
    "triangle":            lambda a, b: [e.where(f.triangle(a.shape[0], a.shape[1]), a, 0.0), sum_(e.where(f.triangle(*a.shape, 1), a, b), 1)],
    "casts":               lambda a, b: [e.cast(a * 10.0, int32) + 1, e.cast(e.cast(a, float64) * 2.0, float32), sum_(e.cast(e.less(a, b), int64))],
    "counters":            lambda a, b: [a + iota(a.shape[1], float32), iota(a.shape[0]) * 2, f.position(a.shape, 0, float32) * b],
    "constants":           lambda a, b: [f.zeros(a.shape), f.ones(a.shape) * 3.0, expand(constant(2), (5,))],
    "itself":              lambda a, b: [a, a, b, a + 0.0],
}
# fmt: on
NEED_A_ROW = (
    "extrema",
    "one hot",
    "accuracy",
    "layer norm",
    "pad between",
)  # they say where a maximum is, or take row 0
SHAPES = [(5, 7), (33, 100), (1, 1), (17, 1), (1, 1023), (64, 48), (3, 2053)]


def pair(shape, dtype=float32, seed=0):
    rng = np.random.default_rng(seed)
    return {placeholder(dtype, shape, n): rng.uniform(-2, 2, shape).astype(dtype.numpy) for n in "ab"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_on_one_shape(name):
    fed = pair((33, 50))
    check(FUNCTIONS[name](*fed), fed, added=100)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_any_size(name):
    """One program, many sizes: those of one vector, of a part of one, of many, and none."""
    a, b = (placeholder(float32, dims, n) for dims in [(fresh_dim("n"), fresh_dim("m"))] for n in "ab")
    nodes = FUNCTIONS[name](a, b)
    empty = [] if name in NEED_A_ROW else [(0, 5)]
    for shape in [*SHAPES, *empty]:
        fed = dict(zip((a, b), pair(shape).values(), strict=True))
        check(nodes, fed, threads=(1, 3), added=max(shape))


@needs_avx2
@pytest.mark.parametrize(
    "name", ["softmax", "layer norm", "chain", "concat of folds", "extrema", "casts", "transpose", "moments"]
)
def test_functions_with_shorter_vectors(name):
    fed = pair((33, 50))
    with config(TARGET="avx2"):
        check(FUNCTIONS[name](*fed), fed, threads=(1, 2), added=100)


@pytest.mark.parametrize(
    "name", ["softmax", "layer norm", "chain", "extrema", "transpose", "moments", "reshape", "select"]
)
def test_functions_of_float64(name):
    fed = pair((9, 37), float64)
    check(FUNCTIONS[name](*fed), fed, threads=(2,), added=100)


DIFFERENTIABLE = [
    n for n in FUNCTIONS if n not in ("one hot", "accuracy", "any and all", "counters", "constants", "casts")
]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name):
    fed = pair((14, 35))
    results = [y * y for y in FUNCTIONS[name](*fed) if y.dtype.is_floating]
    nodes = [g for g in gradients(results, list(fed)) if g is not None]
    check(nodes, fed, threads=(1, 2, 4), added=500)


# ------------------------------------------------------------------------------------------ losses, optimisers, models


def test_cross_entropy_by_label_and_its_gradient():
    n = fresh_dim()
    x, t = placeholder(float32, (n, 10), "x"), placeholder(int64, (n,), "t")
    loss = mean(f.sparse_cross_entropy(x, t))
    nodes = [loss, *gradients([loss], [x])]
    for rows in (1, 32, 100):
        rng = np.random.default_rng(rows)
        check(nodes, {x: rng.uniform(-9, 9, (rows, 10)).astype(np.float32), t: rng.integers(0, 10, rows)}, added=100)


def adam(w, g, m, v, rate=0.01):
    m, v = m * 0.9 + g * 0.1, v * 0.999 + g * g * 0.001
    return w - m * rate / (e.sqrt(v) + 1e-8), m, v


def test_one_step_of_adam_for_several_parameters():
    """All updates read old values and land in the arrays that the variables have."""
    n = fresh_dim()
    x, t = placeholder(float32, (n, 12), "x"), placeholder(float32, (n, 5), "t")
    shapes = [(12, 33), (33,), (33, 5), (5,)]
    ws, ms, vs = ([variable(float32, s, k) for s in shapes] for k in "wmv")
    h = e.relu(matmul(x, ws[0]) + ws[1])
    loss = mean(f.cross_entropy(matmul(h, ws[2]) + ws[3], t))
    changes = {}
    for w, g, m, v in zip(ws, gradients([loss], ws), ms, vs, strict=True):
        changes |= dict(zip((w, m, v), adam(w, g, m, v), strict=True))
    rng = np.random.default_rng(0)
    old = {x: (rng.uniform(-1, 1, x.shape) + (0 if x in ws else 1.1)).astype(np.float32) for x in changes}
    fed = {x: rng.uniform(-1, 1, (20, 12)).astype(np.float32), t: np.eye(5, dtype=np.float32)[rng.integers(0, 5, 20)]}
    want = evaluate(changes.values(), {**fed, **old})
    first = None
    for threads in (*THREADS, 1):
        store = {v: a.copy() for v, a in old.items()}
        held = dict(store)
        with config(THREADS=threads):
            execute.compile([loss], changes)(fed, store)
        assert all(store[v] is held[v] for v in changes)
        for v, new in changes.items():
            np.testing.assert_allclose(store[v], want[new], rtol=2e-5, atol=1e-6)
        first = first or store
        assert all(same_bits(first[v], store[v]) for v in changes)


def test_a_recurrent_cell_unrolled():
    rng = np.random.default_rng(0)
    shapes = {"x": (7, 4, 10), "wx": (10, 20), "wh": (20, 20), "b": (20,)}
    fed = {placeholder(float32, s, n): rng.uniform(-0.5, 0.5, s).astype(np.float32) for n, s in shapes.items()}
    x, wx, wh, b = fed
    h = f.zeros((4, 20))
    for step in f.unstack(x, 0):
        h = e.tanh(matmul(step, wx) + matmul(h, wh) + b)
    check([h, *gradients([sum_(h * h)], [wx, wh, b])], fed, added=500)


# ------------------------------------------------------------------------------------------ gather, scatter, random


def test_gather_and_scatter_in_the_middle():
    rng = np.random.default_rng(0)
    n = fresh_dim()
    x, i = placeholder(float32, (50, 20), "x"), placeholder(int32, (n, 3), "i")
    rows = gather(e.exp(x), i) * 2.0
    nodes = [
        sum_(rows, 1) + 1.0,
        f.softmax(rows),
        scatter_add(rows, i, 50) * 0.5 + x,
        gather_axis(x, slice_(i, (0, 0), (n, 1)), 1),
        take_along(x, e.cast(slice_(i, (0, 0), (1, 3)), int64), 1),
        *gradients([sum_(rows * rows, 2)], [x]),
    ]
    for count in (1, 13, 64):
        check(
            nodes, {x: rng.uniform(-1, 1, (50, 20)).astype(np.float32), i: rng.integers(0, 20, (count, 3))}, added=200
        )


@pytest.mark.parametrize("inner", [(), (1,), (17,), (3, 5)])
@pytest.mark.parametrize("dtype", [float32, float64, int32], ids=str)
def test_scatter_adds_what_falls_on_one_place_in_order(inner, dtype):
    rng = np.random.default_rng(0)
    u, i = placeholder(dtype, (400, *inner), "u"), placeholder(int64, (400,), "i")
    fed = {u: (rng.uniform(-9, 9, u.shape)).astype(dtype.numpy), i: rng.integers(0, 7, 400)}
    (got,) = check([scatter_add(u, i, 7)], fed, added=1)
    want = np.zeros((7, *inner), dtype.numpy)
    np.add.at(want, fed[i], fed[u])
    assert same_bits(got, want)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (17,), (33, 31), (0, 3), (5, 2049)], ids=str)
def test_random_numbers_are_those_of_numpy_to_the_bit(shape, dtype):
    key = placeholder(int64, (), "key")
    node = uniform(key, shape, dtype, 2**63 + 5)
    for k in (0, 1, -1, 2**62, -(2**63)):
        fed = {key: np.int64(k)}
        (got,) = run([node], fed)
        assert same_bits(got, evaluate([node], fed)[node])
        assert got.size == 0 or (got.min() >= 0 and got.max() < 1)


def test_random_numbers_in_the_middle():
    key, x = placeholder(int64, (), "key"), placeholder(float32, (40, 33), "x")
    fed = {key: np.int64(7), x: np.ones((40, 33), np.float32)}
    dropped = e.where(e.less(uniform(key, x.shape), 0.5), x * 2.0, 0.0)
    check(
        [dropped, normal(key, (1000,)), truncated_normal(key, (1000,)), sum_(uniform(key, (50, 60), salt=3), 1)],
        fed,
        added=60,
    )
    n = fresh_dim()
    y = placeholder(float32, (n, 33), "y")
    some = uniform(key, (n, 33)) * y
    (a,), (b,) = (run([some], {key: np.int64(7), y: np.ones((rows, 33), np.float32)}) for rows in (11, 40))
    assert same_bits(a, b[:11])


# ------------------------------------------------------------------------------------------ what may be one pass


def test_passes_that_would_wait_for_each_other_stay_apart():
    """t and m could be one pass, d and c could be one pass, but not both: c needs t, and m needs d."""
    fed = {
        placeholder(float32, s, n): np.full(s, 0.1, np.float32)
        for n, s in (("x", (8, 16)), ("z", (16, 8)), ("w", (8, 8)))
    }
    x, z, w = fed
    t = e.tanh(x)
    s = sum_(t, 0)
    d = e.exp(z)
    m = t * permute(matmul(d, w), (1, 0))
    c = d + reshape(s, (16, 1))
    for roots in ([t, m, c, d], [c, d, m, t], [m, c], [t, d, m, c]):
        check(roots, fed, threads=(1, 2), added=16)


# ------------------------------------------------------------------------------------------ many nodes


def test_a_chain_of_ten_thousand_nodes():
    x = y = placeholder(float32, (40,), "x")
    for k in range(5_000):
        y = y * 0.999 + (0.001 if k % 7 else -0.002)
    fed = {x: np.linspace(-1, 1, 40).astype(np.float32)}
    want = fed[x].copy()
    for k in range(5_000):
        want = want * np.float32(0.999) + np.float32(0.001 if k % 7 else -0.002)
    (got,) = run([y], fed, threads=(2,))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def running_sum():
    x = placeholder(float32, (60,), "x")
    sums = [f.unstack(x)[0]]
    for part in f.unstack(x)[1:]:
        sums.append(sums[-1] + part)
    return [stack(sums)], {x: np.linspace(-1, 1, 60).astype(np.float32)}


def many_parts():
    leaves = [placeholder(float32, (3, 4), f"x{k}") for k in range(300)]
    return [concat(leaves, 0), concat(leaves[:40], 1) * 2.0], {
        x: np.full((3, 4), k, np.float32) for k, x in enumerate(leaves)
    }


def taken_apart_and_joined():
    x = placeholder(float32, (70, 5), "x")
    return [stack([e.exp(p) for p in f.unstack(x)])], {x: np.linspace(-1, 1, 350).astype(np.float32).reshape(70, 5)}


def many_views():
    x = y = placeholder(float32, (6, 4), "x")
    for k in range(300):
        y = permute(reshape(y, (4, 6)), (1, 0)) if k % 2 else reshape(permute(y, (1, 0)), (6, 4))
    return [y, y * 2.0], {x: np.arange(24, dtype=np.float32).reshape(6, 4)}


def many_pads():
    x = y = placeholder(float32, (6,), "x")
    for _ in range(60):
        y = pad(y, (1,), (1,)) + 1.0
    return [y], {x: np.ones(6, np.float32)}


def doubling():
    x = y = z = placeholder(float32, (8,), "x")
    for _ in range(60):
        y, z = y + z, y
    return [y * 1e-12], {x: np.ones(8, np.float32)}


@pytest.mark.parametrize("make", [running_sum, many_parts, taken_apart_and_joined, many_views, many_pads, doubling])
def test_graphs_that_are_long_or_share_much(make):
    nodes, fed = make()
    check(nodes, fed, threads=(1, 2), added=60)


def test_many_results_of_one_run():
    x = placeholder(float32, (33,), "x")
    fed = {x: np.linspace(-1, 1, 33).astype(np.float32)}
    nodes = [e.exp(x * (0.01 * k)) + sum_(x * float(k)) for k in range(40)]
    check(nodes, fed, threads=(1, 3), added=33)


def test_a_wide_sum_of_many_inputs():
    leaves = [placeholder(float32, (37,), f"x{k}") for k in range(60)]
    total = leaves[0]
    for x in leaves[1:]:
        total = total + x * x
    check([total], {x: np.full(37, k / 60, np.float32) for k, x in enumerate(leaves)}, added=60)


def residual(layers):
    """h + tanh(norm(h) w), again and again, and its gradients: the number of texts, and the most buffers of a kernel."""
    h = placeholder(float32, (64, 48), "x")
    ws = [placeholder(float32, (48, 48), f"w{k}") for k in range(layers)]
    for w in ws:
        h = h + e.tanh(matmul(f.layer_norm(h, None, None, (1,)), w))
    roots = pipeline.run(gradients([sum_(h * h)], ws))
    made = build(roots, {})
    return len({c.text for c in made.codes}), max(len(c.buffers) for c in made.codes)


def test_kernels_of_a_residual_network_do_not_grow_with_its_depth():
    assert residual(5) == residual(9)


@pytest.mark.parametrize("shape, axes", [
    ((1 << 17,), (0,)), ((131101,), (0,)), ((512, 260), (0,)), ((512, 320), (0,)), ((521, 260), (0,)), ((8, 70, 256), (0, 1)),
    ((2, 3, 30000), (0, 1, 2)), ((3, 65536), (0,)), ((4096, 33), (0,)), ((700, 200), (1,)),
], ids=str)  # fmt: skip
def test_sums_of_very_many(shape, axes):
    """In parts that the threads share, where the number of rows has a divisor for it; the same bits for any number of threads."""
    x = placeholder(float32, shape, "x")
    a = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    a.flat[7] = np.nan
    y, b = placeholder(int32, shape, "y"), np.arange(a.size, dtype=np.int32).reshape(shape)
    nodes = [sum_(x * x, axes), max_(x, axes), min_(e.abs_(x), axes), sum_(y, axes), max_(y, axes)]
    check(nodes, {x: a, y: b}, added=a.size)


@pytest.mark.parametrize("columns", [64, 128, 320, 384, 1536])
def test_columns_of_several_vectors(columns):
    """Some vectors of a line at once, also where they are read under a mask."""
    x = placeholder(float32, (2048, columns), "x")
    a = np.random.default_rng(0).standard_normal((2048, columns)).astype(np.float32)
    inner = slice_(x, (0, 0), (40, columns))
    check([sum_(x, 0), sum_(inner, 0), max_(inner, 0), sum_(pad(inner, (3, 0), (5, 64)), 0)], {x: a}, added=2048)
