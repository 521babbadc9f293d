"""Gradients of whole graphs: against differences, to order 2; where there is none; where the path breaks."""

import numpy as np
import pytest

from tests.graph.rows import check_slope, value, weighted
from tinyflow.core.dtypes import float32, float64, int32, int64
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.node import toposort
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import convolution, einsum, matmul
from tinyflow.ops.control import after, assign, merge, switch
from tinyflow.ops.indexing import gather, gather_axis, scatter_add, take_along
from tinyflow.ops.leaf import constant, placeholder, variable
from tinyflow.ops.movement import concat, expand, flip, pad, permute, reshape, slice_, stack
from tinyflow.ops.reduction import argmax, max_, mean, min_, prod, sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import broken_path, gradients

LABELS = constant(1, int64)


def image(x):
    """The operand as two small images of three channels."""
    return reshape(x, (2, 5, 6, 3))


def conv(x, w, **given):
    at = dict(stride=(1, 1), low=(0, 0), out=(4, 4), dilation=(1, 1)) | given
    return convolution(image(x), reshape(w, (2, 3, 3, 10) if "groups" not in given else (2, 3, 1, 30)), **at)


# fmt: off
FUNCTIONS = {  # of a (12, 15) and b (12, 15)
    "softmax":         lambda a, b: f.softmax(a) * b,
    "softmax axis 0":  lambda a, b: f.softmax(a, 0) * b,
    "log_softmax":     lambda a, b: f.log_softmax(a) * b,
    "log of softmax":  lambda a, b: e.log(f.softmax(a)) * b,
    "logsumexp":       lambda a, b: f.logsumexp(a * b, 1),
    "cross_entropy":   lambda a, b: f.cross_entropy(a, f.softmax(b)),
    "sparse":          lambda a, b: f.sparse_cross_entropy(a * b, expand(LABELS, (12,))),
    "sigmoid_ce":      lambda a, b: f.sigmoid_cross_entropy(a, b),
    "layer_norm":      lambda a, b: f.layer_norm(a, slice_(b, (0, 0), (1, 15)), slice_(b, (1, 0), (1, 15)), (1,)),
    "variance":        lambda a, b: f.variance(a * b, 0, correction=1),
    "gelu":            lambda a, b: f.gelu(a) * f.gelu(b, approximate=True),
    "elu":             lambda a, b: f.elu(a, 1.3) * f.silu(b),
    "leaky":           lambda a, b: f.leaky_relu(a) * f.softplus(b),
    "clip":            lambda a, b: f.clip(a, -0.5, 0.5) * b,
    "moments":         lambda a, b: mean(a, 1) * prod(b * 0.1 + 1.0, 1) + max_(a * b, 1) - min_(a, 1),
    "chain":           lambda a, b: e.tanh(matmul(a, b, transpose_b=True)) * 2.0,
    "division":        lambda a, b: a / (b * b + 1.0),
    "power":           lambda a, b: (a * a + 0.1) ** b,
    "matmul twice":    lambda a, b: matmul(matmul(a, b, transpose_b=True), a),
    "einsum outer":    lambda a, b: einsum("ij,ik->ijk", a, b),
    "einsum diagonal": lambda a, b: einsum("bij,bjk->bik", reshape(a, (2, 6, 15)), reshape(b, (2, 15, 6))),
    "convolution":     lambda a, b: conv(a, b),
    "conv stride":     lambda a, b: conv(a, b, stride=(2, 1), low=(1, 0), out=(3, 4)),
    "conv dilation":   lambda a, b: conv(a, b, dilation=(2, 2), low=(1, 2), out=(5, 6)),
    "conv groups":     lambda a, b: conv(a, b, groups=3),
    "max_pool":        lambda a, b: f.max_pool(image(a * b), (2, 2), (2, 2), (0, 1), (1, 1)),
    "avg_pool":        lambda a, b: f.avg_pool(image(a * b), (3, 2), (2, 2), (1, 1), (1, 1)),
    "movement":        lambda a, b: permute(flip(a, (0,)), (1, 0)) * slice_(reshape(b, (15, 12)), (0, 0), (15, 12)),
    "steps":           lambda a, b: slice_(a, (11, 1), (6, 5), (-2, 3)) * pad(slice_(b, (0, 0), (3, 2)), (1, 0), (0, 2), (1, 1)),
    "concat":          lambda a, b: concat([a * b, b, a], 1),
    "stack":           lambda a, b: stack([a, b], 1) * stack([b, a], 1),
    "tile":            lambda a, b: f.tile(slice_(a, (0, 0), (6, 5)), (2, 3)) * b,
    "split":           lambda a, b: f.split(a, (5, 10), 1)[1] * f.split(b, (10, 5), 1)[0],
    "gather":          lambda a, b: gather(a * b, f.arange(3, 9)),
    "gather columns":  lambda a, b: gather_axis(a * b, f.arange(9, 3, -2), 1),
    "take_along":      lambda a, b: take_along(a * b, expand(LABELS, (12, 3)), 1),
    "scatter":         lambda a, b: scatter_add(a * b, f.arange(0, 12) * constant(0, int64) + LABELS, 4),
    "switch":          lambda a, b: merge(positive(b), switch(a * b, positive(b), False), switch(e.exp(a), positive(b), True)),
}
# fmt: on


