"""Sizes that only data tells: nothing looks at them before somebody asks, and the results are PyTorch's."""

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, both
from tinyflow import programs

A = array(9, 4)
# fmt: off
CASES = {
    "where":        lambda t, x: t.where(x > 0.3),
    "nonzero":      lambda t, x: (t.nonzero(x > 1), (x > 0).nonzero(as_tuple=True), x.nonzero(), t.nonzero(x[0, 0])),
    "pairs":        lambda t, x: x[t.where(x > 0.3)],
    "masks":        lambda t, x: (x[x > 0], x[x[:, 0] > 0], x[x > 5], t.masked_select(x, x > 0)),
    "sizes":        lambda t, x: (tuple(x[x > 0].shape), len(x[x > 0.5]), x[x > 0].numel(), x[x[:, 0] > 0].stride(), (x > 0).nonzero().size(0)),
    "sums":         lambda t, x: (x[x > 0].sum(), x[x > 0].mean(), x[x > 5].sum(), x[x[:, 0] > 0].max(1), x[x > 0].std()),
    "products":     lambda t, x: (lambda m: (m @ m.t(), m.t() @ m, m + t.arange(4), m * m[:, :1], m + m))(x[x[:, 0] > 0]),
    "shapes":       lambda t, x: (lambda m: (m.reshape(-1, 2), m.view(-1), m.t(), m[:, 1:3], m[None], t.cat([m, m]), m.split(1), m[0], m[-1]))(x[x[:, 0] > 0]),
    "order":        lambda t, x: (lambda m: (m.sort(0)[0], m.topk(2), m.cumsum(0), m.argmax(1)))(x[x[:, 0] > 0]),
    "together":     lambda t, x: (x[x > 0] + x[x > 0], x[x[:, 0] > 0] + x[x[:, 0] * 2 > 0], x[x[:, 0] > 0][x[x[:, 0] > 0][:, 1] > 0]),
    "rows":         lambda t, x: [r.sum() for r in x[x[:, 0] > 0]],
    "back":         lambda t, x: (lambda i: t.zeros(9, 4).index_add(0, i, x[i] * 2))(t.where(x[:, 1] > 0)[0]),
    "written":      lambda t, x: (lambda y: [y.__setitem__(y < 0, y[y < 0] * 2), y][1])(x.detach().clone()),
    "one":          lambda t, x: x[x > 1.99 * 0 + x.max() - 1e-6] + t.arange(3),
}
# fmt: on


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    both(CASES[name], A)


def experts(t, x, chosen, weights):
    y = t.zeros_like(x)
    for k, w in enumerate(weights):
        rows, rank = t.where(chosen == k)
        y.index_add_(0, rows, t.tanh(x[rows] @ w) * (rank[:, None] + 1))
    return y


def test_experts_by_token():
    chosen = np.random.default_rng(0).integers(0, 3, (30, 2))  # nobody chooses the fourth
    both(lambda t, x, c, *w: experts(t, x, c, w), array(30, 6), chosen, *(array(6, 6, seed=k) for k in range(4)))


def test_other_counts_compile_nothing():
    w = ours.tensor(array(6, 6))
    step = lambda k: experts(ours, ours.tensor(array(30, 6, seed=k)), ours.tensor(np.random.default_rng(k).integers(0, 3, (30, 2))), [w] * 3).sum().item()  # fmt: skip
    step(0)
    known = len(programs._programs)
    for k in range(1, 5):
        step(k)
    assert len(programs._programs) == known


def test_other_sizes_are_an_error_as_in_pytorch():
    x = ours.tensor(A)
    with pytest.raises(RuntimeError, match="must match the size of tensor"):
        (x[x > 0] + ours.arange(5)).sum().item()
