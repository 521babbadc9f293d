"""The tests are tested: what passes on every row natively must fail on wrong rows, wrong passes and wrong threads."""

import sys

import numpy as np
import pytest

from tests.compiler.native import check, run
from tests.compiler.test_bounds import guarded
from tests.graph.rows import apply
from tests.graph.test_tests import wrong
from tinyflow import execute, programs
from tinyflow.core import expr
from tinyflow.core.config import config
from tinyflow.core.dtypes import bool_, float32
from tinyflow.core.errors import GraphError
from tinyflow.core.expr import const
from tinyflow.graph.node import make
from tinyflow.graph.op import TABLE, Sample
from tinyflow.ops import elementwise as e
from tinyflow.ops.leaf import placeholder
from tinyflow.passes import pipeline
from tinyflow.passes.rewrite import Rule, applier, x, y

LINE, MATRIX = Sample((((40,), float32, -1, 1),)), Sample((((40, 33), float32, -1, 1),))
NUMBERS = np.array([1, np.nan, 3, -0.0] * 10, np.float32)
# fmt: off
VALUES = {  # a row whose value at an index is not what its numpy column means
    "another function":  ("exp",     lambda i, x: expr.apply("expm1", x(*i)),                       LINE),
    "a little off":      ("tanh",    lambda i, x: expr.apply("mul", x(*i), const(0.9, float32)),    LINE),
    "one place off":     ("neg",     lambda i, x: expr.apply("neg", x((i[0] + 1) % 40)),            LINE),
    "in the tail only":  ("neg",     lambda i, x: expr.apply("neg", x(expr.minimum(i[0], 38))),     LINE),
    "transposed back":   ("permute", lambda i, x, order: x(*(i[d] for d in order)),                 Sample((((3, 4, 5), float32, 0, 1),), {"order": (1, 2, 0)})),
    "one term too few":  ("sum",     lambda i, x, axes: expr.fold("add", [k := expr.index(32, "k")], x(*i, k)), Sample(MATRIX.inputs, {"axes": (1,)})),
    "another fold":      ("max",     lambda i, x, axes: expr.fold("add", [k := expr.index(33, "k")], x(*i, k)), Sample(MATRIX.inputs, {"axes": (1,)})),
}
# fmt: on


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_value_at_an_index_is_caught(name):
    row, at, sample = VALUES[name]
    node, fed = apply(wrong(row, at=at), sample)
    with pytest.raises(AssertionError):
        check([node], fed, added=40)
    right, fed = apply(TABLE[row], sample)
    check([right], fed, added=40)


def test_nan_that_gets_lost_is_caught():
    a = placeholder(float32, (40,), "a")
    lossy = wrong("relu", at=lambda i, x: expr.apply("select", expr.apply("lt", const(0.0, float32), x(*i), dtype=bool_), x(*i), const(0.0, float32), dtype=float32))  # fmt: skip
    check([e.relu(a)], {a: NUMBERS})
    with pytest.raises(AssertionError):
        check([make(lossy, a)], {a: NUMBERS})


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected as Linux does it")
def test_a_row_that_reads_outside_is_caught():
    code = "from tests.compiler import guarded, test_tests; guarded.main([('planted', test_tests.outside)])"
    child = guarded("-c", code)
    assert child.returncode < 0 and child.stdout.splitlines() == ["planted"], child.stderr


def outside():
    node, fed = apply(wrong("neg", at=lambda i, x: expr.apply("neg", x(i[0] + 1))), LINE)
    return [node], fed


class Unsteady:
    """A runner whose sums depend on the number of threads, in the last bit."""

    def __init__(self, nodes):
        self.right = compile_(nodes)

    def __call__(self, fed, store):
        (a,) = self.right(fed, store)
        return [a if config.THREADS < 3 else np.nextafter(a, np.float32(9))]


compile_ = execute.compile


def test_results_that_depend_on_threads_are_caught(monkeypatch):
    node, fed = apply(TABLE["exp"], LINE)
    run([node], fed)
    monkeypatch.setattr(execute, "compile", Unsteady)
    with pytest.raises(AssertionError):
        run([node], fed)


PLANTED = applier([Rule("planted", e.tanh(x) * y, e.tanh(x) + y)])


def test_a_wrong_pass_is_caught(monkeypatch):
    """By comparing values before and after it, and by the result."""
    a, b = placeholder(float32, (7,), "a"), placeholder(float32, (7,), "b")
    fed = {a: np.linspace(-1, 1, 7, dtype=np.float32), b: np.linspace(3, 5, 7, dtype=np.float32)}
    node = e.tanh(a) * b + 1.0
    check([node], fed)
    monkeypatch.setattr(pipeline, "PIPELINE", [*pipeline.PIPELINE, ("planted", pipeline.each(PLANTED))])
    programs._programs.clear()
    with pytest.raises(AssertionError):
        check([node], fed)
    programs._programs.clear()
    with config(CHECK=2), pytest.raises(GraphError, match="the pass planted changed the value of <add"):
        run([node], fed)
    programs._programs.clear()


def test_a_pass_that_breaks_shapes_is_caught(monkeypatch):
    a = placeholder(float32, (7,), "a")
    crooked = wrong("exp", shape=lambda s: (*s, 1))

    def spoil(node):
        if node.op.name == "exp":
            node = make(wrong("exp"), *node.inputs)
            node.op = crooked
        return node

    monkeypatch.setattr(pipeline, "PIPELINE", [("planted", pipeline.each(spoil))])
    with config(CHECK=1), pytest.raises(GraphError, match=r"after planted: .* its row says"):
        pipeline.run([e.exp(a)])
