"""Code for AArch64, run under emulation beside the numpy meaning: the table's rows, mathematics, fused rows, contractions."""

import numpy as np
import pytest

from tests.compiler import test_convolution, test_fusion
from tests.compiler.emulated import needs_emulator, run_emulated
from tests.compiler.native import check_close, same_bits
from tests.compiler.test_contraction import ALL, LAYOUTS, B, C, I, P, R, W, X, fed_by, product
from tests.compiler.test_rows import ELEMENTWISE, added, typed
from tests.graph.rows import apply
from tests.graph.rules import values_of
from tinyflow.core.dtypes import float32, float64, int32
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.op import TABLE
from tinyflow.ops.leaf import placeholder
from tinyflow.passes.gradient import gradients

pytestmark = needs_emulator
PARTS = 8
THREADS = (1, 2, 3)
SAMPLES = [(op, s) for op in TABLE.values() for s in op.samples if op.kind not in ("control", "loop")]
MATHEMATICS = ("exp", "log", "expm1", "log1p", "tanh", "sigmoid", "erf", "erfinv", "sin", "cos", "sqrt")


def check(nodes, fed, folder, numbers=None):
    """The values are those of numpy, and the same bits for any number of threads."""
    want = evaluate(nodes, fed)
    found = run_emulated(nodes, fed, folder, THREADS)
    for n, *values in zip(nodes, *found, strict=True):
        assert all(same_bits(values[0], again) for again in values[1:]), n
        check_close(values[0], want[n], (numbers or {}).get(n, 1))


@pytest.mark.parametrize("part", range(PARTS))
def test_rows_of_the_table(part, tmp_path):
    nodes, fed, numbers = [], {}, {}
    for op, sample in SAMPLES[part::PARTS]:
        node, given = apply(op, sample)
        nodes.append(node)
        fed |= given
        numbers[node] = added(op, sample)
    check(nodes, fed, tmp_path, numbers)


@pytest.mark.parametrize("dtype", [float32, float64, int32], ids=str)
def test_special_numbers(dtype, tmp_path):
    nodes, fed = [], {}
    values = values_of(dtype)
    for name, op in ELEMENTWISE.items():
        if name in ("sin", "cos", "tan", "pow") or len(op.samples[0].inputs) > 2:
            continue
        try:
            node, leaves = typed(op, dtype, (values.size, values.size))
        except Exception:
            continue  # the row does not take the type
        nodes.append(node)
        fed |= dict(zip(leaves, np.meshgrid(values, values), strict=False))
    check(nodes, fed, tmp_path)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_mathematics(dtype, tmp_path):
    nodes, fed = [], {}
    for name in MATHEMATICS:
        _, _, low, high = TABLE[name].samples[0].inputs[0]
        node, (x,) = typed(TABLE[name], dtype, (10_001,))
        nodes.append(node)
        fed[x] = np.linspace(low, high, 10_001).astype(dtype.numpy)
    check(nodes, fed, tmp_path)


@pytest.mark.parametrize("shape", [(33, 100), (3, 513)], ids=str)
def test_fused_rows(shape, tmp_path):
    fed = test_fusion.pair(shape)
    a, b = fed
    nodes = []
    for f in test_fusion.FUNCTIONS.values():
        made = f(a, b)
        floats = [n * 0.1 for n in made if n.dtype is float32]
        nodes += [*made, *(g for g in gradients(floats, [a, b]) if g is not None)]
    check(nodes, fed, tmp_path, dict.fromkeys(nodes, 100))


@pytest.mark.parametrize("k", [1, 70, 300, 1100])
def test_products(k, tmp_path):
    made = [product(m, k, n, turned, float64 if m == 9 else float32) for m, n, turned in zip((1, 9, 17, 40), (33, 8, 65, 100), LAYOUTS, strict=True)]  # fmt: skip
    fed = {}
    for _, a, b in made:
        fed |= fed_by((a, b))
    check([y for y, _, _ in made], fed, tmp_path, dict.fromkeys([y for y, _, _ in made], k))


def test_what_is_computed_around_products(tmp_path):
    fed = fed_by((X, W, B, R, C, P))
    fed[I] = np.random.default_rng(9).integers(0, X.shape[0], X.shape[0]).astype(np.int32)
    nodes = [n for make in ALL.values() for n in make()]
    check(nodes, fed, tmp_path, dict.fromkeys(nodes, 500))


@pytest.mark.parametrize("part", range(4))
def test_convolutions_and_their_gradients(part, tmp_path):
    nodes, fed = [], {}
    for name in list(test_convolution.SPECS)[part::4]:
        y, x, w, given, _ = test_convolution.made(name)
        g = placeholder(y.dtype, y.shape, "g")
        nodes += [y, *gradients([y], [x, w], seeds=[g])]
        fed |= given | {g: np.random.default_rng(2).uniform(-1, 1, y.shape).astype(np.float32)}
    check(nodes, fed, tmp_path, dict.fromkeys(nodes, 1000))
