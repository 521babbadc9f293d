"""bfloat16 and float16: stored in two bytes, computed with in float32, rounded to the nearest when stored again."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tests.compiler.native import THREADS, needs_avx2, run
from tests.graph.rows import described, filled, random_array
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import LOW, bfloat16, bool_, float16, float32, int64
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import make, toposort
from tinyflow.graph.op import TABLE
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.attention import ATTENTION, ATTENTION_GRAD
from tinyflow.ops.contraction import convolution, matmul
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.random import uniform
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients
from tinyflow.runtime import target

ml_dtypes = pytest.importorskip("ml_dtypes")
STEP = {bfloat16: 2.0**-8, float16: 2.0**-11}  # half of a last place, relatively
SPECIAL = (
    0.0,
    -0.0,
    1.0,
    np.inf,
    -np.inf,
    np.nan,
    65504.0,
    65519.0,
    65520.0,
    1e-8,
    6e-8,
    3e38,
    3.4e38,
    1e-40,
    1.00390625,
    1.01171875,
)
ROWS = [pytest.param(op, s, id=f"{op}{described(s)}") for op in TABLE.values() if op.kind not in ("control", "leaf", "loop", "block") for s in op.samples[:3]
        if s.inputs and any(filled(i)[1] is float32 for i in s.inputs) and op.name not in ("cast", "scatter_add", "scatter_onto")]  # fmt: skip
ROWS += [pytest.param(op, s, id=f"{op}{n}") for op in (ATTENTION, ATTENTION_GRAD) for n, s in enumerate(op.samples) if filled(s.inputs[0])[1] is float32]  # fmt: skip


def lowered(op, sample, dtype):
    """The row on operands of a low type, and on the same numbers as float32."""
    rng, low, wide, fed = np.random.default_rng(0), [], [], {}
    for k, given in enumerate(sample.inputs):
        shape, kind, least, most = filled(given)
        a = random_array(shape, kind, least, most, rng)
        of = dtype if kind is float32 else kind
        low.append(placeholder(of, shape, "abcdefg"[k]))
        wide.append(placeholder(kind, shape, "abcdefg"[k]))
        fed[low[-1]] = a.astype(of.numpy)
        fed[wide[-1]] = fed[low[-1]].astype(kind.numpy)
    attrs = lambda of: {k: of if v is float32 else v for k, v in sample.attrs.items()}
    return make(op, *low, **attrs(dtype)), make(op, *wide, **attrs(float32)), fed


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("op, sample", ROWS)
def test_rows_are_those_of_float32_rounded(op, sample, dtype):
    low, wide, fed = lowered(op, sample, dtype)
    (got,), want = run([low], {n: fed[n] for n in low.inputs}, threads=(1, 3)), evaluate([wide], fed)[wide]
    assert got.dtype == low.dtype.numpy
    if low.dtype is not dtype:
        np.testing.assert_array_equal(got, want)
        return
    want = want.astype(dtype.numpy).astype(np.float32)
    np.testing.assert_allclose(got.astype(np.float32), want, rtol=2 * STEP[dtype], atol=1e-5)
    np.testing.assert_array_equal(evaluate([low], fed)[low].astype(np.float32), want)


@pytest.mark.parametrize("name", ["", pytest.param("avx2", marks=needs_avx2)])
@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_casts_round_to_the_nearest_and_to_even(dtype, name):
    rng = np.random.default_rng(0)
    a = np.concatenate(
        [SPECIAL, -np.array(SPECIAL), rng.standard_normal(4000) * 10.0 ** rng.integers(-42, 39, 4000)]
    ).astype(np.float32)
    bits = np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)
    x, y = placeholder(float32, a.shape, "x"), placeholder(dtype, bits.shape, "y")
    with config(TARGET=name), np.errstate(all="ignore"):
        narrow, wide, same = run(
            [e.cast(x, dtype), e.cast(y, float32), e.cast(e.cast(y, float32), dtype)], {x: a, y: bits}, threads=(1,)
        )
        np.testing.assert_array_equal(narrow.astype(np.float32), a.astype(dtype.numpy).astype(np.float32))
        np.testing.assert_array_equal(wide, bits.astype(np.float32))
        np.testing.assert_array_equal(same.astype(np.float32), wide)
        zero = wide == 0
        np.testing.assert_array_equal(np.signbit(wide[zero]), np.signbit(bits.astype(np.float32)[zero]))


def test_a_cast_within_an_expression_rounds():
    x = placeholder(float32, (1000,), "x")
    a = np.linspace(0, 3, 1000, dtype=np.float32)
    (got,) = run([e.cast(e.cast(x, bfloat16), float32) - x], {x: a})
    np.testing.assert_array_equal(got, a.astype(bfloat16.numpy).astype(np.float32) - a)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_sums_and_products_are_added_up_in_float32(dtype):
    rng = np.random.default_rng(0)
    x, y = placeholder(dtype, (70, 5000), "x"), placeholder(dtype, (5000, 40), "y")
    a, b = (rng.uniform(0, 1, p.shape).astype(dtype.numpy) for p in (x, y))
    total, product = run([sum_(x, 1), matmul(x, y)], {x: a, y: b}, THREADS)
    wide = a.astype(np.float64)
    np.testing.assert_allclose(total.astype(float), wide.sum(1), rtol=STEP[dtype] * 1.01)
    np.testing.assert_allclose(product.astype(float), wide @ b.astype(np.float64), rtol=STEP[dtype] * 1.01)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_a_layer_and_its_gradient(dtype):
    rng = np.random.default_rng(0)
    shapes = {"x": (33, 48), "w": (48, 20), "b": (20,)}
    nodes = {}
    for of in (dtype, float32):
        x, w, b = (placeholder(of, s, n) for n, s in shapes.items())
        y = f.softmax(f.gelu(matmul(x, w) + b))
        nodes[of] = [x, w, b], [y, *gradients([sum_(y * y)], [x, w, b])]
    arrays = [rng.standard_normal(s).astype(dtype.numpy) * dtype.numpy.type(0.5) for s in shapes.values()]
    got = run(nodes[dtype][1], dict(zip(nodes[dtype][0], arrays, strict=True)))
    fed = dict(zip(nodes[float32][0], (a.astype(np.float32) for a in arrays), strict=True))
    want = evaluate(nodes[float32][1], fed)
    for g, n in zip(got, nodes[float32][1], strict=True):
        np.testing.assert_allclose(
            g.astype(np.float32), want[n], rtol=8 * STEP[dtype], atol=8 * STEP[dtype] * np.abs(want[n]).max()
        )


KEY, MASK, ADDED = placeholder(int64, (), "key"), placeholder(bool_, (2, 1, 1, 70), "mask"), placeholder(float32, (1, 3, 40, 70), "added")  # fmt: skip
BETWEEN = {  # scores to weights
    "plain": f.softmax,
    "causal": lambda s: f.softmax(e.where(f.triangle(40, 70, 30), s * 0.25, -np.inf)),
    "masked": lambda s: f.softmax(e.where(MASK, s, -1e4)),
    "safe": lambda s: f.safe_softmax(e.where(MASK, s, -np.inf)),
    "added": lambda s: f.softmax(s + e.cast(ADDED, s.dtype)),
    "dropped": lambda s: e.where(e.less(uniform(KEY, s.shape), 0.25), 0.0, f.softmax(s) * 2.0),
    "dropped, causal": lambda s: e.where(
        e.less(uniform(KEY, s.shape), 0.25), 0.0, f.softmax(e.where(f.triangle(40, 70), s, -np.inf)) / 0.75
    ),
}


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("name", BETWEEN)
def test_attention_is_found_and_computed_in_float32(name, dtype):
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 3, 40, 20), "k": (2, 3, 70, 20), "v": (2, 3, 70, 33), "g": (2, 3, 40, 33)}
    nodes = {}
    for of in (dtype, float32):
        q, k, v, g = given = [placeholder(of, s, n) for n, s in shapes.items()]
        y = matmul(BETWEEN[name](matmul(q, k, transpose_b=True)), v)
        nodes[of] = given, [y, *gradients([y], [q, k, v], [g])]
    both = nodes[dtype][1]
    pays = "causal" in name or "dropped" in name  # else gradients are made from probabilities that are kept
    nodes = {of: (given, outs if pays else outs[:1]) for of, (given, outs) in nodes.items()}
    ops = [n.op for n in toposort(pipeline.run(nodes[dtype][1]))]
    assert (ops.count(ATTENTION), ops.count(ATTENTION_GRAD)) == (1, 3 * pays)
    assert pays or ATTENTION_GRAD not in [n.op for n in toposort(pipeline.run(both))]
    arrays = [(rng.standard_normal(s) * 0.5).astype(dtype.numpy) for s in shapes.values()]
    seen = rng.random(MASK.shape) < 0.7
    seen[1] = False  # of one entry of the batch, nothing at all
    more = {
        KEY: np.int64(7),
        MASK: seen,
        ADDED: rng.standard_normal(ADDED.shape).astype(dtype.numpy).astype(np.float32),
    }
    got = run(nodes[dtype][1], dict(zip(nodes[dtype][0], arrays, strict=True)) | more)
    wide = dict(zip(nodes[float32][0], (a.astype(np.float32) for a in arrays), strict=True)) | more
    want = evaluate(nodes[float32][1], wide)
    for y, n in zip(got, nodes[float32][1], strict=True):
        assert y.dtype == dtype.numpy
        np.testing.assert_allclose(y.astype(np.float32), want[n], rtol=1.01 * STEP[dtype], atol=1e-5)


PRODUCTS = {
    "small": (5, 8, 3),
    "odd": (33, 71, 20),
    "tiles": (64, 128, 96),
    "tall": (300, 64, 40),
    "wide": (17, 30, 500),
    "deep": (40, 2050, 33),
}


@pytest.mark.parametrize("turned", list(itertools.product((False, True), repeat=2)), ids=str)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_pairs(name, turned):
    """Two at a time where the machine can; of an odd number, and elsewhere, as float32."""
    m, k, n = PRODUCTS[name]
    rng = np.random.default_rng(0)
    x, y = (
        placeholder(bfloat16, (k, m) if turned[0] else (m, k), "x"),
        placeholder(bfloat16, (n, k) if turned[1] else (k, n), "y"),
    )
    fed = {p: rng.standard_normal(p.shape).astype(bfloat16.numpy) for p in (x, y)}
    made = matmul(x, y, *turned)
    nodes = [made, e.relu(made) * 2.0, e.cast(made, float32), matmul(e.tanh(x), y, *turned)]
    got = run(nodes, fed)
    a, b = (
        fed[p].astype(np.float64).T if t else fed[p].astype(np.float64) for p, t in zip((x, y), turned, strict=True)
    )
    t = np.tanh(a.astype(np.float32)).astype(bfloat16.numpy).astype(float)
    for g, want in zip(got, (a @ b, np.maximum(a @ b, 0) * 2, a @ b, t @ b), strict=True):
        np.testing.assert_allclose(g.astype(np.float64), want, rtol=0.01, atol=0.01 * np.sqrt(k))


@pytest.mark.skipif(not target.current().pairs, reason="this machine has no instruction for pairs of bfloat16")
@pytest.mark.parametrize("k, count", [(64, 1), (65, 0)])
def test_pairs_are_found(k, count):
    x, y = placeholder(bfloat16, (64, k), "x"), placeholder(bfloat16, (k, 64), "y")
    made = build([matmul(x, y)], {})
    assert sum("dpbf16ps" in code.text for code in made.codes) == count


def test_convolutions_of_pairs():
    rng = np.random.default_rng(0)
    found = {}
    for dtype in (bfloat16, float32):
        x, w = placeholder(dtype, (2, 9, 10, 16), "x"), placeholder(dtype, (3, 3, 16, 24), "w")
        y = convolution(x, w, (1, 1), (1, 1), (9, 10), (1, 1))
        found[dtype] = (x, w), [y, *gradients([sum_(y * y)], [x, w])]
    arrays = [rng.standard_normal(p.shape).astype(bfloat16.numpy) for p in found[bfloat16][0]]
    got = run(found[bfloat16][1], dict(zip(found[bfloat16][0], arrays, strict=True)))
    want = evaluate(
        found[float32][1], dict(zip(found[float32][0], (a.astype(np.float32) for a in arrays), strict=True))
    )
    for g, n in zip(got, found[float32][1], strict=True):
        np.testing.assert_allclose(g.astype(np.float32), want[n], rtol=0.03, atol=0.01 * np.abs(want[n]).max())


def test_without_the_package_the_message_says_what_to_do():
    code = "import sys; sys.modules['ml_dtypes'] = None\nimport tinyflow.torch as t\nprint((t.ones(3).half() * 2).tolist())\nt.ones(3).bfloat16().tolist()"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.stdout == "[2.0, 2.0, 2.0]\n"
    assert "arrays of bfloat16 need the package ml_dtypes: pip install 'tinyflow-dl[low]'" in child.stderr
