"""RNN, LSTM and GRU beside PyTorch's, gradients included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours

theirs: Any = pytest.importorskip("torch")

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two layers": {"num_layers": 2},
    "both directions": {"num_layers": 2, "bidirectional": True},
    "batch first": {"batch_first": True, "bidirectional": True},
    "no bias": {"bias": False},
    "with a state": {"state": True},
    "alone": {"alone": True},
    "alone with a state": {"alone": True, "state": True, "num_layers": 2},
    "one step": {"steps": 1, "batch": 1, "state": True},
    "many rows": {"steps": 7, "batch": 33, "width": 17, "hidden": 40},
}


def both(kind: str, width: int, hidden: int, **options: Any) -> tuple[Any, Any]:
    theirs.manual_seed(0)
    a, b = getattr(theirs.nn, kind)(width, hidden, **options), getattr(ours.nn, kind)(width, hidden, **options)
    assert list(a.state_dict()) == list(b.state_dict())
    b.load_state_dict({k: ours.tensor(v.numpy()) for k, v in a.state_dict().items()})
    return a, b


def near(a: Any, b: Any) -> None:
    a, b = a.detach().numpy(), b.detach().numpy()
    assert a.shape == b.shape
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(a).max(initial=0)))


def check(kind: str, steps: int = 5, batch: int = 3, width: int = 4, hidden: int = 6, alone: bool = False,
          state: bool = False, **options: Any) -> None:  # fmt: skip
    a, b = both(kind, width, hidden, **options)
    rng = np.random.default_rng(0)
    ends = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    first = (batch, steps) if options.get("batch_first") else (steps, batch)
    shapes = [(steps, width) if alone else (*first, width)]
    for n in (options.get("proj_size") or hidden, hidden)[: (kind == "LSTM") + 1] if state else ():
        shapes.append((ends, n) if alone else (ends, batch, n))
    arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
    found = []
    for module, torch in ((a, theirs), (b, ours)):
        x, *given = (torch.tensor(v, requires_grad=True) for v in arrays)
        hx = (tuple(given) if kind == "LSTM" else given[0],) if state else ()
        y, last = module(x, *hx)
        last = last if isinstance(last, tuple) else (last,)
        ((y * y).sum() + sum((s**3).sum() for s in last)).backward()
        found.append([y, *last, x.grad, *(g.grad for g in given), *(p.grad for p in module.parameters())])
    for u, v in zip(*found, strict=True):
        near(u, v)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_values_and_gradients(kind: str, options: str) -> None:
    check(kind, **OPTIONS[options])


def test_relu_and_projections() -> None:
    check("RNN", nonlinearity="relu", num_layers=2)
    check("LSTM", proj_size=3, num_layers=2, bidirectional=True, state=True)


def test_dropout_between_layers() -> None:
    ours.manual_seed(0)
    layer = ours.nn.LSTM(4, 30, num_layers=2, dropout=0.5)
    x = ours.randn(5, 20, 4)
    a, b = layer(x)[0], layer(x)[0]
    assert not ours.allclose(a, b)
    layer.eval()
    assert ours.allclose(layer(x)[0], layer(x)[0])


def test_second_gradients() -> None:
    a, b = both("GRU", 3, 4)
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    found = []
    for module, torch in ((a, theirs), (b, ours)):
        given = torch.tensor(x, requires_grad=True)
        (slope,) = torch.autograd.grad((module(given)[0] ** 2).sum(), given, create_graph=True)
        (slope * slope).sum().backward()
        found.append([given.grad, *(p.grad for p in module.parameters())])
    for u, v in zip(*found, strict=True):
        near(u, v)


def test_a_training_loop_stays_beside_pytorch() -> None:
    losses: list[list[float]] = []
    a, b = both("LSTM", 5, 8, num_layers=2)
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(6, 4, 5)).astype(np.float32), rng.normal(size=(6, 4, 8)).astype(np.float32)
    for module, torch in ((a, theirs), (b, ours)):
        optimizer, mine = torch.optim.Adam(module.parameters(), lr=0.05), []
        for _ in range(20):
            optimizer.zero_grad()
            loss = ((module(torch.tensor(x))[0] - torch.tensor(t)) ** 2).mean()
            loss.backward()
            optimizer.step()
            mine.append(loss.item())
        losses.append(mine)
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-4)


def test_wrong_input_says_what_is_wrong() -> None:
    layer = ours.nn.LSTM(4, 6)
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size. Expected 4, got 5"):
        layer(ours.zeros(3, 2, 5))
    with pytest.raises(ValueError, match="Expected input to be 2D or 3D, got 4D"):
        layer(ours.zeros(1, 3, 2, 4))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size \(1, 2, 6\), got \[1, 2, 5\]"):
        layer(ours.zeros(3, 2, 4), (ours.zeros(1, 2, 6), ours.zeros(1, 2, 5)))
    with pytest.raises(ValueError, match="proj_size"):
        ours.nn.LSTM(4, 6, proj_size=6)
    with pytest.raises(ValueError, match="Unknown nonlinearity"):
        ours.nn.RNN(4, 6, nonlinearity="sigmoid")
