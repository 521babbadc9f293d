"""Copies in another order, by blocks turned in registers: numpy's values, on sizes around a block and types of any size."""

import itertools

import numpy as np
import pytest

from tests.compiler.native import check, needs_avx2
from tests.compiler.test_large import text
from tinyflow.compiler import schedule
from tinyflow.compiler.contraction import Tiles
from tinyflow.compiler.loops import loads
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import DTYPES, bfloat16, float16, float32, float64
from tinyflow.graph.node import toposort
from tinyflow.ops import contraction as c
from tinyflow.ops import elementwise as e
from tinyflow.ops.leaf import constant, iota, placeholder
from tinyflow.ops.movement import PERMUTE, expand, pad, permute, reshape
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline

SHAPES = ((16, 16), (17, 33), (3, 40), (40, 3), (1, 50), (15, 15), (0, 20), (20, 0), (64, 129))


def fed(shape, dtype=float32):
    a = np.arange(np.prod(shape)).reshape(shape)
    return placeholder(dtype, shape, "x"), (a % 2 == 0 if dtype.kind == "b" else a % 251).astype(dtype.numpy)


@pytest.mark.parametrize("dtype", [*DTYPES, float16], ids=str)
def test_two_axes(dtype):
    for shape in SHAPES:
        x, a = fed(shape, dtype)
        check([permute(x, (1, 0))], {x: a}, threads=(1, 3))


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[1:])
def test_four_axes(order):
    for shape in ((2, 3, 17, 20), (5, 16, 1, 18), (33, 2, 3, 3)):
        x, a = fed(shape)
        check([permute(x, order)], {x: a}, threads=(1, 2))


@needs_avx2
def test_shorter_vectors():
    with config(TARGET="avx2"):
        for shape, dtype in itertools.product(SHAPES, DTYPES):
            x, a = fed(shape, dtype)
            check([permute(x, (1, 0))], {x: a}, threads=(2,))


def test_what_is_turned():
    x = placeholder(float32, (40, 50), "x")
    low = placeholder(bfloat16, (40, 50), "low")
    turned = "shufflevector <16 x float> %x"
    for copied in (x, e.exp(x)):
        assert turned in text([permute(copied, (1, 0))])
    for other in (permute(low, (1, 0)), x + 0.0):
        assert turned not in text([other])


LINES = ((16, 1, 16), (33, 3, 5, 2), (40, 17, 3, 3), (64, 700, 3), (21, 2, 1100), (5, 16, 16), (16, 3, 2), (0, 8, 4))


def updated(w, *gradients):
    """A weight, and its new value by gradients that have their first axis last."""
    turned = [permute(g, (g.ndim - 1, *range(g.ndim - 1))) for g in gradients]
    m = sum(turned[1:], turned[0]) - w * w
    return [turned[0], m, w - m * w]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "b"], ids=str)
def test_updates_by_a_gradient_in_another_order(dtype):
    for shape in LINES:
        rng = np.random.default_rng(0)
        leaves = [placeholder(dtype, s, "x") for s in (shape, *[(*shape[1:], shape[0])] * 2)]
        feeds = {x: rng.integers(-4, 5, x.shape).astype(dtype.numpy) for x in leaves}
        check(updated(*leaves[:2]), feeds, threads=(1, 3))
        check(updated(*leaves), feeds, threads=(2,))


@needs_avx2
def test_updates_by_shorter_vectors():
    with config(TARGET="avx2"):
        test_updates_by_a_gradient_in_another_order(float32)


def test_a_line_is_all_that_lies_in_one_piece():
    w, g, h = (placeholder(float32, s, "x") for s in ((40, 17, 3, 3), (3, 3, 17, 40), (17, 3, 3, 40)))
    several = permute(g, (3, 2, 0, 1)) - w * permute(h, (3, 0, 1, 2))
    for root, count in ((permute(g, (3, 2, 0, 1)) - w, 1), (several, 2)):
        found = text([root])
        assert found.count("alloca [2560 x float]") == count  # 153 places of a line, in whole vectors, of 16 rows
        assert "gather" not in found


def test_what_is_not_turned():
    w, g = placeholder(float32, (40, 48), "w"), placeholder(float32, (48, 40), "g")
    turned = permute(g, (1, 0))
    inside = turned * e.cast(iota(48, float32) < 20.0, float32)  # it asks for its place in the line
    for other in (inside + w, pad(turned, (0, 1), (0, 1)) * 2.0):
        assert "%room" not in text([other])
    rng = np.random.default_rng(0)
    feeds = {x: rng.standard_normal(x.shape, np.float32) for x in (w, g)}
    check([inside + w, pad(turned, (0, 1), (0, 1)) * 2.0], feeds)


