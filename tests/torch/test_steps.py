"""Loops that do the same at every step: nothing is recorded twice, and what was kept from an earlier step keeps its value."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, theirs
from tinyflow.graph.node import new_uid
from tinyflow.torch.leaves import GOING, STORE, remember_nothing

W1, W2 = array(4, 6, seed=1), array(6, 3, seed=2)
BATCHES = [(array(5, 4, seed=10 + k), array(5, 3, seed=20 + k)) for k in range(6)]


def model(t: Any) -> Any:
    net = t.nn.Sequential(t.nn.Linear(4, 6), t.nn.Tanh(), t.nn.Linear(6, 3))
    with t.no_grad():
        for p, w in zip(net.parameters(), (W1.T, W1[0], W2.T, W2[0]), strict=True):
            p.copy_(t.tensor(w.copy()))
    return net


Step = Callable[[Any, Any, Any, Any, dict[str, Any]], Any]


def plain(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    loss = t.nn.functional.mse_loss(net(t.from_numpy(batch[0])), t.from_numpy(batch[1]))
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()


def looks_first(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    opt.zero_grad(set_to_none=False)
    out = net(t.from_numpy(batch[0]))
    loss = (out - t.from_numpy(batch[1])).pow(2).mean()
    seen = loss.item()
    loss.backward()
    opt.step()
    return seen, out


def keeps_losses(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    loss = t.nn.functional.l1_loss(net(t.from_numpy(batch[0])), t.from_numpy(batch[1]))
    opt.zero_grad()
    loss.backward()
    opt.step()
    kept.setdefault("losses", []).append(loss)
    kept.setdefault("detached", []).append(loss.detach())
    return sum(x.item() for x in kept["losses"][:-1]), sum(kept["detached"])


def keeps_gradients(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    loss = t.nn.functional.mse_loss(net(t.from_numpy(batch[0])), t.from_numpy(batch[1]))
    opt.zero_grad()
    loss.backward()
    opt.step()
    kept.setdefault("grads", []).append(net[0].weight.grad)
    kept.setdefault("copies", []).append(net[0].weight.detach().clone())
    shared = kept.setdefault("shared", net[2].weight.data)
    return [*kept["grads"], *kept["copies"], shared]


def accumulates(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    for half in (slice(0, 2), slice(2, 5)):
        t.nn.functional.mse_loss(net(t.from_numpy(batch[0][half])), t.from_numpy(batch[1][half])).backward()
    if kept.setdefault("odd", False):
        t.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        opt.step()
        opt.zero_grad()
    kept["odd"] = not kept["odd"]
    return [p.grad for p in net.parameters() if p.grad is not None]


def running_sum(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    x = t.tensor(batch[0])
    loss = net(x).square().mean()
    kept["sum"] = kept.get("sum", 0) + loss.detach()
    kept["inputs"] = kept.get("inputs", 0) * 0.5 + x
    opt.zero_grad()
    loss.backward()
    opt.step()
    return kept["sum"] if len(kept) > 5 else 0, kept["inputs"].sum() if kept.setdefault("n", []) is None else 0


def old_graph(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    """A graph of an earlier step is gone through again, after others of its form were made on other inputs."""
    w = kept.setdefault("w", t.tensor(W1, requires_grad=True))
    y = (t.from_numpy(batch[0]) @ w).sin().sum()
    kept.setdefault("first", y)
    y.backward(retain_graph=True)
    w.grad = None
    kept["first"].backward(retain_graph=True) if y is not kept["first"] else None
    found, w.grad = w.grad, None
    return y.item(), found


def changes_input(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    x = t.tensor(batch[0])
    y = x * 2
    x.add_(1)
    view = x[1:3]
    view.mul_(3)
    a = np.array(batch[1])
    shared = t.from_numpy(a)
    z = shared + 1
    z.sum().item()
    a[0] = 7
    return y, x, view, z, shared * 2


def middle_gradient(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    h = net[0](t.from_numpy(batch[0]))
    h.retain_grad()
    loss = net[2](net[1](h)).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    kept.setdefault("h", []).append(h)
    return [x.grad for x in kept["h"]]


def hooked(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    h = net[0](t.from_numpy(batch[0]))
    h.register_hook(lambda g: g * len(kept["calls"]))
    kept.setdefault("calls", []).append(0)
    opt.zero_grad()
    net[2](h).mean().backward()
    opt.step()
    return net[0].weight.grad


def no_optimizer(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    loss = t.nn.functional.mse_loss(net(t.from_numpy(batch[0])), t.from_numpy(batch[1]))
    loss.backward()
    with t.no_grad():
        for p in net.parameters():
            p -= 0.1 * p.grad
            p.grad = None
    return loss


def evaluates(t: Any, net: Any, opt: Any, batch: Any, kept: dict[str, Any]) -> Any:
    plain(t, net, opt, batch, kept)
    with t.no_grad():
        before = net(t.from_numpy(batch[0]))
    out = net(t.from_numpy(batch[1] @ W2.T[:, :4]))
    kept.setdefault("outs", []).append(out)
    return before, *kept["outs"]


# fmt: off
STEPS: dict[str, Step] = {f.__name__: f for f in (
    plain, looks_first, keeps_losses, keeps_gradients, accumulates, running_sum, old_graph, changes_input, middle_gradient, hooked, no_optimizer,
    evaluates,
)}
# fmt: on


def numbers(x: Any) -> list[np.ndarray]:
    if isinstance(x, tuple | list):
        return [a for part in x for a in numbers(part)]
    return [] if x is None else [x.detach().numpy() if hasattr(x, "detach") else np.array(x)]


def trained(t: Any, step: Step, rounds: int = 3) -> list[np.ndarray]:
    net, kept = model(t), {}
    opt = t.optim.Adam(net.parameters(), lr=0.05)
    found: list[np.ndarray] = []
    for batch in BATCHES * rounds:
        found += [a.copy() for a in numbers(step(t, net, opt, batch, kept))]
    return found + numbers(list(net.parameters()))


@pytest.mark.parametrize("name", STEPS)
def test_same_as_theirs(name: str) -> None:
    got, want = (trained(t, STEPS[name]) for t in (ours, theirs))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["plain", "looks_first", "accumulates", "no_optimizer"])
def test_repeated_steps_make_no_node(name: str) -> None:
    net, kept = model(ours), {}
    opt = ours.optim.Adam(net.parameters(), lr=0.05)
    remember_nothing()
    made = []
    for batch in BATCHES * 3:
        before = new_uid()
        numbers(STEPS[name](ours, net, opt, batch, kept))
        made.append(new_uid() - before - 1)
    assert made[0] > 20 and made[6:] == [0] * 12


def test_random_numbers_differ_though_their_nodes_do_not() -> None:
    seen, made = [], []
    x = ours.ones(1000)
    for _ in range(6):
        before = new_uid()
        seen.append(ours.nn.functional.dropout(x, 0.5).numpy().copy())
        made.append(new_uid() - before)
    assert made[-1] == 1
    assert len({a.tobytes() for a in seen}) == len(seen)


def test_a_tensor_that_failed_keeps_its_error() -> None:
    table = ours.tensor(W1)
    bad = good = None
    for index in (100, 1, 2):
        rows = ours.tensor([index])
        found = table[rows]
        if index == 100:
            bad = found
            with pytest.raises(IndexError):
                bad.tolist()
        else:
            good = found.tolist()
            assert good == [W1[index].tolist()]
        with pytest.raises(IndexError):
            (bad + 0).tolist()


def test_one_place_makes_many_tensors() -> None:
    """Tensors made at one line, alive at once, are as many."""
    for _ in range(3):
        xs = [ours.tensor([float(k)]) for k in range(10)]
        ys = [x * 2 + 1 for x in xs]
        del xs[::2]
        more = [ours.tensor([float(k)]) for k in range(100, 105)]
        zs = [x - 1 for x in more]
        assert [y.item() for y in ys] == [2.0 * k + 1 for k in range(10)]
        assert [z.item() for z in zs] == [k - 1.0 for k in range(100, 105)]


def test_arrays_go_with_their_tensors() -> None:
    gc.collect()  # or what earlier tests left in cycles would go while arrays are counted
    net, kept = model(ours), {}
    opt = ours.optim.Adam(net.parameters(), lr=0.05)
    counts = []
    for batch in BATCHES * 3:
        STEPS["plain"](ours, net, opt, batch, kept)
        counts.append(len(STORE))
    assert len(set(counts[6:])) == 1
    arrays = [weakref.ref(p.detach().numpy().base) for p in net.parameters()]
    place = ours.ones(3)
    del net, opt
    gc.collect()
    (place + 1).tolist()
    assert all(a() is None for a in arrays)
    assert GOING.busy == 0


def test_memory_that_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyflow.torch.leaves.MEMORY", 1000)
    pending = ours.ones(3) * 2  # something is to be computed all the time
    big = ours.zeros(1000)
    big.tolist()
    array = weakref.ref(STORE[big._storage.leaf])
    (big + 1).sum()
    del big
    gc.collect()
    assert array() is None
    assert pending.tolist() == [2, 2, 2]


def test_a_bad_batch_leaves_parameters_as_they_were() -> None:
    found = []
    for t in (ours, theirs):
        t.manual_seed(0)
        table, layer = t.nn.Embedding(5, 3), t.nn.Linear(3, 2)
        with t.no_grad():
            for k, p in enumerate((table.weight, layer.weight, layer.bias)):
                p.copy_(t.tensor(array(*p.shape, seed=k)))
        params = [table.weight, layer.weight, layer.bias]
        opt = t.optim.SGD(params, lr=0.1, momentum=0.9)
        for index in ([1, 2], [0, 9], [1, 4]):
            before = [p.tolist() for p in params]
            opt.zero_grad()
            if max(index) < 5:
                layer(table(t.tensor(index))).square().mean().backward()
                opt.step()
                continue
            with pytest.raises(IndexError):
                layer(table(t.tensor(index))).square().mean().backward()
                opt.step()
            assert [p.tolist() for p in params] == before
        found.append([np.array(p.tolist()) for p in params])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
