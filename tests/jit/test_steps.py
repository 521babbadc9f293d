"""Whole training steps under compile: one piece, and bit by bit what the plain function does to parameters, gradients,
optimiser, buffers and random numbers."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from tests.jit.training import (
    LABELS,
    OPTIMISERS,
    STEPS,
    World,
    X,
    Y,
    check,
    classes,
    clipped,
    mse,
    near,
    never_clears,
    numbers,
    runs,
    same,
    usual,
    world,
)
from tests.torch.compare import array, theirs
from tinyflow import torch as ours
from tinyflow.execute import Ready


@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str) -> None:
    f = check(lambda: world(ours), STEPS[name], pieces=2)
    assert "changes in place: " in f.explain()
    near(runs(ours_world := world(ours), STEPS[name](ours_world)), runs(there := world(theirs), STEPS[name](there)))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name: str) -> None:
    check(lambda: world(ours, optimiser=name), usual, pieces=2 if name == "dampened" else 1)


def test_a_number_is_taken_outside() -> None:
    """return loss.item(): the piece, then Python."""
    a, b = world(ours), world(ours)
    f = ours.compile(classes(b))
    same(runs(b, f, batches=(X, LABELS)), runs(a, classes(a), batches=(X, LABELS)))
    assert f.compilations == 1 and len(f.cuts) == 1


def test_rates_change_without_a_new_piece() -> None:
    def schedule(w: World, k: int) -> None:
        if k == 0:
            w.kept.append(w.t.optim.lr_scheduler.CosineAnnealingLR(w.opt, 10))
        w.kept[0].step()
        if k == 4:
            w.opt.param_groups[0]["lr"] = 1

    for name in ("momentum", "adam"):
        check(lambda name=name: world(ours, optimiser=name), usual, change=schedule)


def test_other_settings_are_guarded() -> None:
    def edit(w: World, k: int) -> None:
        if k == 3:
            w.opt.param_groups[0]["weight_decay"] = 0.5
        if k == 5:
            w.opt.add_param_group({"params": [w.t.zeros(2, requires_grad=True)], "lr": 0.5})

    check(lambda: world(ours, optimiser="adamw"), usual, pieces=3, change=edit)


def test_state_is_saved_and_loaded() -> None:
    def reload(w: World, k: int) -> None:
        if k == 2:
            w.kept.append((w.opt.state_dict(), {n: v.clone() for n, v in w.net.state_dict().items()}))
        if k == 4:
            w.opt.load_state_dict(w.kept[0][0])
            w.net.load_state_dict(w.kept[0][1])
        if k == 5:
            other = w.t.optim.Adam(w.net.parameters(), lr=0.01)
            other.load_state_dict(w.opt.state_dict())
            w.opt.state = other.state

    check(lambda: world(ours), usual, change=reload)


def test_what_was_kept_keeps_its_value() -> None:
    def keep(w: World, k: int) -> None:
        first = w.net[0].weight
        if k == 1:
            w.kept += [first.grad, first.detach().clone(), first.detach(), first * 2]
        if k == 3:
            w.kept.append((w.net[0].bias * 3).sum())
        for v in w.kept[3:]:
            numbers(v)

    plain, compiled = world(ours), world(ours)
    same(runs(compiled, ours.compile(usual(compiled)), change=keep), runs(plain, usual(plain), change=keep))
    same(numbers(compiled.kept), numbers(plain.kept))
    assert numbers(compiled.kept[2])[0].tolist() == compiled.net[0].weight.tolist()


def test_old_graphs() -> None:
    """A loss that a step returns has no history left; one that was made outside, of parameters since changed, neither."""
    for compiled in (False, True):
        w = world(ours)
        step = ours.compile(usual(w)) if compiled else usual(w)
        outside = mse(w, X[0], Y[0])
        loss = step(X[0], Y[0])
        for old in (outside, loss):
            assert old.requires_grad
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                old.backward()


def test_gradients_are_added_up_outside() -> None:
    """backward in the piece, the optimiser outside, every second step."""

    def maker(w: World) -> Any:
        def step(x, y):
            loss = mse(w, x, y) / 2
            loss.backward()
            return loss

        return step

    def update(w: World, k: int) -> None:
        if k and k % 2 == 0:
            w.opt.step()
            w.opt.zero_grad()

    check(lambda: world(ours), maker, pieces=2, change=update)
    w = world(ours)
    loss = ours.compile(maker(w))(X[0], Y[0])
    loss.backward()  # its history is there: nothing has changed


def test_batch_norm_dropout_and_modes() -> None:
    def make(t: Any) -> Any:
        return t.nn.Sequential(t.nn.Linear(4, 5), t.nn.BatchNorm1d(5), t.nn.Dropout(0.3), t.nn.Linear(5, 3))

    def switch(w: World, k: int) -> None:
        w.net.train(k not in (3, 4))

    def seeded() -> World:
        w = world(ours, make)
        ours.manual_seed(5)
        return w

    plain = seeded()
    want = [*runs(plain, usual(plain), change=switch), ours.rand(2).tolist()]
    compiled = seeded()
    f = ours.compile(usual(compiled))
    same([*runs(compiled, f, change=switch), ours.rand(2).tolist()], want)
    assert not f.cuts and f.compilations == 2
    here, there = (
        world(t, lambda t: t.nn.Sequential(t.nn.Linear(4, 5), t.nn.BatchNorm1d(5)), "momentum") for t in (ours, theirs)
    )
    batches = X, [array(6, 5, seed=k) for k in range(5)]
    near(
        runs(here, ours.compile(usual(here)), change=switch, batches=batches),
        runs(there, usual(there), change=switch, batches=batches),
    )


class Tied:
    """Two layers of one weight."""

    def __call__(self, t: Any) -> Any:
        class Net(t.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b, self.c = t.nn.Linear(4, 4), t.nn.Linear(4, 4), t.nn.Linear(4, 3)
                self.b.weight = self.a.weight

            def forward(self, x):
                return self.c(t.tanh(self.b(t.relu(self.a(x)))))

        return Net()


def test_shared_parameters() -> None:
    def untie(w: World, k: int) -> None:
        if k == 4:
            w.net.b.weight = w.t.nn.Parameter(w.net.a.weight.detach().clone())

    check(lambda: world(ours, Tied()), usual, change=untie, pieces=3)
    check(lambda: world(ours, Tied()), clipped)
    here, there = world(ours, Tied()), world(theirs, Tied())
    near(runs(here, ours.compile(usual(here)), change=untie), runs(there, usual(there), change=untie))


def test_frozen_parameters() -> None:
    def freeze(w: World, k: int) -> None:
        w.net[0].weight.requires_grad_(k % 4 < 2)
        if k % 4 == 2:
            w.net[0].weight.grad = None

    check(lambda: world(ours), usual, change=freeze, pieces=3)


def test_parameters_that_arrays_share() -> None:
    """numpy() of a parameter shows what compiled steps write."""
    plain, compiled = world(ours), world(ours)
    f, g = ours.compile(usual(compiled)), usual(plain)
    views = [w.net[0].weight.detach().numpy() for w in (compiled, plain)]
    for k in range(3):
        f(X[k], Y[k])
        g(X[k], Y[k])
        np.testing.assert_array_equal(*views)
        np.testing.assert_array_equal(views[0], compiled.net[0].weight.detach().numpy())


def test_batches_of_many_sizes() -> None:
    sizes = [6, 6, 5, 4, 3, 6, 2, 1, 6]
    worlds = world(ours), world(ours)
    f, g = ours.compile(usual(worlds[0])), usual(worlds[1])
    for k, n in enumerate(sizes):
        x, y = X[k % 5][:n].copy(), Y[k % 5][:n].copy()
        near(numbers(f(x, y)), numbers(g(x, y)))
    near(worlds[0].values(), worlds[1].values())
    assert not f.cuts and f.compilations <= 3


def test_arrays_of_other_kinds() -> None:
    f = ours.compile(lambda x: (ours.from_numpy(x) * 2).sum())
    for x in (
        X[0],
        X[0].astype(np.float64),
        X[0].T,
        X[0][::2],
        np.zeros((0, 3), np.float32),
        np.full((), 3, np.float32),
    ):
        assert f(x).item() == pytest.approx(x.sum() * 2, rel=1e-5)
    g = ours.compile(lambda x: ours.from_numpy(x).add_(1))
    a = np.zeros(3, np.float32)
    assert g(a).tolist() == [1, 1, 1] and a.tolist() == [1, 1, 1]
    shown = ours.compile(lambda x: (ours.from_numpy(x), ours.tensor(x), ours.from_numpy(x) + 1))
    shared, copy, more = shown(a)
    a[0] = 7
    assert shared.tolist() == [7, 1, 1] and copy.tolist() == [1, 1, 1] and more.tolist() == [2, 2, 2]


def test_a_bad_batch_changes_nothing() -> None:
    def make(t: Any) -> Any:
        return t.nn.Sequential(t.nn.Embedding(5, 4), t.nn.Linear(4, 3))

    def maker(w: World) -> Any:
        def step(x, y):
            w.opt.zero_grad()
            loss = w.t.nn.functional.mse_loss(w.net(w.t.from_numpy(x)), w.t.from_numpy(y))
            loss.backward()
            w.opt.step()
            return loss

        return step

    good, bad = np.array([0, 1, 2, 4, 4, 1]), np.array([0, 1, 9, 4, 4, 1])
    found = []
    for t, wrap in ((ours, ours.compile), (ours, lambda f: f), (theirs, lambda f: f)):
        w = world(t, make, "momentum")
        step = wrap(maker(w))
        for index in (good, bad, good, bad, good):
            if index is bad:
                before = [p.tolist() for p in w.net.parameters()]
                with pytest.raises(IndexError):
                    step(index, Y[0]).item()
                assert [p.tolist() for p in w.net.parameters()] == before
            else:
                step(index, Y[0])
        found.append([np.array(p.tolist()) for p in w.net.parameters()])
    same(found[0], found[1])
    near(found[0], found[2])


@pytest.mark.parametrize("clears", [True, False])
def test_the_last_gradients_are_gone_before_the_next_are_made(monkeypatch: Any, clears: bool) -> None:
    """Where nobody looks at them again; what adds to them has them, and what was kept stays."""

    maker = usual if clears else never_clears
    gc.collect()  # what tests before left in cycles may wait to be computed: a step beside it is not alone
    w, plain = world(ours), world(ours)
    f, g = ours.compile(maker(w)), maker(plain)
    held: list[bool] = []
    run = Ready.__call__
    monkeypatch.setattr(Ready, "__call__", lambda *a: held.append(w.net[0].weight._grad is not None) or run(*a))
    for k in range(4):
        f(X[k], Y[k])
    assert held[-1] != clears
    kept = w.net[0].weight.grad
    before = kept.tolist()
    f(X[4], Y[4])
    assert (kept.tolist() == before) == clears  # what is added up is one tensor
    for k in range(5):
        g(X[k], Y[k])
    same(w.values(), plain.values())


def test_an_error_in_the_middle_leaves_what_plain_code_leaves() -> None:
    def maker(w: World) -> Any:
        def step(x, y):
            loss = mse(w, x, y)
            loss.backward()
            if w.kept:
                raise ValueError("stop")
            w.opt.step()
            return loss

        return step

    plain, compiled = world(ours), world(ours)
    f, g = ours.compile(maker(compiled)), maker(plain)
    for step, w in ((f, compiled), (g, plain)):
        step(X[0], Y[0])
        w.kept.append(1)
        with pytest.raises(ValueError, match="stop"):
            step(X[1], Y[1])
    same(compiled.values(), plain.values())


def test_an_alias_of_a_parameter_comes_first() -> None:
    def maker(w: World) -> Any:
        alias, whole = w.net[0].weight.detach(), w.net[0].weight.data

        def step(x, y):
            size = (alias * whole).sum()
            w.opt.zero_grad()
            loss = mse(w, x, y) + size * 0
            loss.backward()
            w.opt.step()
            return size, alias.mean()

        return step

    plain, compiled = world(ours), world(ours)
    same(runs(compiled, ours.compile(maker(compiled))), runs(plain, maker(plain)))
    assert plain.net[0].weight.grad is not None


def test_two_optimisers() -> None:
    def maker(w: World) -> Any:
        other = w.t.optim.SGD(w.net[2].parameters(), lr=0.1)
        first = w.t.optim.AdamW(w.net[0].parameters(), lr=0.01)

        def step(x, y):
            w.net.zero_grad()
            loss = mse(w, x, y)
            loss.backward()
            first.step()
            other.step()
            return loss

        return step

    check(lambda: world(ours), maker)


def test_hooks_and_closures_stay_with_python() -> None:
    def maker(w: World) -> Any:
        def step(x, y):
            def closure():
                w.opt.zero_grad()
                loss = mse(w, x, y)
                loss.backward()
                return loss

            return w.opt.step(closure)

        return step

    def hooked(w: World) -> Any:
        w.net[0].weight.register_hook(lambda g: g * 2)
        return usual(w)

    for make in (maker, hooked):
        plain, compiled = world(ours), world(ours)
        same(runs(compiled, ours.compile(make(compiled))), runs(plain, make(plain)))


def test_a_compiled_model_and_the_rest_outside() -> None:
    plain, compiled = world(ours), world(ours)
    compiled.net = ours.compile(compiled.net)
    same(runs(compiled, usual(compiled)), runs(plain, usual(plain)))
    assert compiled.net.compilations == 1


def test_explained() -> None:
    w = world(ours)
    f = ours.compile(usual(w), fullgraph=True)
    f(X[0], Y[0])
    text = f.explain()
    for part in ("1 compiled", "changes in place: ", "['exp_avg_sq']", "sets the .grad of ", "counts a step of 4 parameters", "has its memory for itself", "and computes all at once"):  # fmt: skip
        assert part in text
    assert text.count("piece_1(") == 1 and "cut at" not in text
