"""Whatever graph is written: native code computes the numpy meaning, the same bits for any number of threads."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.compiler.native import needs_avx2, run
from tests.end.random_graphs import graphs
from tinyflow import programs
from tinyflow.core.config import config
from tinyflow.graph.evaluate import DEAD, evaluate
from tinyflow.graph.node import toposort
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients
from tinyflow.runtime import items

SOME = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
NEAR = {np.dtype("float32"): 1e-4, np.dtype("float64"): 1e-11}


@pytest.fixture(scope="module", autouse=True)
def small_steps_are_shared():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "SMALL", 0)
        programs._programs.clear()
        yield
    programs._programs.clear()


def check_near(nodes, got, want):
    """Off by no more than rounding of the greatest number in the graph."""
    values = [v[np.isfinite(v)] for n, v in want.items() if v is not DEAD and n.dtype.is_floating]
    most = max([1.0, *(float(np.max(np.abs(v))) for v in values if v.size)])
    for node, a in zip(nodes, got, strict=True):
        b = want[node]
        if a is DEAD or b is DEAD:
            assert a is b
            continue
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if a.dtype not in NEAR:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=NEAR[a.dtype], atol=NEAR[a.dtype] * most)


@SOME
@given(graphs())
def test_native_code_is_the_numpy_meaning(graph):
    check_near(graph.roots, run(graph.roots, graph.fed), evaluate(graph.roots, graph.fed))


@SOME
@given(graphs())
def test_gradients(graph):
    smooth = [r for r in graph.roots if r.dtype.is_floating]
    nodes = [g for g in gradients(smooth, graph.leaves) if g is not None]
    check_near(nodes, run(nodes, graph.fed, threads=(1, 3)), evaluate(nodes, graph.fed))


@SOME
@given(graphs())
def test_every_pass_keeps_shapes_and_values(graph):
    with config(CHECK=2):
        pipeline.run(graph.roots)


@needs_avx2
@settings(SOME, max_examples=15)
@given(graphs())
def test_shorter_vectors(graph):
    with config(TARGET="avx2"):
        check_near(graph.roots, run(graph.roots, graph.fed, threads=(2,)), evaluate(graph.roots, graph.fed))


def test_the_graphs_are_of_many_kinds():
    """What is drawn has every op of the generator in it, and sizes known only when running."""
    seen, symbolic = set(), 0

    @settings(SOME, max_examples=200)
    @given(graphs())
    def look(graph):
        nonlocal symbolic
        seen.update(n.op.name for n in toposort(graph.roots))
        symbolic += any(not isinstance(d, int) for x in graph.leaves for d in x.shape)

    look()
    assert symbolic >= 10
    assert {
        "contract",
        "sum",
        "max",
        "where",
        "concat",
        "slice",
        "pad",
        "permute",
        "reshape",
        "gather",
        "merge",
    } <= seen
