"""Nodes: equal ones are one, unused ones go; walks do not recurse; errors are on the user's line."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

from tests.graph.rows import count, value
from tinyflow.core.dtypes import bool_, float32, float64, int32
from tinyflow.core.errors import GraphError, ShapeError
from tinyflow.core.expr import Dim, fresh_dim
from tinyflow.graph import node as nodes
from tinyflow.graph.node import Node, make, rewrite, toposort, with_dims
from tinyflow.graph.signature import signature
from tinyflow.graph.verify import same_meaning, verify
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import einsum, matmul
from tinyflow.ops.indexing import gather
from tinyflow.ops.leaf import constant, placeholder, variable
from tinyflow.ops.movement import concat, expand, pad, permute, reshape, slice_
from tinyflow.ops.reduction import argmax, max_, sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients
from tinyflow.passes.shapes import assumed_equal


def test_equal_nodes_are_one():
    x, y = placeholder(float32, (3, 4), "x"), placeholder(float32, (3, 4), "y")
    assert x + y is x + y
    assert sum_(x, 1) is sum_(x, (-1,)) and sum_(x, 1) is not sum_(x, 0)
    assert x * 2.0 is x * constant(2.0) and x * 2.0 is not x * 3.0
    assert reshape(x, (2, 6)) is reshape(x, (2, -1))
    assert einsum("ij,kj->ik", x, y) is matmul(x, y, transpose_b=True)
    assert x + y is not y + x


def test_leaves_are_themselves():
    assert placeholder(float32, (3,), "x") is not placeholder(float32, (3,), "x")
    assert variable(float32, (3,), "x") is not variable(float32, (3,), "x")


def test_constants_tell_types_and_zeros_apart():
    assert constant(1.0) is constant(1, float32) and constant(1.0) is not constant(1.0, float64)
    assert constant(1) is not constant(True) and constant(0.0) is not constant(-0.0)
    assert constant(float("nan")) is constant(np.float32("nan")) and constant(float("inf")) is not constant(
        float("-inf")
    )


def test_nothing_changes_to_nothing():
    x = placeholder(float32, (3, 4), "x")
    same = [
        expand(x, (3, 4)),
        reshape(x, (3, 4)),
        permute(x, (0, 1)),
        slice_(x, (0, 0), (3, 4)),
        pad(x, (0, 0), (0, 0)),
        concat([x]),
        e.cast(x, float32),
    ]
    assert all(n is x for n in same)


def test_nodes_die_with_their_last_user():
    x = placeholder(float32, (3,), "x")
    gc.collect()
    before = len(nodes._nodes)
    y = e.exp(x) * 2.0 + e.sin(x)
    alive = weakref.ref(y)
    assert len(nodes._nodes) > before
    del y
    gc.collect()
    assert alive() is None and len(nodes._nodes) == before


def test_a_graph_of_many_nodes_is_walked_without_recursion():
    x = y = placeholder(float32, (2,), "x")
    for k in range(10_000):
        y = y * 0.5 + float(k % 3)
    want = fed = np.array([1.0, -8.0], np.float32)
    for k in range(10_000):
        want = want * np.float32(0.5) + np.float32(k % 3)
    (gx,) = gradients([y], [x])
    after = pipeline.run([y, gx])
    np.testing.assert_array_equal(value(after[0], {x: fed}), want)
    assert count(y) > 20_000 and value(after[1], {x: fed}).tolist() == [0, 0]
    verify(after, "the pipeline")
    del y, gx, after
    gc.collect()


def test_what_is_shared_is_walked_once():
    y = placeholder(float32, (), "x")
    for _ in range(60):
        y = y + y
    assert count(y) == 61 and value(y, {toposort([y])[0]: np.float32(1)}) == 2.0**60


def test_nodes_keep_the_line_that_made_them():
    x = placeholder(float32, (3,), "x")
    y = e.tanh(x)  # this line
    assert y.where.file == __file__ and "# this line" in y.where.text
    (after,) = pipeline.run([e.tanh(x + 0.0)])
    assert after is y and "# this line" in after.where.text


# ------------------------------------------------------------------------------------------ bad input

X, Y, I, B = (
    placeholder(d, s, n)
    for d, s, n in ((float32, (3, 4), "x"), (float32, (5, 6), "y"), (int32, (3,), "i"), (bool_, (3, 4), "b"))
)
# fmt: off
BAD = {
    "add":      (lambda: X + Y,                          r"\(3, 4\) and \(5, 6\) do not broadcast"),
    "types":    (lambda: X + placeholder(float64, (3, 4), "d"), "float32 and float64 differ; cast"),
    "matmul":   (lambda: matmul(X, Y),                   r"matmul\(float32 \(3, 4\), float32 \(5, 6\)\): the inner sizes 4 and 5 differ"),
    "scalars":  (lambda: matmul(sum_(X), Y),             "scalars have no product"),
    "einsum":   (lambda: einsum("ij,jk->ik", X, Y),      "j is 4 and 5"),
    "reshape":  (lambda: reshape(X, (5, 2)),             "12 elements"),
    "fill":     (lambda: reshape(X, (5, -1)),            "12 elements do not fill"),
    "axis":     (lambda: sum_(X, 2),                     "axis 2 is out of range for a tensor of 2 dimensions; use -2 to 1"),
    "permute":  (lambda: permute(X, (0, 0)),             "not an order of its 2 axes"),
    "expand":   (lambda: expand(X, (3, 5)),              "does not stretch"),
    "slice":    (lambda: slice_(X, (0, 2), (3, 3)),      "leaves axis 1"),
    "concat":   (lambda: concat([X, Y], 0),              "do not join along axis 0"),
    "nothing":  (lambda: concat([]),                     "concat of no tensors"),
    "argmax":   (lambda: argmax(slice_(X, (0, 0), (3, 0)), 1), "axis 1 has no elements"),
    "max":      (lambda: max_(slice_(X, (0, 0), (3, 0)), 1), "nothing to reduce"),
    "gather":   (lambda: gather(X, X),                   "indices are int32 or int64, not float32"),
    "exp":      (lambda: e.exp(I),                       "takes float32 or float64, not int32"),
    "neg":      (lambda: -B,                             "takes numbers, not bool"),
    "where":    (lambda: e.where(X, X, X),               "takes bool, not float32"),
}
# fmt: on


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_at_once_and_in_words(name):
    make_it, message = BAD[name]
    with pytest.raises(ShapeError, match=message):
        make_it()


# ------------------------------------------------------------------------------------------ verify, structure, sizes


def test_verify_sees_a_shape_that_its_row_does_not_say():
    y = e.exp(X)
    wrong = Node.__new__(Node)
    for slot in ("op", "inputs", "attrs", "dtype", "where", "uid"):
        setattr(wrong, slot, getattr(y, slot))
    wrong.shape = (3, 5)
    verify([y], "nothing")
    with pytest.raises(GraphError, match=r"after a pass: .*shape"):
        verify([wrong], "a pass")


def test_same_meaning_names_the_pass():
    same_meaning([X * 2.0], [X + X], "a pass")
    with pytest.raises(GraphError, match="the pass halve changed the value"):
        same_meaning([X * 2.0], [X * 0.5], "halve")


def structure(build, *shapes):
    leaves = [placeholder(float32, s, "x") for s in shapes]
    return signature([build(*leaves)]).key


def test_equal_structures_have_equal_signatures():
    n, m = fresh_dim(), fresh_dim()
    same = [((3, 4), (3, 4)), ((n, 4), (n, 4)), ((m, 4), (m, 4))]
    keys = [structure(lambda a, b: sum_(a * b, 1), *s) for s in same]
    assert keys[0] != keys[1] and keys[1] == keys[2]
    assert structure(lambda a: a - e.exp(a), (3,)) == structure(lambda a: a - e.exp(a), (3,))
    assert structure(lambda a, b: a - b, (3,), (3,)) == structure(
        lambda a, b: b - a, (3,), (3,)
    )  # leaves in order of use
    assert structure(lambda a: a * 2.0, (3,)) != structure(lambda a: a * 3.0, (3,))
    assert structure(lambda a, b: a * b, (n,), (m,)) != structure(lambda a, b: a * b, (n,), (n,))
    assert structure(lambda a: reshape(a, (-1,)), (n, 2)) == structure(lambda a: reshape(a, (-1,)), (m, 2))


def test_sizes_that_must_be_equal_are_found():
    n, m, k = fresh_dim(), fresh_dim(), fresh_dim()
    a, b, c = placeholder(float32, (n, 4), "a"), placeholder(float32, (m, k), "b"), placeholder(float32, (4, 7), "c")
    equal = assumed_equal([a + b, matmul(b, c)])
    assert {n, m} - set(equal) and equal[k] == 4
    joined = with_dims([a + b], equal)[a + b]
    assert all(isinstance(d, Dim) or d == 4 for d in joined.shape) and len({x.shape for x in joined.inputs}) == 1


def test_rewrite_keeps_what_did_not_change():
    x = placeholder(float32, (3,), "x")
    y, z = e.exp(x), e.sin(x)
    new = rewrite([y + z], lambda n: make(e.cos(x).op, *n.inputs) if n is z else n)
    assert new[y] is y and new[y + z] is y + e.cos(x)


def test_graphs_need_no_compiler():
    """Making, differentiating and rewriting graphs, and what they mean, load no LLVM."""
    code = "import sys, tinyflow.passes.gradient, tinyflow.passes.pipeline, tinyflow.passes.state, tinyflow.graph.verify; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tinyflow.ops.elementwise" in loaded and not any(m.startswith("llvmlite") for m in loaded)