def positive(b):
    return e.greater(sum_(b * b), 0.0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_to_order_two(name):
    rng = np.random.default_rng(3)
    fed = {placeholder(float64, (12, 15), n): rng.uniform(-1, 1, (12, 15)) for n in "ab"}
    y, weights = weighted(FUNCTIONS[name](*fed), 5)
    fed |= weights
    a, b, _ = fed
    for x, gx in zip((a, b), gradients([y], [a, b]), strict=True):
        check_slope(y, x, gx, fed, 6)
        if gx is None:
            continue
        slope, weights = weighted(gx, 7)
        for x2, gx2 in zip((a, b), gradients([slope], [a, b]), strict=True):
            check_slope(slope, x2, gx2, fed | weights, 8)


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "cross_entropy", "max_pool", "conv stride"])
def test_the_pipeline_keeps_gradients(name):
    rng = np.random.default_rng(4)
    fed = {placeholder(float64, (12, 15), n): rng.uniform(-1, 1, (12, 15)) for n in "ab"}
    found = [g for g in gradients([FUNCTIONS[name](*fed)], list(fed)) if g is not None]
    for before, now in zip(found, pipeline.run(found), strict=True):
        np.testing.assert_allclose(value(now, fed), value(before, fed), rtol=1e-10, atol=1e-12)


def test_order_three_and_four():
    x = placeholder(float64, (), "x")
    y = e.exp(x * x) * e.sin(x)
    for _ in range(3):
        (y,) = gradients([y], [x])
    (g,) = gradients([y], [x])
    check_slope(y, x, g, {x: np.float64(0.3)}, 1)


def test_a_program_with_symbolic_sizes_has_the_same_gradient():
    n = fresh_dim()
    rng = np.random.default_rng(5)
    arrays = [rng.uniform(-1, 1, s) for s in ((7, 4), (4, 3))]
    found = []
    for rows in (7, n):
        fed = dict(zip((placeholder(float64, (rows, 4), "x"), placeholder(float64, (4, 3), "w")), arrays, strict=True))
        x, w = fed
        found.append([value(g, fed) for g in gradients([mean(f.logsumexp(matmul(x, w), 1))], [x, w])])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


# ------------------------------------------------------------------------------------------ seeds, sums, stops

X, W = placeholder(float32, (3, 4), "x"), placeholder(float32, (3, 4), "w")


def test_the_gradient_of_several_results_is_the_sum():
    one = gradients([X * X, X * W], [X])[0]
    fed = {X: np.full((3, 4), 2, np.float32), W: np.full((3, 4), 5, np.float32)}
    assert np.all(value(one, fed) == 9)
    assert gradients([X], [X])[0].shape == X.shape and np.all(value(gradients([X], [X])[0], fed) == 1)


def test_seeds_weigh_results():
    (g,) = gradients([X * X], [X], seeds=[W])
    assert np.all(value(g, {X: np.full((3, 4), 2, np.float32), W: np.full((3, 4), 5, np.float32)}) == 20)
    with pytest.raises(ShapeError, match="a gradient of shape"):
        gradients([X], [X], seeds=[constant(1.0)])


def test_stops_are_constants():
    inner = X * X
    fed = {X: np.full((3, 4), 3, np.float32)}
    (through, stopped) = (gradients([inner * X], [X], stop=s)[0] for s in ((), (inner,)))
    assert np.all(value(through, fed) == 27) and np.all(value(stopped, fed) == 9)


def test_the_gradient_by_an_inner_tensor():
    inner = e.exp(X)
    (g,) = gradients([inner * inner * W], [inner])
    assert g is not None and X not in toposort([g], stop=lambda n: n is inner)


def test_the_gradient_by_an_inner_tensor_that_a_stable_form_would_lose():
    """log(p), by p: the softmax p must stay what it is."""
    p = f.softmax(X)
    (g,) = gradients([sum_(e.log(p))], [p])
    fed = {X: np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32)}
    np.testing.assert_allclose(value(g, fed), 1 / value(p, fed), rtol=1e-5)


# ------------------------------------------------------------------------------------------ where there is none

N = placeholder(int32, (3,), "n")
# fmt: off
BROKEN = {  # what is differentiated, and the op that ends the path
    "other":         (lambda: W * 2.0,                        None),
    "argmax":        (lambda: e.cast(argmax(X, 1), float32),  "argmax"),
    "compare":       (lambda: e.cast(e.less(X, W), float32),  "less"),
    "floor":         (lambda: e.floor(X) * W,                 "floor"),
    "stop_gradient": (lambda: e.stop_gradient(X * W) + W,     "stop_gradient"),
    "cast":          (lambda: e.cast(e.cast(X, int32), float32), "cast"),
    "condition":     (lambda: e.where(e.less(X, 0.0), W, W),  "less"),
    "order":         (lambda: after(W, X * 2.0),              "mul"),
}
# fmt: on


@pytest.mark.parametrize("name", BROKEN)
def test_there_is_no_gradient(name):
    y, _ = BROKEN[name]
    assert gradients([y()], [X]) == [None]


@pytest.mark.parametrize("name", [n for n in BROKEN if n not in ("order",)])
def test_where_the_path_breaks(name):
    make_it, op = BROKEN[name]
    found = broken_path(make_it(), X)
    assert (None if found is None else found.op.name) == op


def test_integers_have_no_gradient():
    assert gradients([N * N], [N]) == [None]
    assert gradients([X], [N]) == [None]


def test_assign_passes_the_gradient_of_its_value():
    v = variable(float32, (3, 4), "v")
    gx, gv = gradients([assign(v, X * W)], [X, v])
    assert gx is not None and gv is None
    assert np.all(value(gx, {X: np.ones((3, 4)), W: np.full((3, 4), 7.0)}) == 7)
