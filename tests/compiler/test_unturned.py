"""Convolutions that read and write images with channels first as they lie: the numpy meaning's values, and nothing is turned."""

import numpy as np
import pytest

from tests.compiler.native import check, needs_avx2
from tinyflow.core.config import config
from tinyflow.core.dtypes import bfloat16, float32, float64
from tinyflow.graph.node import toposort
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import CONTRACT, convolution
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import PERMUTE, expand, permute, reshape
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients


def passes(shape, filters, stride=1, pad=0, dtype=float32, bias=False):
    """(x, w), and the results of all passes of a convolution with channels first."""
    rank = len(shape) - 2
    x, w = placeholder(dtype, shape, "x"), placeholder(dtype, filters, "w")
    out = [(n + 2 * pad - k) // stride + 1 for n, k in zip(shape[2:], filters[2:], strict=True)]
    last, places = permute(x, (0, *range(2, rank + 2), 1)), permute(w, (*range(2, rank + 2), 1, 0))
    y = convolution(last, places, (stride,) * rank, (pad,) * rank, out, (1,) * rank)
    y = e.tanh(y + expand(reshape(sum_(w, tuple(range(1, rank + 2))), (filters[0],)), y.shape)) if bias else y
    y = permute(y, (0, rank + 1, *range(1, rank + 1)))
    weight = placeholder(dtype, y.shape, "weight")
    return (x, w, weight), [y, *gradients([sum_(y * weight, tuple(range(y.ndim)))], [x, w])]


def fed(leaves):
    rng = np.random.default_rng(0)
    return {x: rng.standard_normal(x.shape).astype(x.dtype.numpy) for x in leaves}


# fmt: off
SPECS = {  # image (n, c, h, w), filters (o, c, i, j), stride, padding
    "1x1":                 ((3, 20, 7, 9),     (33, 20, 1, 1), 1, 0),
    "1x1 of many":         ((4, 64, 8, 8),     (48, 64, 1, 1), 1, 0),
    "1x1, one image":      ((1, 24, 12, 12),   (16, 24, 1, 1), 1, 0),
    "1x1 of small images": ((16, 32, 3, 3),    (40, 32, 1, 1), 1, 0),
    "1x1, step 2":         ((4, 32, 16, 16),   (48, 32, 1, 1), 2, 0),
    "1x1, step 2, odd":    ((3, 17, 15, 13),   (24, 17, 1, 1), 2, 0),
    "1x1, step 3":         ((2, 16, 17, 11),   (24, 16, 1, 1), 3, 0),
    "1x1, step 5":         ((2, 16, 23, 21),   (24, 16, 1, 1), 5, 0),
    "1x1, padded":         ((2, 16, 9, 9),     (24, 16, 1, 1), 1, 1),
    "1x1 to a few":        ((2, 24, 16, 16),   (3, 24, 1, 1),  1, 0),
    "1, a line":           ((3, 24, 50),       (20, 24, 1),    1, 0),
    "1x1x1":               ((2, 18, 3, 5, 7),  (17, 18, 1, 1, 1), 1, 0),
    "1x3":                 ((2, 16, 9, 20),    (24, 16, 1, 3), 1, 0),
    "as great as the image": ((5, 16, 3, 3),   (24, 16, 3, 3), 1, 0),
    "7x7 of 3, step 2":    ((2, 3, 33, 32),    (24, 3, 7, 7),  2, 3),
    "3x3 of 1":            ((3, 1, 12, 17),    (16, 1, 3, 3),  1, 1),
    "5 of 2, a line":      ((2, 2, 70),        (16, 2, 5),     3, 2),
    "2x2 of 3, step 4":    ((2, 3, 16, 19),    (16, 3, 2, 2),  4, 1),
    "3x3x3 of 2":          ((1, 2, 6, 7, 16),  (16, 2, 3, 3, 3), 1, 1),
}
# fmt: on


@pytest.mark.parametrize("name", SPECS)
def test_all_passes(name):
    shape, filters, stride, pad = SPECS[name]
    leaves, results = passes(shape, filters, stride, pad)
    check(results, fed(leaves), threads=(1, 3), added=int(np.prod(filters[1:])) * shape[0] * 10)


@pytest.mark.parametrize("name", ["1x1", "1x1, step 2", "7x7 of 3, step 2"])
def test_with_more_made_of_the_results(name):
    shape, filters, stride, pad = SPECS[name]
    leaves, results = passes(shape, filters, stride, pad, bias=True)
    check(results, fed(leaves), threads=(2,), added=10_000)


@pytest.mark.parametrize("dtype", [float64, bfloat16], ids=str)
def test_other_types(dtype):
    for name in ("1x1", "1x1, step 2", "3x3 of 1"):
        shape, filters, stride, pad = SPECS[name]
        leaves, (y, *_) = passes(shape, filters, stride, pad, dtype)
        check([y], fed(leaves), threads=(2,), added=200)


@needs_avx2
def test_shorter_vectors():
    with config(TARGET="avx2"):
        for name in ("1x1", "1x1, step 2", "1x1, step 3", "7x7 of 3, step 2"):
            test_all_passes(name)


def orders(roots):
    return [n for n in toposort(pipeline.run(roots)) if n.op is PERMUTE and n.ndim > 2]


def test_nothing_is_turned():
    for name in ("1x1", "1x1 of many", "1, a line", "1x1x1"):
        shape, filters, stride, pad = SPECS[name]
        assert not orders(passes(shape, filters, stride, pad)[1])
    for name in ("7x7 of 3, step 2", "3x3 of 1"):
        shape, filters, stride, pad = SPECS[name]
        assert not orders(passes(shape, filters, stride, pad)[1][:1])
    assert orders(passes((2, 16, 9, 9), (24, 16, 3, 3), 1, 1)[1])  # windows of many channels


def test_what_others_read_keeps_its_order():
    """A result that is read with channels last too is computed once."""
    _, (y, *_) = passes((2, 16, 8, 8), (24, 16, 1, 1))
    last = permute(y, (0, 2, 3, 1))
    found = pipeline.run([y, last, e.exp(last)])
    assert sum(n.op is CONTRACT for n in toposort(found)) == 1
