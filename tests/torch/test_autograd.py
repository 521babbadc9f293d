"""Gradients: who gets them, what stops them, and what they cost."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, both, theirs
from tinyflow import execute

A = array(3, 4)


def count_programs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    runs: list[Any] = []
    real = execute.realise

    def counting(roots: Any, store: Any, writes: Any = {}) -> Any:  # noqa: B006
        runs.append((list(roots), dict(writes)))
        return real(roots, store, writes)

    monkeypatch.setattr(execute, "realise", counting)
    return runs


def test_first_program(capsys: pytest.CaptureFixture[str]) -> None:
    torch = ours
    x = torch.tensor([3.0], requires_grad=True)
    y = torch.tensor([2.0])
    z = x - y
    loss = torch.square(z)
    loss.backward()
    print(x.grad)
    assert capsys.readouterr().out == "tensor([2.])\n"


def programs() -> dict[str, Any]:
    def accumulate(t: Any, a: Any) -> Any:
        x = a.detach().clone().requires_grad_()
        (x * 2).sum().backward()
        first = x.grad
        (x * x).sum().backward()
        return x.grad, first, x.grad is first

    def under_no_grad(t: Any, a: Any) -> Any:
        with t.no_grad():
            b = a * 2
            with t.enable_grad():
                c = a * 3
        return b, c, (a * b).sum(), b.requires_grad, c.requires_grad

    def same_node(t: Any, a: Any) -> Any:
        b = a * 2
        with t.no_grad():
            c = a * 2
        return (b * c).sum(), (b * b.detach()).sum()

    def decorated(t: Any, a: Any) -> Any:
        @t.no_grad()
        def f(x: Any) -> Any:
            return x * 2

        return f(a).requires_grad, (a * f(a)).sum()

    def twice(t: Any, a: Any) -> Any:
        x = a.detach().clone().requires_grad_()
        y = (x**3).sum()
        (g,) = t.autograd.grad(y, x, create_graph=True)
        (h,) = t.autograd.grad(g.sum(), x, retain_graph=True)
        (g * g).sum().backward()
        return g.detach(), h, x.grad

    def inner(t: Any, a: Any) -> Any:
        x = a.detach().clone().requires_grad_()
        h = t.tanh(x)
        y = (h * h).sum()
        (g,) = t.autograd.grad(y, h, retain_graph=True)
        h.retain_grad()
        y.backward()
        return g, h.grad, x.grad

    def vector(t: Any, a: Any) -> Any:
        x = a.detach().clone().requires_grad_()
        (x * 3).backward(t.ones(3, 4) * 2, retain_graph=True)
        t.autograd.backward([x.sum(), (x * x).sum()])
        return x.grad

    def unused(t: Any, a: Any) -> Any:
        x, y = (a.detach().clone().requires_grad_() for _ in range(2))
        return t.autograd.grad((x * 2).sum(), [x, y], allow_unused=True)

    def looked_at(t: Any, a: Any) -> Any:
        x = a.detach().clone().requires_grad_()
        h = (x * 2).exp()
        before = h.sum().item()
        y = (h * h).mean()
        y.item()
        y.backward()
        return x.grad, t.tensor(before)

    def penalty(t: Any, a: Any) -> Any:
        x = a.detach().clone().requires_grad_()
        y = (x.sin() * x).sum()
        (g,) = t.autograd.grad(y, x, create_graph=True)
        (y + ((g.norm(dim=1) - 1) ** 2).mean()).backward()
        return x.grad

    def own_gradient(t: Any, a: Any) -> Any:
        x = a.detach().clone().requires_grad_()
        (x**3).sum().backward()
        z = (x * x.grad).sum()
        x.grad = None
        z.backward()
        return x.grad

    def hook(t: Any, a: Any) -> Any:
        x = a.detach().clone().requires_grad_()
        x.register_hook(lambda g: g * 2)
        (x * 3).sum().backward()
        return x.grad

    def frozen(t: Any, a: Any) -> Any:
        w = a.detach().clone().requires_grad_()
        v = a.detach().clone().requires_grad_()
        w.requires_grad_(False)
        y = (w * v).sum()
        y.backward()
        w.requires_grad = True
        (w * v).sum().backward()
        return v.grad, w.grad

    def late_leaf(t: Any, a: Any) -> Any:
        x = a.detach().clone()
        b = x * 2
        x.requires_grad_()
        (b * x).sum().backward()
        return x.grad

    return {f.__name__: f for f in (accumulate, under_no_grad, same_node, decorated, twice, inner, vector, unused, looked_at, penalty, own_gradient, hook, frozen, late_leaf)}  # fmt: skip


@pytest.mark.parametrize("name", programs())
def test_program(name: str) -> None:
    both(programs()[name], A)


# fmt: off
ERRORS: dict[str, tuple[Any, str]] = {
    "scalar":       (lambda t, x: (x * 2).backward(), "grad can be implicitly created only for scalar outputs"),
    "no history":   (lambda t, x: t.ones(1).sum().backward(), "element 0 of tensors does not require grad and does not have a grad_fn"),
    "leaf":         (lambda t, x: x.add_(1), "a leaf Variable that requires grad is being used in an in-place operation"),
    "leaf operator": (lambda t, x: x.__iadd__(1), "a leaf Variable that requires grad is being used in an in-place operation"),
    "leaf view":    (lambda t, x: x[0].zero_(), "a view of a leaf Variable that requires grad is being used in an in-place operation"),
    "leaf item":    (lambda t, x: x.__setitem__(0, 1.0), "a view of a leaf Variable that requires grad is being used in an in-place operation"),
    "numpy":        (lambda t, x: x.numpy(), "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead"),
    "item":         (lambda t, x: x.item(), "a Tensor with 12 elements cannot be converted to Scalar"),
    "bool":         (lambda t, x: bool(x), "Boolean value of Tensor with more than one value is ambiguous"),
    "unused":       (lambda t, x: t.autograd.grad(x.sum(), t.ones(1, requires_grad=True)), "The differentiated Tensor at index 0 appears to not have been used in the graph"),
    "not wanted":   (lambda t, x: t.autograd.grad(x.sum(), t.ones(1)), "One of the differentiated Tensors does not require grad"),
    "ints":         (lambda t, x: t.tensor([1]).requires_grad_(), "only Tensors of floating point dtype can require gradients"),
    "seed shape":   (lambda t, x: (x * 2).backward(t.ones(3)), "Mismatch in shape: grad_output[0] has a shape of torch.Size([3]) and output[0] has a shape of torch.Size([3, 4])"),
    "broadcast":    (lambda t, x: x + t.ones(3), "The size of tensor a (4) must match the size of tensor b (3) at non-singleton dimension 1"),
    "mm":           (lambda t, x: x @ x, "mat1 and mat2 shapes cannot be multiplied (3x4 and 3x4)"),
    "view":         (lambda t, x: x.view(5, -1), "shape '[5, -1]' is invalid for input of size 12"),
    "strided view": (lambda t, x: x.t().view(-1), "view size is not compatible with input tensor's size and stride"),
    "dim":          (lambda t, x: x.sum(2), "Dimension out of range (expected to be in range of [-2, 1], but got 2)"),
    "index":        (lambda t, x: x[3], "index 3 is out of bounds for dimension 0 with size 3"),
    "too many":     (lambda t, x: x[0, 0, 0], "too many indices for tensor of dimension 2"),
    "cat":          (lambda t, x: t.cat([x, t.ones(3, 3)]), "Sizes of tensors must match except in dimension 0. Expected size 4 but got size 3 for tensor number 1 in the list."),
    "stack":        (lambda t, x: t.stack([x, t.ones(3)]), "stack expects each tensor to be equal size, but got [3, 4] at entry 0 and [3] at entry 1"),
    "in-place shape": (lambda t, x: t.ones(4).add_(t.ones(3, 4)), "output with shape [4] doesn't match the broadcast shape [3, 4]"),
    "in-place type": (lambda t, x: t.ones(2, dtype=t.int64).add_(0.5), "result type Float can't be cast to the desired output type Long"),
    "mean of ints": (lambda t, x: t.tensor([1, 2]).mean(), "mean(): could not infer output dtype"),
    "types":        (lambda t, x: x.double() @ x.t(), "expected m1 and m2 to have the same dtype, but got: double != float"),
    "expand":       (lambda t, x: x.expand(3, 5), "The expanded size of the tensor (5) must match the existing size (4) at non-singleton dimension 1.  Target sizes: [3, 5].  Tensor sizes: [3, 4]"),
    "deepcopy":     (lambda t, x: __import__("copy").deepcopy(x * 2), "Only Tensors created explicitly by the user"),
    "len":          (lambda t, x: len(x.sum()), "len() of a 0-d tensor"),
    "requires":     (lambda t, x: (x * 2).requires_grad_(False), "you can only change requires_grad flags of leaf variables."),
    "split":        (lambda t, x: x.split([1, 1]), "split_with_sizes expects split_sizes to sum exactly to 3"),
    "int power":    (lambda t, x: t.tensor([2]) ** -1, "Integers to negative integer powers are not allowed."),
    "topk":         (lambda t, x: x.topk(5), "selected index k out of range"),
}
# fmt: on


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    f, text = ERRORS[name]
    kinds = []
    for t in (ours, theirs):
        with pytest.raises(Exception) as caught:
            f(t, t.tensor(A, requires_grad=True))
        assert text in str(caught.value), t.__name__
        kinds.append(caught.type)
    assert issubclass(kinds[0], kinds[1]), kinds


def test_a_changed_leaf_is_found() -> None:
    w = ours.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    with ours.no_grad():
        w += 1
    w.sum().item()
    assert loss.item() == 5  # what it was when it was made
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_errors_name_the_users_line() -> None:
    with pytest.raises(RuntimeError):
        ours.ones(2, 3) @ ours.ones(2, 3)
    assert (ours.ones(2) * 3).node.where.file == __file__


def test_one_program_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = count_programs(monkeypatch)
    w = ours.zeros(4, requires_grad=True)
    b = ours.zeros((), requires_grad=True)
    x = ours.from_numpy(A)
    for _ in range(3):
        loss = ((x @ w + b - 1) ** 2).mean()
        loss.backward()
        with ours.no_grad():
            w -= 0.1 * w.grad
            b -= 0.1 * b.grad
            w.grad = b.grad = None
        loss.item()
    assert len(runs) == 1 + 3  # the leaves' first values, then one a step
    assert all(len(writes) == 2 and len(roots) == 1 for roots, writes in runs[1:])


def test_a_loop_that_never_looks_does_not_grow() -> None:
    from tinyflow.graph.node import toposort

    w = ours.zeros(4, requires_grad=True)
    sizes = []
    for _ in range(20):
        loss = ((w - 1) ** 2).sum()
        loss.backward()
        with ours.no_grad():
            w -= 0.1 * w.grad
            w.grad = None
        sizes.append(len(toposort([loss._storage.node])))
    assert len(set(sizes)) == 1
    loss.item()
    h = ours.zeros(3)
    for _ in range(5000):
        h = h * 0.9 + 1
    assert len(toposort([h.node])) < 5000
    np.testing.assert_allclose(h.numpy(), 10, rtol=1e-5)


def test_the_parameter_stays_where_it_is() -> None:
    w = ours.zeros(4, requires_grad=True)
    w.detach().sum().item()
    place = w.data_ptr()
    leaf = w.node
    for _ in range(3):
        (w - 1).square().sum().backward()
        with ours.no_grad():
            w -= 0.1 * w.grad
            w.grad = None
    assert w.data_ptr() == place and w.node is leaf


def test_a_bad_index_spoils_no_other_tensor() -> None:
    good = ours.ones(3) * 2
    bad = ours.tensor([1.0, 2.0, 3.0])[ours.tensor([5])]
    with pytest.raises(IndexError):
        bad.tolist()
    assert good.tolist() == [2, 2, 2]
    with pytest.raises(IndexError):
        print(bad)
    assert (good + 1).tolist() == [3, 3, 3]


def test_random_numbers_do_not_make_new_programs() -> None:
    from tinyflow.graph.signature import signature

    def graph() -> Any:
        return (ours.rand(3) + 1).node

    assert signature([graph()], []).key == signature([graph()], []).key


def test_every_thread_has_its_own_grad_mode() -> None:
    seen = []
    with ours.no_grad():
        thread = threading.Thread(target=lambda: seen.append(ours.is_grad_enabled()))
        thread.start()
        thread.join()
        assert not ours.is_grad_enabled()
    assert seen == [True] and ours.is_grad_enabled()
