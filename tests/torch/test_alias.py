"""In-place ops and views: small programs run on both, comparing everything that shares memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, both, theirs

A, B, T = array(3, 4), array(3, 4, seed=1), array(2, 3, 4, seed=3)


def in_place(name: str, *args: Any) -> Any:
    def program(t: Any, a: Any) -> Any:
        b = a.clone()
        c = getattr(b, name)(*args)
        return b, c, c is b

    return program


def through_view(view: Any, change: Any) -> Any:
    """A view of a copy is changed: the copy, the view and another view all see it."""

    def program(t: Any, a: Any) -> Any:
        b = a.clone()
        other = b.reshape(-1)
        v = view(b)
        change(t, v)
        return b, v, other, b._version > 0

    return program


def swap(t: Any, a: Any) -> Any:
    b = a.clone()
    b[0], b[1] = b[1].clone(), b[0].clone()
    b[:, 0], b[:, 1] = b[:, 1].clone(), b[:, 0].clone()
    return b


def setitems(t: Any, a: Any) -> Any:
    b = a.clone()
    b[0] = 1.0
    b[:, 1] = t.tensor([1.0, 2.0, 3.0])
    b[1:, ::2] = t.ones(2, 2) * 5
    b[-1, -1] = b[0, 0] * 2
    b[..., 2] += 10
    b[b > 9] = -1.0
    b[t.tensor([0, 2]), t.tensor([1, 3])] = 77.0
    b[[0, 1]] = b[[1, 0]]
    b[None, 0] = 3
    return b


def step_slices(t: Any, a: Any) -> Any:
    b = a.clone()
    b[:, 1::2] *= -1
    b.view(-1)[::5] = 0
    b.t()[1] = 8
    b[1:3].t()[2:, 0] -= 1
    return b


def views_of_views(t: Any, a: Any) -> Any:
    b = a.clone()
    v = b.permute(2, 0, 1)[1:].transpose(0, 1)[0]
    v.add_(100)
    w = b.flatten().view(4, 6).narrow(1, 2, 2)
    w.zero_()
    return b, v, w


def chunks(t: Any, a: Any) -> Any:
    b = a.clone()
    x, y = b.chunk(2, dim=1)
    x.mul_(2)
    y.copy_(x)
    for row in b.unbind(0):
        row[0] = row.sum()
    return b, x, y


def detached(t: Any, a: Any) -> Any:
    b = a.clone()
    d = b.detach()
    d[0] = 5
    e = b.data
    e.add_(1)
    return b, d, e, d.requires_grad


def old_values(t: Any, a: Any) -> Any:
    b = a.clone()
    before = b * 2
    b.add_(1)
    after = b * 2
    b.zero_()
    return before, after, b


def copies(t: Any, a: Any) -> Any:
    b = a.clone()
    c = b.t().contiguous()
    d = b.t().reshape(-1)
    e = b.repeat(1, 1)
    f = b[t.tensor([0, 1, 2])]
    b.zero_()
    return c, d, e, f


def history(t: Any, a: Any) -> Any:
    b = a * 2
    b[0] = 1
    b[1].mul_(3)
    c = b.t()
    c[1] += a[:, 0]
    return b, c


def unsqueezed(t: Any, a: Any) -> Any:
    b = a.clone()
    c = b.view(-1)
    b.unsqueeze_(0).squeeze_()
    b.t_()
    c[1] = 9
    return b, b.shape == (4, 3), c


def fill_diagonal(t: Any, a: Any) -> Any:
    b = a.clone()
    b.diagonal()[:] = 0
    t.diagonal(b, 1).fill_(7)
    return b


# fmt: off
PROGRAMS: dict[str, tuple[Any, ...]] = {
    "add_":        (in_place("add_", 2), A), "sub_ alpha": (lambda t, a, b: a.clone().sub_(b, alpha=2), A, B), "mul_": (in_place("mul_", 3.0), A),
    "div_":        (in_place("div_", 2), A), "pow_": (in_place("pow_", 2), A), "zero_": (in_place("zero_"), A), "fill_": (in_place("fill_", 2.5), A),
    "clamp_":      (in_place("clamp_", -1, 1), A), "relu_": (in_place("relu_"), A), "exp_": (in_place("exp_"), A), "sigmoid_": (in_place("sigmoid_"), A),
    "tanh_":       (in_place("tanh_"), A), "neg_": (in_place("neg_"), A), "abs_": (in_place("abs_"), A), "sqrt_": (in_place("sqrt_"), np.abs(A)),
    "masked_fill_": (lambda t, a: a.clone().masked_fill_(a > 0, 9.0), A),
    "operators":   (lambda t, a, b: run_operators(a, b), A, B),
    "copy_":       (lambda t, a, b: (a.clone().copy_(b), a.clone().copy_(b[0]), a.clone().copy_(t.arange(4))), A, B),
    "lerp_":       (lambda t, a, b: (a.clone().lerp_(b, 0.1), a.clone().addcmul_(a, b, value=2), a.clone().addcdiv_(a, b * b + 1)), A, B),
    "scatter_":    (lambda t, a: (a.clone().scatter_(1, t.tensor([[0], [3], [1]]), 5.0), t.zeros(3, 5).scatter_(1, t.tensor([[0], [3], [1]]), 1)), A),
    "index_add_":  (lambda t, a, b: a.clone().index_add_(0, t.tensor([0, 0, 2]), b), A, B),
    "index_fill_": (lambda t, a: a.clone().index_fill_(0, t.tensor([1]), 4.0), A),
    "row":         (through_view(lambda b: b[1], lambda t, v: v.mul_(2)), A),
    "column":      (through_view(lambda b: b[:, 1], lambda t, v: v.add_(t.tensor([1.0, 2, 3]))), A),
    "transpose":   (through_view(lambda b: b.t(), lambda t, v: v.sub_(1)), A),
    "steps":       (through_view(lambda b: b[::2, 1::2], lambda t, v: v.fill_(3)), A),
    "reshape":     (through_view(lambda b: b.view(2, 6), lambda t, v: v.exp_()), A),
    "element":     (through_view(lambda b: b[1, 2], lambda t, v: v.zero_()), A),
    "expand_as":   (lambda t, a: a[:1].expand(3, 4) + 1, A),
    "permute":     (through_view(lambda b: b.permute(2, 0, 1)[:, 1], lambda t, v: v.mul_(-1)), T),
    "swap": (swap, A), "setitems": (setitems, A), "step slices": (step_slices, A), "views of views": (views_of_views, T), "chunks": (chunks, A),
    "detached": (detached, A), "old values": (old_values, A), "copies": (copies, A), "history": (history, A), "unsqueezed": (unsqueezed, A),
    "diagonal": (fill_diagonal, A),
}
# fmt: on


def run_operators(a: Any, b: Any) -> Any:
    c = a.clone()
    same = c
    c += b
    c -= 1
    c *= 2
    c /= 3
    c **= 2
    return c, c is same


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    both(*PROGRAMS[name], grad=False)


@pytest.mark.parametrize(
    "name",
    [
        "add_",
        "mul_",
        "relu_",
        "row",
        "column",
        "transpose",
        "steps",
        "history",
        "setitems",
        "element",
        "copies",
        "old values",
    ],
)
def test_gradients_flow_through_changes(name: str) -> None:
    program, *arrays = PROGRAMS[name]

    def first(t: Any, *a: Any) -> Any:
        got = program(t, *a)
        return got[0] if isinstance(got, tuple) else got

    both(first, *arrays)


LAYOUTS = {
    "plain": lambda a: a, "t": lambda a: a.transpose(0, 2), "permute": lambda a: a.permute(1, 2, 0), "slice": lambda a: a[:, 1:, ::2],
    "select": lambda a: a[:, 1], "expand": lambda a: a[:, :1].expand(2, 5, 4), "unsqueeze": lambda a: a.unsqueeze(1).transpose(0, 1),
    "flat": lambda a: a.view(-1)[3:], "split": lambda a: a.view(2, 3, 2, 2).permute(0, 2, 1, 3), "diagonal": lambda a: a[0].diagonal(),
    "view of slice": lambda a: a[:, :2].reshape(2, 8), "view of t": lambda a: a[0].t().unsqueeze(0),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name: str) -> None:
    got, want = LAYOUTS[name](ours.tensor(T)), LAYOUTS[name](theirs.tensor(T))
    assert got.stride() == want.stride()
    assert got.storage_offset() == want.storage_offset()
    assert got.is_contiguous() == want.is_contiguous()
    assert got.contiguous().stride() == want.contiguous().stride()
    for shape in ((-1,), (2, -1), (4, -1), (1, -1, 2)):
        if want.numel() % (4 if 4 in shape else 2):
            continue
        for t in (got, want):
            try:
                outcome = t.view(*shape).stride()
            except RuntimeError as e:
                outcome = str(e)
            if t is got:
                first = outcome
        assert first == outcome


def test_memory_is_shared_with_numpy() -> None:
    a = np.zeros((2, 3), np.float32)
    t = ours.from_numpy(a)
    t[0, 1] = 5
    t.t()[2] += 1
    assert a.tolist() == [[0, 5, 1], [0, 0, 1]]
    a[1] = 9
    assert t.sum().item() == 33
    n = t.numpy()
    n[0] = 0
    assert t.tolist() == [[0, 0, 0], [9, 9, 9]]
    t.mul_(2)
    assert n.tolist() == [[0, 0, 0], [18, 18, 18]]
    transposed = ours.from_numpy(a.T)
    transposed[0] = -1
    assert a[:, 0].tolist() == [-1, -1]


def test_numpy_of_a_view_shares_memory() -> None:
    t = ours.arange(6).reshape(2, 3)
    v = t.t()[1:].numpy()
    t.add_(1)
    assert v.tolist() == [[2, 5], [3, 6]]


def test_detached_leaf_shares_memory_and_has_gradients_of_its_own() -> None:
    y = ours.ones(3) * 2
    x = y.detach().requires_grad_()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3, 3, 3] and y.grad is None
    with ours.no_grad():
        x -= 1
    assert y.tolist() == [1, 1, 1]


def test_an_array_is_freed_with_its_tensor() -> None:
    import gc

    from tinyflow.torch.leaves import STORE

    t = ours.ones(5) * 3
    t.sum().item()
    gc.collect()
    before = len(STORE)
    del t
    gc.collect()
    assert len(STORE) == before - 1


def test_expanded_is_not_written() -> None:
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        ours.zeros(1).expand(3).add_(1)


BIG = 40_000  # floats: memory that is written by the program itself, where no other array meets it


def test_big_memory_that_others_know_of_is_written_where_it_is() -> None:
    a, g = np.ones(BIG, np.float32), np.full(BIG, 2, np.float32)
    p = ours.nn.Parameter(ours.from_numpy(a))
    p.grad = ours.from_numpy(g)
    optimizer = ours.optim.SGD([p], 0.25)
    seen = p.detach().numpy()
    for k in range(1, 4):
        optimizer.step()
        assert (a == 1 - k / 2).all() and (seen == a).all() and np.shares_memory(seen, a)
    assert (g == 2).all()


def test_big_memory_that_several_tensors_share_in_part() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(BIG + 100, np.float32)
    want = a.copy()
    x, y = ours.from_numpy(a[:BIG]), ours.from_numpy(a[50 : BIG + 50])
    x.mul_(y)
    want[:BIG] = want[:BIG] * want[50 : BIG + 50]
    np.testing.assert_array_equal(a, want)
    with ours.no_grad():
        y.sub_(x.flip(0) + y)
    want[50 : BIG + 50] -= want[:BIG][::-1] + want[50 : BIG + 50]
    np.testing.assert_array_equal(a, want)


def test_big_memory_of_a_value_that_a_history_reads() -> None:
    x = ours.ones(BIG, requires_grad=True)
    y = x * 3
    other = ours.from_numpy(y.detach().numpy())
    other.add_(y.detach().flip(0) + y.detach())
    assert (y.detach().numpy() == 9).all()
