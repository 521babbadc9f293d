"""Training steps as programs write them, and what holds a compiled one against the plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.torch.compare import array
from tinyflow import torch as ours

X = [array(6, 4, seed=k) for k in range(5)]
Y = [array(6, 3, seed=10 + k) for k in range(5)]
LABELS = [array(6, low=0, high=3, dtype=np.int64, seed=20 + k) for k in range(5)]


class World:
    """A model, an optimiser, and the step that trains it. `t` is PyTorch or tinyflow."""

    def __init__(self, t: Any, net: Any, opt: Any = None) -> None:
        self.t, self.net, self.opt = t, net, opt
        self.kept: list[Any] = []

    def values(self) -> list[np.ndarray]:
        """Everything that a step may change."""
        net = self.net
        found = [*net.parameters(), *(p.grad for p in net.parameters()), *net.buffers()]
        if self.opt is not None:
            for state in self.opt.state_dict()["state"].values():
                found += [state[k] for k in sorted(state)]
        return [
            np.array(v.detach().tolist() if hasattr(v, "detach") else v, object if v is None else None) for v in found
        ]


def dense(t: Any) -> Any:
    return t.nn.Sequential(t.nn.Linear(4, 5), t.nn.Tanh(), t.nn.Linear(5, 3))


def mse(w: World, x: Any, y: Any) -> Any:
    return w.t.nn.functional.mse_loss(w.net(w.t.from_numpy(x)), w.t.from_numpy(y))


# Each makes a step of a world: step(x, y) -> what it returns.
Maker = Callable[[World], Callable[[Any, Any], Any]]


def usual(w: World) -> Any:
    def step(x, y):
        w.opt.zero_grad()
        loss = mse(w, x, y)
        loss.backward()
        w.opt.step()
        return loss

    return step


def clears_last(w: World) -> Any:
    def step(x, y):
        loss = mse(w, x, y)
        loss.backward()
        w.opt.step()
        w.opt.zero_grad()
        return loss.detach()

    return step


def zeros(w: World) -> Any:
    def step(x, y):
        w.opt.zero_grad(set_to_none=False)
        loss = mse(w, x, y)
        loss.backward()
        w.opt.step()
        return loss

    return step


def never_clears(w: World) -> Any:
    def step(x, y):
        loss = mse(w, x, y)
        loss.backward()
        w.opt.step()
        return loss

    return step


def clipped(w: World) -> Any:
    def step(x, y):
        w.net.zero_grad()
        loss = mse(w, x, y)
        loss.backward()
        norm = w.t.nn.utils.clip_grad_norm_(w.net.parameters(), 0.05)
        w.opt.step()
        return loss, norm

    return step


def two_losses(w: World) -> Any:
    def step(x, y):
        w.opt.zero_grad()
        out = w.net(w.t.tensor(x))
        (out - w.t.as_tensor(y)).abs().mean().backward(retain_graph=True)
        (out * out).mean().backward()
        w.opt.step()
        return [p.grad for p in w.net.parameters()]

    return step


def by_hand(w: World) -> Any:
    def step(x, y):
        loss = mse(w, x, y)
        loss.backward()
        with w.t.no_grad():
            for p in w.net.parameters():
                p -= 0.1 * p.grad
                p.grad = None
        return loss

    return step


def by_data(w: World) -> Any:
    def step(x, y):
        loss = mse(w, x, y)
        w.net.zero_grad()
        loss.backward()
        for name, p in w.net.named_parameters():
            if "bias" not in name:
                p.data.add_(p.grad, alpha=-0.1)
            else:
                p.data -= 0.2 * p.grad.data
        return loss

    return step


def by_gradients(w: World) -> Any:
    def step(x, y):
        loss = mse(w, x, y)
        grads = w.t.autograd.grad(loss, list(w.net.parameters()))
        with w.t.no_grad():
            for p, g in zip(w.net.parameters(), grads):
                p.sub_(g, alpha=0.3)
        return loss, grads[0]

    return step


def classes(w: World) -> Any:
    def step(x, y):
        w.opt.zero_grad()
        loss = w.t.nn.functional.cross_entropy(w.net(w.t.tensor(x, dtype=w.t.float32)), w.t.from_numpy(y))
        loss.backward()
        w.opt.step()
        return loss.item()

    return step


STEPS: dict[str, Maker] = {
    f.__name__: f
    for f in (usual, clears_last, zeros, never_clears, clipped, two_losses, by_hand, by_data, by_gradients)
}
# fmt: off
OPTIMISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}), "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "dampened": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}), "maximize": ("SGD", {"lr": 0.01, "maximize": True}),
    "adam": ("Adam", {"lr": 0.01}), "adam all": ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True, "betas": (0.5, 0.9)}),
    "adamw": ("AdamW", {"lr": 0.01}), "adamw all": ("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.3, "eps": 1e-6}),
    "rmsprop": ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True}), "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    "adadelta": ("Adadelta", {"lr": 1.0}),
}
# fmt: on


def world(t: Any, make: Callable[[Any], Any] = dense, optimiser: str = "adam") -> World:
    t.manual_seed(0)
    net = make(t)
    with t.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(t.tensor(array(*p.shape, low=-0.5, high=0.5, seed=k)))
    name, settings = OPTIMISERS[optimiser]
    return World(t, net, getattr(t.optim, name)(net.parameters(), **settings))


def numbers(found: Any) -> list[Any]:
    if isinstance(found, list | tuple):
        return [a for part in found for a in numbers(part)]
    return [np.array(found.detach().tolist())] if hasattr(found, "detach") else [found]


def runs(w: World, step: Any, count: int = 7, change: Callable[[World, int], None] | None = None, batches: Any = (X, Y)) -> list[Any]:  # fmt: skip
    found = []
    for k in range(count):
        if change is not None:
            change(w, k)
        found += numbers(step(batches[0][k % 5], batches[1][k % 5]))
        if k % 3 == 2:
            found += w.values()
    return found + w.values()


def same(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def near(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        if getattr(a, "dtype", float) == np.dtype(object):
            assert (a == b).all()
        else:
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def check(make: Callable[[], World], maker: Maker, pieces: int = 1, **how: Any) -> Any:
    """The compiled step does what the plain one does, in so many pieces in all."""
    plain, compiled = make(), make()
    f = ours.compile(maker(compiled))
    same(runs(compiled, f, **how), runs(plain, maker(plain), **how))
    assert not f.cuts, f.explain()
    assert f.compilations <= pieces, f.explain()
    return f
