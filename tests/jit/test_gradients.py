"""Gradients through compiled functions: what plain functions give, and what PyTorch gives where it is installed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from tinyflow import jit, torch
from tinyflow.torch import nn


def network(x, W, b):
    h = torch.tanh(x @ W + b)
    for _ in range(2):
        h = h * torch.sigmoid(h) + h.mean(0, keepdim=True)
    return h.square().sum()


def grads(f: Any, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    leaves = [torch.tensor(rng.normal(size=s).astype("float32"), requires_grad=True) for s in shapes]
    f(*leaves).backward()
    return [t.grad.numpy() for t in leaves]


def test_backward_through_a_piece() -> None:
    f = jit.compile(network)
    for rows in (5, 5, 6, 7):
        shapes = (rows, 4), (4, 3), (3,)
        for a, b in zip(grads(f, *shapes), grads(network, *shapes), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert f.compilations == 2


def test_gradients_of_gradients() -> None:
    f = jit.compile(lambda x: (x**3).sum())
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (g,) = torch.autograd.grad(f(x), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    assert g.tolist() == [3.0, 12.0] and h.tolist() == [6.0, 12.0]


def test_the_square_of_the_slides() -> None:
    @torch.compile()
    def f(x, y):
        z = x - y
        return torch.square(z)

    x, y = torch.tensor([3.0], requires_grad=True), torch.tensor([2.0])
    f(x, y).backward()
    assert str(x.grad) == "tensor([2.])"


def test_detached_and_frozen_parts_get_none() -> None:
    @jit.compile
    def f(x):
        with torch.no_grad():
            a = x * 2
        return (x * a).sum() + (x.detach() * 5).sum() * 0

    x = torch.tensor([1.0, 3.0], requires_grad=True)
    f(x).backward()
    assert x.grad.tolist() == [2.0, 6.0]


def test_gradients_reach_parameters_of_modules_in_a_closure() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    f = jit.compile(lambda x: nn.functional.cross_entropy(net(x), torch.tensor([0, 2])))
    x = torch.randn(2, 4)
    f(x).backward()
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    f.function(x).backward()
    for a, p in zip(found, net.parameters(), strict=True):
        assert torch.allclose(a, p.grad, atol=1e-6)


def train(step_of: Any, steps: int = 20) -> list[float]:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x, y = torch.randn(12, 6), torch.randint(0, 3, (12,))

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    run = step_of(step)
    return [run(x, y) for _ in range(steps)]


def test_a_whole_training_step_inside() -> None:
    plain, compiled = train(lambda f: f), train(jit.compile)
    np.testing.assert_allclose(compiled, plain, rtol=1e-4)
    assert compiled[-1] < compiled[0]


def test_tensors_from_a_piece_share_memory_as_plain_ones_do() -> None:
    @jit.compile
    def f(w, x):
        y = w * x
        return y, y.view(-1)

    w = torch.ones(2, 2, requires_grad=True)
    y, flat = f(w, torch.full((2, 2), 3.0))
    flat.mul_(2)
    y.sum().backward()
    assert y.detach().tolist() == [[6.0, 6.0], [6.0, 6.0]] and w.grad.tolist() == [[6.0, 6.0], [6.0, 6.0]]


@pytest.mark.skipif(
    "torch" not in sys.modules and __import__("importlib.util").util.find_spec("torch") is None,
    reason="PyTorch is not installed",
)
def test_as_pytorch() -> None:
    import torch as real

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype("float32") for s in ((5, 4), (4, 3), (3,))]
    theirs = [real.tensor(a, requires_grad=True) for a in arrays]
    h = real.tanh(theirs[0] @ theirs[1] + theirs[2])
    for _ in range(2):
        h = h * real.sigmoid(h) + h.mean(0, keepdim=True)
    h.square().sum().backward()
    ours = grads(jit.compile(network), (5, 4), (4, 3), (3,))
    for a, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, t.grad.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compile", [lambda f: f, jit.compile], ids=["plain", "compiled"])
def test_an_expression_keeps_the_value_that_a_parameter_had(compile: Any) -> None:
    W = torch.ones(3, 3).requires_grad_()

    @compile
    def f(x, n):
        z = x + 1
        for _ in range(n):
            x += (z * z).sum(0, keepdim=True) + x
            z = (x @ W).sum(-1, keepdim=True) + z
            with torch.no_grad():
                W.mul_(0.5)
        return z

    def by_hand(x, w, n):
        z = x + 1
        for _ in range(n):
            x = x + (z * z).sum() + x
            z = x.sum() * 3 * w + z
            w = w * 0.5
        return z

    w = 1.0
    for n in (1, 2, 3):
        x = np.full(3, 0.1)
        np.testing.assert_allclose(f(torch.full((3,), 0.1), n).detach().numpy(), by_hand(x, w, n), rtol=1e-5)
        w *= 0.5**n
