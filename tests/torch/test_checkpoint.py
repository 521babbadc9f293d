"""torch.utils.checkpoint: the same gradients from less memory."""

import numpy as np
import pytest

import tinyflow.torch as torch
from tinyflow import execute, programs
from tinyflow.runtime import program
from tinyflow.torch.utils.checkpoint import checkpoint, checkpoint_sequential

WIDTH = 512


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.drop = torch.nn.Dropout(0.3)

    def forward(self, x):
        return x + self.second(self.drop(torch.tanh(self.first(x)).sin()).cos())


def trained(again: bool) -> tuple[float, list[np.ndarray], int]:
    """The loss and the gradients of a deep network, and the bytes of the largest arena."""
    torch.manual_seed(0)
    blocks = torch.nn.ModuleList([Block() for _ in range(6)])
    torch.manual_seed(1)
    x = torch.randn(WIDTH, WIDTH)
    x.requires_grad_(True)
    programs._programs.clear()
    execute._templates.clear()
    program.ARENAS.clear()
    h = x
    for block in blocks:
        h = checkpoint(block, h, use_reentrant=False) if again else block(h)
    loss = (h * h).mean()
    loss.backward()
    value, *found = [float(loss), x.grad.numpy(), *(p.grad.numpy() for p in blocks.parameters())]
    return value, found, max(a.bytes for a in program.ARENAS)


def test_gradients_are_the_same_and_the_arena_is_smaller() -> None:
    plain, again = trained(False), trained(True)
    np.testing.assert_allclose(again[0], plain[0], rtol=1e-6)
    for a, b in zip(plain[1], again[1]):  # no rule sees through what is computed again: sums may be in another order
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6 * np.abs(a).max())
    assert again[2] < 0.7 * plain[2]


def test_arguments_of_all_kinds_and_many_outputs() -> None:
    w = torch.ones(3, requires_grad=True)

    def f(x, pair, scale=1.0, extra=None):
        return x * w * scale, (pair[0] + extra) * w, 7

    def run(wrap):
        w.grad = None
        x, p, q = (torch.arange(3.0).requires_grad_(True) for _ in range(3))
        a, b, seven = wrap(f, x, (p, 2), scale=3.0, extra=q)
        assert seven == 7
        (a.sum() + (b * b).sum()).backward()
        return [t.grad.tolist() for t in (w, x, p, q)]

    assert run(checkpoint) == run(lambda f, *args, **kwargs: f(*args, **kwargs))


def test_without_gradients_it_is_a_call() -> None:
    x = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        assert not checkpoint(torch.exp, x).requires_grad
    assert checkpoint(lambda t: t, x) is x
    assert not checkpoint(torch.exp, torch.ones(3)).requires_grad


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_in_segments(segments: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(5)])
    x = torch.ones(2, 8)
    model(x).sum().backward()
    want = [p.grad.tolist() for p in model.parameters()]
    model.zero_grad()
    checkpoint_sequential(model, segments, x, use_reentrant=False).sum().backward()
    for p, g in zip(model.parameters(), want):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-6)


def test_second_derivatives() -> None:
    x = torch.tensor([0.5, 1.5], requires_grad=True)
    y = checkpoint(lambda t: t.sin() * t, x).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    t = x.detach().numpy()
    np.testing.assert_allclose(h.numpy(), 2 * np.cos(t) - t * np.sin(t), rtol=1e-5)
