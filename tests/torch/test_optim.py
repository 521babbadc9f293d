"""Optimisers and schedules: the same parameters as PyTorch's after several steps; one program a step, never a new one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, theirs
from tests.torch.test_autograd import count_programs

W, B, X, Y = array(4, 3), array(3, seed=1), array(5, 4, seed=2), array(5, 3, seed=3)

# fmt: off
OPTIMISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}), "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}), "dampened": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}), "decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.5}),
    "maximize": ("SGD", {"lr": 0.01, "maximize": True}), "default sgd": ("SGD", {}),
    "adam": ("Adam", {"lr": 0.01}), "adam decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1}), "amsgrad": ("Adam", {"lr": 0.05, "amsgrad": True}),
    "betas": ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-6}), "default adam": ("Adam", {}), "adam maximize": ("Adam", {"lr": 0.01, "maximize": True}),
    "adamw": ("AdamW", {"lr": 0.01}), "adamw decay": ("AdamW", {"lr": 0.01, "weight_decay": 0.3}), "adamw amsgrad": ("AdamW", {"lr": 0.01, "amsgrad": True}),
    "rmsprop": ("RMSprop", {"lr": 0.01}), "rmsprop all": ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}), "adadelta": ("Adadelta", {"lr": 1.0, "weight_decay": 0.01}),
}
SCHEDULES: dict[str, Any] = {
    "StepLR": {"step_size": 2, "gamma": 0.5}, "MultiStepLR": {"milestones": [1, 3], "gamma": 0.1}, "ExponentialLR": {"gamma": 0.9},
    "LambdaLR": {"lr_lambda": lambda e: 1 / (e + 1)}, "CosineAnnealingLR": {"T_max": 6, "eta_min": 0.001}, "LinearLR": {"start_factor": 0.25, "total_iters": 3},
}
# fmt: on


def train(t: Any, name: str, settings: dict[str, Any], steps: int = 6, schedule: Any = None) -> list[Any]:
    w, b = t.tensor(W, requires_grad=True), t.tensor(B, requires_grad=True)
    x, y = t.tensor(X), t.tensor(Y)
    opt = getattr(t.optim, name)([w, b], **settings)
    plan = getattr(t.optim.lr_scheduler, schedule[0])(opt, **schedule[1]) if schedule else None
    losses = []
    for _ in range(steps):
        opt.zero_grad()
        loss = ((x @ w + b - y) ** 2).mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        if plan:
            plan.step()
            losses.append(plan.get_last_lr()[0])
    return [w.detach().numpy(), b.detach().numpy(), np.array(losses)]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_same_parameters(name: str) -> None:
    for got, want in zip(train(ours, *OPTIMISERS[name]), train(theirs, *OPTIMISERS[name]), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_same_schedule(name: str) -> None:
    runs = [train(t, "SGD", {"lr": 0.1, "momentum": 0.9}, 8, (name, SCHEDULES[name])) for t in (ours, theirs)]
    for got, want in zip(*runs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_groups_and_a_changed_rate() -> None:
    results = []
    for t in (ours, theirs):
        w, b = t.tensor(W, requires_grad=True), t.tensor(B, requires_grad=True)
        opt = t.optim.SGD([{"params": [w]}, {"params": b, "lr": 0.5}], lr=0.1, momentum=0.5)
        for _ in range(4):
            opt.zero_grad(set_to_none=False)
            ((t.tensor(X) @ w + b) ** 2).mean().backward()
            opt.step()
            opt.param_groups[0]["lr"] *= 0.5
        results.append((w.detach().numpy(), b.detach().numpy()))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_plateau() -> None:
    rates = []
    for t in (ours, theirs):
        opt = t.optim.SGD([t.ones(1, requires_grad=True)], lr=1.0)
        plan = t.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=1, factor=0.5)
        rates.append([])
        for loss in (5, 4, 4, 4, 4, 3, 3, 3, 3, 3):
            plan.step(loss)
            rates[-1].append(opt.param_groups[0]["lr"])
    assert rates[0] == rates[1]


def test_clipping() -> None:
    results = []
    for t in (ours, theirs):
        w, b = t.tensor(W, requires_grad=True), t.tensor(B, requires_grad=True)
        ((t.tensor(X) @ w + b) ** 2).sum().backward()
        norm = t.nn.utils.clip_grad_norm_([w, b], 1.0)
        t.nn.utils.clip_grad_value_([b], 0.1)
        results.append((float(norm), w.grad.numpy(), b.grad.numpy()))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def closure_and_state(t: Any) -> tuple[Any, ...]:
    w = t.tensor(W, requires_grad=True)
    opt = t.optim.Adam([w], lr=0.1)

    def closure() -> Any:
        opt.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    first = opt.step(closure).item()
    saved = opt.state_dict()
    other = t.tensor(w.detach().numpy().copy(), requires_grad=True)
    again = t.optim.Adam([other], lr=0.5)
    again.load_state_dict(saved)
    (other * other).sum().backward()
    again.step()
    return first, other.detach().numpy(), again.param_groups[0]["lr"], sorted(saved["state"][0])


def test_closure_and_state() -> None:
    got, want = closure_and_state(ours), closure_and_state(theirs)
    assert got[2:] == want[2:]
    for a, b in zip(got[:2], want[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_one_program_a_step_and_never_a_new_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = count_programs(monkeypatch)
    from tinyflow.graph.signature import signature

    layers = ours.nn.Sequential(ours.nn.Linear(4, 6), ours.nn.ReLU(), ours.nn.Dropout(0.5), ours.nn.Linear(6, 3))
    opt = getattr(ours.optim, name)(layers.parameters(), lr=0.1)
    x, y = ours.tensor(X), ours.tensor(Y)
    for step in range(6):
        opt.zero_grad()
        loss = ours.nn.functional.mse_loss(layers(x), y)
        loss.backward()
        opt.step()
        opt.param_groups[0]["lr"] = 0.1 / (step + 2)
        loss.item()
    assert len(runs) == 1 + 6
    keys = {signature([*roots, *writes.values()], [*writes]).key for roots, writes in runs[3:]}
    assert len(keys) == 1


BAD: dict[str, tuple[Any, str]] = {
    "nothing": (lambda t: t.optim.SGD([], lr=1), "optimizer got an empty parameter list"),
    "rate": (lambda t: t.optim.SGD([t.ones(1, requires_grad=True)], lr=-1), "Invalid learning rate: -1"),
    "no leaf": (lambda t: t.optim.SGD([t.ones(1, requires_grad=True) * 2], lr=1), "can't optimize a non-leaf Tensor"),
    "beta": (lambda t: t.optim.Adam([t.ones(1, requires_grad=True)], betas=(1.0, 0)), "Invalid beta parameter at index 0: 1.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_error(name: str) -> None:
    for t in (ours, theirs):
        with pytest.raises(ValueError, match=BAD[name][1]):
            BAD[name][0](t)
