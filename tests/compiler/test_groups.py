"""Groups of few channels, several of them as one product: the same numbers, of every group by itself."""

import itertools

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, both, theirs
from tinyflow.graph.node import toposort
from tinyflow.ops.contraction import CONTRACT
from tinyflow.passes import pipeline
from tinyflow.passes.groups import best, groups
from tinyflow.torch.tensor import use

# fmt: off
CASES = {  # groups, channels, results of each group, image, filter, options
    "few":          (8, 4, 4, (9, 9), (3, 3), dict(padding=1)),
    "two":          (32, 2, 2, (7, 5), (3, 3), dict(padding=1)),
    "a prime":      (7, 3, 5, (11, 11), (3, 3), dict(padding=1)),
    "of one":       (4, 1, 3, (8, 8), (3, 3), dict()),
    "to one":       (6, 3, 1, (8, 8), (3, 3), dict()),
    "strided":      (16, 4, 4, (10, 9), (3, 3), dict(stride=2, padding=1)),
    "strided far":  (4, 4, 8, (11, 11), (2, 2), dict(stride=3)),
    "dilated":      (4, 8, 8, (9, 9), (3, 3), dict(dilation=2, padding=2)),
    "a line":       (6, 5, 2, (17,), (4,), dict(padding=2)),
    "with depth":   (4, 2, 3, (5, 6, 4), (2, 3, 3), dict(padding=1)),
    "points":       (4, 4, 4, (6, 6), (1, 1), dict()),
}
# fmt: on


@pytest.mark.parametrize("name", CASES)
def test_groups(name):
    g, c, o, image, taps, options = CASES[name]
    conv = lambda t, x, w: getattr(t.nn.functional, f"conv{len(image)}d")(x, w, groups=g, **options)
    both(conv, array(2, g * c, *image), array(g * o, c, *taps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["few", "strided"])
def test_transposed(name):
    g, c, o, image, taps, options = CASES[name]
    conv = lambda t, x, w: t.nn.functional.conv_transpose2d(x, w, groups=g, **options)
    both(conv, array(2, g * c, *image), array(g * c, o, *taps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "unit"), [("float64", 2**-40), ("bfloat16", 2**-7), ("float16", 2**-10)])
def test_types(kind, unit):
    x, w = array(2, 16, 9, 9), array(16, 4, 3, 3)
    got, want = (t.nn.functional.conv2d(t.tensor(x).to(getattr(t, kind)), t.tensor(w).to(getattr(t, kind)), groups=4, padding=1).float().numpy() for t in (ours, theirs))  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=unit, atol=unit)


def sizes(*nodes):
    """The number of groups of each contraction after all passes."""
    found = toposort(pipeline.run(nodes))
    return [n.attrs["spec"].size["g"] for n in found if n.op is CONTRACT and "g" in n.attrs["spec"].size]


def test_forward_and_both_gradients_have_fewer_groups():
    x, w = ours.randn(2, 64, 12, 12).requires_grad_(), ours.randn(64, 4, 3, 3).requires_grad_()
    y = ours.nn.functional.conv2d(x, w, groups=16, padding=1)
    y.square().sum().backward()
    assert sizes(use(y), use(x.grad), use(w.grad)) == [4, 4, 4]


def test_wide_groups_and_single_channels_stay():
    conv = ours.nn.functional.conv2d
    for c in (1, 16, 32):
        y = conv(ours.randn(2, 4 * c, 9, 9), ours.randn(4 * c, c, 3, 3), groups=4)
        assert not sizes(use(y)) or sizes(use(y)) == [4]
    plain = use(ours.randn(5, 3, 3) @ ours.randn(5, 3, 3))
    assert groups(plain) is plain


def test_least_of_all_ways():
    for count, channels, columns in itertools.product((0, 1, 2, 7, 12, 32), (1, 2, 5, 8, 16, 40), (2, 3, 8, 16, 48)):
        k = best(count, channels, columns)
        assert count % k == 0 and (k == 1 or channels % 16 or columns % 16)
        assert k > 1 or count < 2 or channels * columns > 16
