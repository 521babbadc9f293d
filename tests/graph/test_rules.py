"""Every rewriting rule on both sides, and that it fires; what the stable forms are good for."""

import math

import numpy as np
import pytest

from tests.graph.rows import count, operands, value
from tests.graph.rules import check_exact, check_stable, left_side, sides
from tinyflow.core.config import config
from tinyflow.core.dtypes import DTYPES, bool_, float32, float64
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import make, rewrite, toposort
from tinyflow.graph.op import TABLE, Sample
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.leaf import CONSTANT, constant, placeholder
from tinyflow.ops.movement import EXPAND, PERMUTE, RESHAPE, expand, permute, reshape
from tinyflow.ops.reduction import max_, mean, sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients
from tinyflow.passes.rewrite import applier
from tinyflow.passes.simplify import EXACT, STABLE, fold, simplify, stabilise

NUMBERS = [d for d in DTYPES if d is not bool_]
named = dict(ids=lambda r: r.name.replace(" ", "_"))


@pytest.mark.parametrize("rule", EXACT, **named)
def test_exact_rules_keep_every_value(rule):
    holds = {dtype: check_exact(rule, dtype) for dtype in NUMBERS}
    assert holds[float32]


@pytest.mark.parametrize("rule", STABLE, **named)
def test_stable_rules_keep_what_is_finite(rule):
    assert all(check_stable(rule, dtype) for dtype in (float32, float64))


@pytest.mark.parametrize("rule", EXACT + STABLE, **named)
def test_rules_fire_alone_and_in_the_whole_table(rule, capsys):
    left, right, _ = sides(rule, float32)
    assert applier([rule])(left) is right or count(right) <= 2
    with config(DEBUG=6):
        rewrite([left], simplify if rule in EXACT else stabilise)
    assert f"rewrite {rule.name}:" in capsys.readouterr().err


@pytest.mark.parametrize("rule", EXACT + STABLE, **named)
def test_names_are_the_rules_own(rule):
    assert [r.name for r in EXACT + STABLE].count(rule.name) == 1


def test_a_rule_asks_for_one_value_where_it_says_x_twice():
    a, b = placeholder(float32, (3,), "a"), placeholder(float32, (3,), "b")
    (rule,) = [r for r in STABLE if r.name == "exp minus one"]
    assert applier([rule])(e.exp(a) - 1.0) is e.expm1(a)
    assert applier([rule])(e.exp(a) - b) is e.exp(a) - b


def test_rules_are_about_numbers():
    """A bool constant equals 1 in Python; rules that speak of 1 do not mean it."""
    p = placeholder(bool_, (3,), "p")
    for node in (e.logical_and(p, constant(True)), e.logical_or(p, constant(False)), e.equal(p, constant(True))):
        assert simplify(node) is node


# ------------------------------------------------------------------------------------------ movement of movement

A, S = placeholder(float32, (2, 3, 4), "a"), placeholder(float32, (), "s")
# fmt: off
MOVES = {
    "reshape of reshape":   (reshape(make(RESHAPE, A, shape=(6, 4)), (4, 6)),              make(RESHAPE, A, shape=(4, 6))),
    "reshape back":         (make(RESHAPE, make(RESHAPE, A, shape=(6, 4)), shape=A.shape), A),
    "reshape of expand":    (make(RESHAPE, expand(S, (3, 4)), shape=(12,)),                make(EXPAND, S, shape=(12,))),
    "expand of expand":     (expand(expand(S, (4,)), (3, 4)),                              make(EXPAND, S, shape=(3, 4))),
    "expand of reshape":    (expand(make(RESHAPE, S, shape=(1, 1)), (3, 4)),               make(EXPAND, S, shape=(3, 4))),
    "permute of permute":   (permute(permute(A, (1, 2, 0)), (0, 2, 1)),                    make(PERMUTE, A, order=(1, 0, 2))),
    "permute back":         (permute(permute(A, (1, 2, 0)), (2, 0, 1)),                    A),
    "permute of expand":    (make(PERMUTE, expand(S, (3, 4)), order=(1, 0)),               make(EXPAND, S, shape=(4, 3))),
    "sum of copies":        (sum_(expand(constant(0.5), (3, 4)), 1),                       make(EXPAND, constant(2.0), shape=(3,))),
    "sum of all copies":    (sum_(expand(constant(0.5), (3, 4))),                          constant(6.0)),
}
# fmt: on


@pytest.mark.parametrize("name", MOVES)
def test_movement_of_movement(name):
    left, right = MOVES[name]
    assert simplify(left) is right
    fed = {A: np.arange(24, dtype=np.float32).reshape(A.shape), S: np.float32(2.5)}
    np.testing.assert_array_equal(value(right, fed), value(left, fed))


