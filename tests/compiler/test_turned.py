"""Copies in another order, by blocks turned in registers: numpy's values, on sizes around a block and types of any size."""

import itertools

import numpy as np
import pytest

from tests.compiler.native import check, needs_avx2
from tests.compiler.test_large import text
from tinyflow.compiler import schedule
from tinyflow.core.config import config
from tinyflow.core.dtypes import DTYPES, bfloat16, float16, float32
from tinyflow.graph.node import toposort
from tinyflow.ops import contraction as c
from tinyflow.ops import elementwise as e
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import permute
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
    assert turned in text([permute(x, (1, 0))])
    for other in (permute(e.exp(x), (1, 0)), permute(low, (1, 0)), x + 0.0):
        assert turned not in text([other])


@pytest.mark.parametrize("kernel, channels, copied", [(3, 32, True), (1, 32, True), (3, 3, False)])
def test_images_with_channels_first_are_turned_once(kernel, channels, copied):
    x, w = placeholder(float32, (2, channels, 9, 9), "x"), placeholder(float32, (24, channels, kernel, kernel), "w")
    last, places = permute(x, (0, 2, 3, 1)), permute(w, (2, 3, 1, 0))
    pad, size = kernel // 2, 9
    y = permute(c.convolution(last, places, (1, 1), (pad, pad), (size, size), (1, 1)), (0, 3, 1, 2))
    (root,) = pipeline.run([y])
    (product,) = [n for n in toposort([root]) if n.op is c.CONTRACT]
    found = schedule.turned_images(product)
    assert [n.inputs[0] for n in found] == ([x] if copied else [])
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
