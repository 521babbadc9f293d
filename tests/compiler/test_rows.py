"""Every row of the table in native code: on its samples, on other sizes and types, on special numbers, and for AVX2."""

import itertools

import numpy as np
import pytest

from tests.compiler.native import check, check_close, needs_avx2, run
from tests.graph.rows import apply, cases, symbolic
from tests.graph.rules import values_of
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import DTYPES, float32, float64
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import make
from tinyflow.graph.op import TABLE
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import pad
from tinyflow.ops.reduction import max_, sum_
from tinyflow.runtime import target

SIZES = (0, 1, 15, 16, 17, 31, 1023, 4096, 5003)
SIDES = ((0, 3), (3, 0), (1, 1), (1, 17), (15, 16), (17, 1), (16, 64), (7, 1023), (131, 37))
OTHER = "avx2"


def text(nodes):
    return "".join(c.text for c in build(nodes, {}).codes)


def added(op, sample):
    """How many numbers are added up for one element, about."""
    if op.name not in ("contract", "sum", "scatter_add", "scatter_onto"):
        return 1
    return max((int(np.prod(shape)) for shape, *_ in sample.inputs), default=1)


@pytest.mark.parametrize("op, sample", cases())
def test_samples(op, sample):
    node, fed = apply(op, sample)
    check([node], fed, added=added(op, sample))


@pytest.mark.parametrize("op, sample", cases())
def test_samples_of_sizes_known_when_running(op, sample):
    node, fed = symbolic(op, sample)
    check([node], fed, threads=(2,), added=added(op, sample))


@needs_avx2
@pytest.mark.parametrize("op, sample", cases())
def test_samples_with_shorter_vectors(op, sample):
    node, fed = apply(op, sample)
    with config(TARGET=OTHER):
        check([node], fed, threads=(1, 2), added=added(op, sample))


# ------------------------------------------------------------------------------------------ other types, other sizes

ELEMENTWISE = {name: op for name, op in TABLE.items() if op.elementwise and op.samples and name != "cast"}


def typed(op, dtype, shape):
    """The row on placeholders of that type and shape; where it takes a condition, that is bool."""
    first = op.samples[0].inputs
    kinds = [d if len({k for _, k, *_ in first}) > 1 and d.kind == "b" else dtype for _, d, *_ in first]
    leaves = [placeholder(d, shape, "x") for d in kinds]
    return make(op, *leaves, **op.samples[0].attrs), leaves


def accepted(op):
    found = []
    for dtype in DTYPES:
        try:
            typed(op, dtype, (2,))
        except ShapeError:
            continue
        found.append(dtype)
    return found


def domain(op, dtype, shape, seed):
    """Numbers among which the row has values."""
    _, _, low, high = op.samples[0].inputs[0]
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_floating:
        return rng.uniform(low, high, shape).astype(dtype.numpy)
    return rng.integers(0 if dtype.kind == "u" else -40, 40, shape).astype(dtype.numpy)


TYPED = [pytest.param(op, d, id=f"{n}-{d}") for n, op in ELEMENTWISE.items() for d in accepted(op)]


@pytest.mark.parametrize("op, dtype", TYPED)
def test_all_types_and_lengths(op, dtype):
    node, leaves = typed(op, dtype, (fresh_dim(),))
    for n in SIZES:
        check([node], {x: domain(op, x.dtype, (n,), k) for k, x in enumerate(leaves)}, threads=(1, 3))


@pytest.mark.parametrize("name", ["add", "exp", "where", "less", "neg"])
def test_sides(name):
    node, leaves = typed(TABLE[name], TABLE[name].samples[0].inputs[-1][1], (fresh_dim(), fresh_dim()))
    for shape in SIDES:
        check([node], {x: domain(TABLE[name], x.dtype, shape, k) for k, x in enumerate(leaves)})


# ------------------------------------------------------------------------------------------ special numbers

FAR = {"sin", "cos", "tan"}  # of 1e30 they say nothing


