"""The tests are tested: the checks that pass on every row and rule must fail on wrong ones."""

import numpy as np
import pytest

from tests.graph.rows import check_dynamic, check_gradient, check_shape_and_dtype
from tests.graph.rules import check_exact, check_stable
from tinyflow.core.dtypes import float32, float64, int32
from tinyflow.core.errors import GraphError
from tinyflow.graph.node import rewrite
from tinyflow.graph.op import TABLE, Op, Sample
from tinyflow.graph.verify import same_meaning
from tinyflow.ops import elementwise as e
from tinyflow.ops.leaf import placeholder
from tinyflow.passes.rewrite import Rule, applier, x, y


def wrong(name: str, **columns) -> Op:
    """A row of the table with other columns. It is in no table."""
    row = TABLE[name]
    kept = {c: getattr(row, c) for c in ("numpy", "shape", "at", "grad", "samples", "dtype", "kind", "elementwise")}
    return Op(name, **(kept | columns))


SQUARE, PAIR = Sample((((3, 4), float32, 0.3, 3),)), Sample((((3, 4), float32, 0.3, 3),) * 2)
HALVES = wrong("exp", numpy=lambda x: np.exp(x).astype(np.float16))
# fmt: off
GRADIENTS = {
    "sign":          (wrong("exp", grad=lambda g, y, x: -g * y),                        SQUARE),
    "factor":        (wrong("tanh", grad=lambda g, y, x: g * (1.0 - y)),                SQUARE),
    "missing":       (wrong("mul", grad=lambda g, y, a, b: (g * b, None)),              PAIR),
    "order":         (wrong("sub", grad=lambda g, y, a, b: (-g, g)),                    PAIR),
    "small":         (wrong("erf", grad=lambda g, y, x: g * e.exp(-x * x) * 1.128),     SQUARE),
    "second order":  (wrong("exp", grad=lambda g, y, x: g * e.stop_gradient(y)),        SQUARE),
    "a second time": (wrong("log", grad=lambda g, y, x: g * e.stop_gradient(1.0 / x)),  SQUARE),
    "axis":          (wrong("sum", grad=lambda g, y, x, axes: e.mul(x * 0.0, 1.0) + g), Sample((((4, 4), float32, 0, 1),), {"axes": (1,)})),
}
RULES = {
    "exact":     (Rule("half", x * 2, x + y),                       check_exact),
    "zero":      (Rule("times zero", x * 0, 0 * y),                 check_exact),
    "infinite":  (Rule("self minus self", (x + y) - y, x + 0 * y),  check_exact),
    "nan":       (Rule("self over self", x / 1, x * (y / y)),       check_exact),
    "unstable":  (Rule("log one plus", e.log(1 + x), e.log1p(y)),   check_stable),
    "softmax":   (Rule("log of softmax", e.log(e.exp(x) / y), x - y), check_stable),
}
# fmt: on


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_wrong_gradient_is_caught(name):
    with pytest.raises(AssertionError):
        check_gradient(*GRADIENTS[name])


def test_a_wrong_shape_rule_is_caught():
    with pytest.raises(AssertionError):
        check_shape_and_dtype(wrong("sum", shape=lambda s, axes: s), TABLE["sum"].samples[0])
    with pytest.raises(AssertionError):
        check_shape_and_dtype(wrong("permute", shape=lambda s, order: s), TABLE["permute"].samples[0])


def test_a_wrong_type_rule_is_caught():
    with pytest.raises(AssertionError):
        check_shape_and_dtype(wrong("argmax", dtype=lambda x, **_: int32), TABLE["argmax"].samples[0])
    with pytest.raises(AssertionError):
        check_shape_and_dtype(HALVES, SQUARE)


def test_a_shape_rule_that_forgets_symbols_is_caught():
    def forgetful(s, order):
        return tuple(s[d] if isinstance(s[d], int) else 3 for d in order)

    with pytest.raises(AssertionError):
        check_dynamic(wrong("permute", shape=forgetful), TABLE["permute"].samples[0])


@pytest.mark.parametrize("name", RULES)
def test_an_unsound_rule_is_caught(name):
    rule, check = RULES[name]
    with pytest.raises(AssertionError):
        check(rule, float32)


def test_an_unsound_rule_is_caught_by_the_pipeline_check():
    a = placeholder(float64, (3,), "a")
    before = [e.log(1.0 + a) * 2.0]
    after = rewrite(before, applier([Rule("log one plus", e.log(1 + x), e.expm1(x))]))
    with pytest.raises(GraphError, match="the pass planted changed the value"):
        same_meaning(before, [after[n] for n in before], "planted")


def test_right_rows_pass():
    for name in ("exp", "mul", "sum", "permute", "argmax"):
        op = wrong(name)
        check_shape_and_dtype(op, op.samples[0])
        if op.grad:
            check_gradient(op, op.samples[0])