def test_movement_that_is_not_one_stays():
    stretched = expand(reshape(A, (2, 3, 4, 1)), (2, 3, 4, 5))
    for node in (stretched, reshape(stretched, (6, 20)), sum_(stretched, 3), expand(reshape(A, (1, 24)), (7, 24))):
        assert simplify(node) is node
    n = fresh_dim()
    counted = sum_(expand(constant(0.5), (n,)))
    assert simplify(counted) is counted


# ------------------------------------------------------------------------------------------ constants


@pytest.mark.parametrize("name", [n for n, op in TABLE.items() if op.elementwise and op.samples])
def test_what_is_known_is_computed(name):
    """An elementwise op of constants is the constant that numpy gives; of stretched constants, a stretched one."""
    op = TABLE[name]
    for sample in op.samples:
        scalars = Sample(tuple(((), *rest) for _, *rest in sample.inputs), sample.attrs)
        fed = operands(scalars)
        known = [constant(a.item(), x.dtype) for x, a in fed.items()]
        for inputs in (known, [expand(c, (2, 3)) for c in known]):
            node = make(op, *inputs, **sample.attrs)
            folded = fold(node)
            bare = folded.inputs[0] if folded.op is EXPAND else folded
            want = value(node, {})
            assert bare.op is CONSTANT or (np.all(want == 0) and np.all(np.signbit(want)))
            assert (folded.shape, folded.dtype) == (node.shape, node.dtype)
            np.testing.assert_array_equal(value(folded, {}), want)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_the_sign_of_zero_survives(zero):
    x = placeholder(float32, (), "x")
    for node in (
        constant(zero),
        e.neg(constant(zero)),
        constant(zero) * constant(-1.0),
        e.div(constant(1.0), constant(zero) * x),
    ):
        (after,) = pipeline.run([node])
        want, got = value(node, {x: np.float32(3)}), value(after, {x: np.float32(3)})
        assert want == got and np.signbit(want) == np.signbit(got)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_constants_that_are_not_finite(number):
    x = placeholder(float32, (2,), "x")
    (after,) = pipeline.run([e.where(e.less(x, 0.0), constant(number) * 1.0 + 0.0, x)])
    np.testing.assert_array_equal(value(after, {x: np.array([-1, 1], np.float32)}), np.array([number, 1], np.float32))


# ------------------------------------------------------------------------------------------ what stable forms are for


def finite(nodes, fed):
    got = evaluate(nodes, fed)
    return all(np.all(np.isfinite(got[n])) for n in nodes)


LOGITS = np.array([[0.0, -200.0, 5.0], [1e4, -1e4, 0.0]], np.float32)
HARD = {
    "log softmax": lambda x: e.log(f.softmax(x)),
    "cross entropy": lambda x: -sum_(f.one_hot(constant(1), 3) * e.log(f.softmax(x)), 1),
    "log sigmoid": lambda x: e.log(e.sigmoid(x)),
    "log exp": lambda x: e.log(e.exp(x)),
    "log sum exp": lambda x: e.log(sum_(e.exp(x - max_(x, 1, keepdims=True)), 1)),
}


@pytest.mark.parametrize("name", HARD)
def test_logarithms_of_what_underflows_stay_finite(name):
    """A probability that underflows has a finite logarithm, and a finite gradient."""
    x = placeholder(float32, (2, 3), "x")
    y = HARD[name](x)
    (gx,) = gradients([y], [x])
    assert finite(pipeline.run([y, gx]), {x: LOGITS})


def test_without_stable_forms_they_do_not():
    x = placeholder(float32, (2, 3), "x")
    assert not finite([HARD["log softmax"](x)], {x: LOGITS})


def test_the_gradient_of_cross_entropy_is_softmax_minus_target():
    x, t = placeholder(float32, (2, 3), "x"), placeholder(float32, (2, 3), "t")
    loss = mean(-sum_(t * e.log(f.softmax(x)), 1))
    (gx,) = pipeline.run(gradients([loss], [x]))
    fed = {x: LOGITS, t: np.array([[0, 1, 0], [0, 0, 1]], np.float32)}
    want = (value(f.softmax(x), fed) - fed[t]) / 2
    np.testing.assert_allclose(value(gx, fed), want, rtol=1e-6, atol=1e-7)
    assert "log1p" not in {n.op.name for n in toposort([gx])}


def test_small_numbers_keep_their_digits():
    x = placeholder(float32, (2,), "x")
    fed = {x: np.array([1e-20, -1e-12], np.float32)}
    for y in (e.log(1.0 + x), e.log(x + 1.0), e.exp(x) - 1.0):
        assert np.all(value(y, fed) == 0)
        np.testing.assert_allclose(value(pipeline.run([y])[0], fed), fed[x], rtol=1e-6)


def test_left_sides_cover_special_numbers():
    left, fed = left_side(EXACT[0], float32)
    assert left.op.name == "add" and all(np.isnan(a).any() and np.isinf(a).any() for a in fed.values())