@pytest.mark.parametrize("op, dtype", TYPED)
def test_special_numbers(op, dtype):
    """NaN, infinities, zeros of both signs, the ends of integers, division by zero: as numpy has it."""
    values = values_of(dtype) if dtype.kind != "b" else np.array([False, True])
    if op.name in FAR:
        values = values[~(np.abs(values) == 1e30)]
    grid = np.array(list(itertools.product(values, repeat=len(op.samples[0].inputs)))).T
    node, leaves = typed(op, dtype, grid.shape[1:])
    fed = {x: np.ascontiguousarray(a).astype(x.dtype.numpy) for x, a in zip(leaves, grid, strict=True)}
    (got,), want = run([node], fed, threads=(1,)), evaluate([node], fed)[node]
    check_close(got, want)
    if dtype.is_floating and node.dtype is dtype:
        zero = want == 0
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("source", DTYPES, ids=str)
@pytest.mark.parametrize("into", DTYPES, ids=str)
def test_casts(source, into):
    values = values_of(source) if source.kind != "b" else np.array([False, True])
    if source.is_floating and into.is_integer:  # numpy leaves what lies outside undefined
        values = values[np.isfinite(values) & (np.abs(values) < 200) & ((values >= 0) | (into.kind == "i"))]
    values = np.resize(values, 37)
    x = placeholder(source, values.shape, "x")
    check([make(TABLE["cast"], x, dtype=into)], {x: values}, threads=(1,))


@pytest.mark.parametrize("name", ["", pytest.param(OTHER, marks=needs_avx2)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parts_of_vectors(dtype, name):
    """Loads and stores under masks of every form, those known when compiling too: nothing else is read or written."""
    nodes, fed = [], {}
    for n in range(1, 19):
        x = placeholder(dtype, (2, n), "x")
        fed[x] = values_of(dtype)[-2:, None].repeat(n, 1) if dtype.kind != "b" else np.ones((2, n), bool)
        nodes += [
            pad(x, low, high, (1, 0), value=1.0) for low, high in (((1, 2), (0, 3)), ((0, 0), (1, n)), ((1, n), (1, 0)))
        ]
    with config(TARGET=name):
        check(nodes, fed, threads=(1, 2))


@pytest.mark.parametrize("name", ["", pytest.param(OTHER, marks=needs_avx2)])
def test_several_vectors_at_once(name):
    """As many as there are whole ones of, then the rest; not where each lane has a number of its own."""
    lanes = 4 * (16 if target.current().name == "avx512" and not name else 8)
    for shape in (
        (lanes - 1,),
        (lanes,),
        (lanes + 3,),
        (127,),
        (1000,),
        (3 * 4096 + 77,),
        (3, lanes),
        (5, 203),
        (2, 1, 4099),
    ):
        x = placeholder(float32, shape, "x")
        a = np.random.default_rng(1).normal(size=shape).astype("float32")
        wide = [e.where(e.greater(x, 0.5), f.gelu(x), x - 1.0), x - sum_(x, -1, keepdims=True), e.greater(x, 0.0)]
        narrow = [x + e.cast(f.position(shape, -1), float32)]
        with config(TARGET=name):
            check(wide + narrow, {x: a}, threads=(1, 2, 3), added=shape[-1])
            assert (f"<{lanes} x float>" in text(wide)) == (shape[-1] >= lanes)
            assert f"<{lanes} x float>" not in text(narrow)


def test_a_row_is_multiplied_by_the_inverse_of_a_sum_that_is_near_one():
    """That of exponentials of what their maximum leaves; no other sum, for its inverse may be infinite."""
    x, y = placeholder(float32, (6, 300), "x"), placeholder(float32, (6, 300), "y")
    a = np.random.default_rng(1).normal(size=(6, 300)).astype("float32") * 5
    a[1, 3], a[2], a[3, 7] = np.inf, -np.inf, np.nan
    a[4, 1:], a[5] = -np.inf, -101.0
    whole, raw = f.softmax(x), e.exp(x)
    shifted = e.exp(y - max_(x, -1, keepdims=True))  # another row's maximum
    plain, other = raw / sum_(raw, -1, keepdims=True), shifted / sum_(shifted, -1, keepdims=True)
    check([whole, plain, other], {x: a, y: a - 100.0}, threads=(1, 2), added=300)
    assert [" = fdiv <" in text([n]) for n in (whole, plain, other)] == [False, True, True]


def test_float64_is_computed_in_float64():
    x = placeholder(float64, (100,), "x")
    a = np.linspace(0.1, 3, 100)
    for name in ("exp", "log", "tanh", "sqrt", "sin", "erf"):
        (got,) = check([make(TABLE[name], x)], {x: a})
        assert np.any(got != got.astype(np.float32))