@pytest.mark.parametrize("kernel, channels, copied", [(3, 32, True), (1, 32, False), (3, 3, False)])
def test_images_with_channels_first_are_turned_once(kernel, channels, copied):
    x, w = placeholder(float32, (2, channels, 9, 9), "x"), placeholder(float32, (24, channels, kernel, kernel), "w")
    last, places = permute(x, (0, 2, 3, 1)), permute(w, (2, 3, 1, 0))
    pad, size = kernel // 2, 9
    y = permute(c.convolution(last, places, (1, 1), (pad, pad), (size, size), (1, 1)), (0, 3, 1, 2))
    (root,) = pipeline.run([y])
    (product,) = [n for n in toposort([root]) if n.op is c.CONTRACT]
    found = schedule.turned_images(product)
    assert [n.inputs[0] for n in found if n.op is PERMUTE] == ([x] if copied else [])
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(n.shape, np.float32) for n in (x, w))
    check([y, e.tanh(y)], {x: a, w: b}, added=channels * kernel**2)


def test_a_transposed_matrix_is_read_where_it_is():
    x, y = placeholder(float32, (64, 96), "x"), placeholder(float32, (64, 80), "y")
    product = c.matmul(permute(x, (1, 0)), y)
    assert not schedule.turned_images(product)


@pytest.mark.parametrize("stride, padding", [(2, 3), (2, 0), (7, 0)])
def test_few_channels_first_are_packed_along_the_lines_of_their_images(stride, padding):
    size = (15 + 2 * padding - 7) // stride + 1
    x, w = placeholder(float32, (2, 3, 15, 15), "x"), placeholder(float32, (24, 3, 7, 7), "w")
    last, places = permute(x, (0, 2, 3, 1)), permute(w, (2, 3, 1, 0))
    y = c.convolution(last, places, (stride,) * 2, (padding,) * 2, (size, size), (1, 1))
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(n.shape, np.float32) for n in (x, w))
    check([y, e.tanh(permute(y, (0, 3, 1, 2)))], {x: a, w: b}, added=147)
    assert "masked.gather" not in text(pipeline.run([y]))


def layer(rows, columns, depth, dtype=float32):
    x, w, b = (placeholder(dtype, n, k) for n, k in (((rows, depth), "x"), ((columns, depth), "w"), ((columns,), "b")))
    return c.matmul(x, w, transpose_b=True), x, w, b


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize(
    "rows, columns, depth", [(2, 700, 200), (7, 1030, 300), (64, 512, 256), (65, 263, 521), (128, 515, 1024)]
)
def test_few_rows_of_a_matrix_along_its_terms(rows, columns, depth, dtype):
    y, x, w, b = layer(rows, columns, depth, dtype)
    rng = np.random.default_rng(0)
    feeds = {n: rng.uniform(-1, 1, n.shape).astype(dtype.numpy) for n in (x, w, b)}
    activated = e.maximum(y + expand(reshape(b, (1, columns)), y.shape), expand(constant(0.0, dtype), y.shape))
    cut = reshape(activated, (1, rows, columns))
    for nodes in (
        [y],
        [activated],
        [y, activated * y],
        [cut, activated],
        [permute(y, (1, 0))],
        [sum_(activated, (1,))],
    ):
        check(nodes, feeds, threads=(1, 2, 3), added=depth)


@pytest.mark.parametrize(
    "rows, columns, depth, left",
    [(64, 512, 256, True), (512, 512, 256, False), (64, 128, 256, False), (64, 512, 96, False)],
)
def test_which_matrices_are_the_left_operand(rows, columns, depth, left):
    y, _, w, _ = layer(rows, columns, depth)
    recipes = [k.recipe for k in build([y], {}).kernels if isinstance(k.recipe, Tiles)]
    assert [w in {x.buffer for x in loads(t.a)} for t in recipes] == [left]


def test_joined_axes_that_lie_apart_are_turned_once():
    x, w = placeholder(float32, (8, 5, 5, 24), "x"), placeholder(float32, (600, 40), "w")
    image = e.tanh(x)
    rows = reshape(permute(image, (0, 3, 1, 2)), (8, 600))
    y = c.matmul(rows, w)
    assert schedule.turned_rows(y) == [rows.inputs[0]]
    assert not schedule.turned_rows(
        c.matmul(reshape(permute(image, (0, 2, 1, 3)), (200, 24)), placeholder(float32, (24, 40), "v"))
    )
    rng = np.random.default_rng(0)
    check([y], {n: rng.standard_normal(n.shape, np.float32) for n in (x, w)}, threads=(1, 2), added=600)
