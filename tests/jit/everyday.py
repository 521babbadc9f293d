"""Everyday functions, as programs that say what they saw. Each takes `compile`, which may be the identity."""

from __future__ import annotations

import contextlib
import functools
import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tinyflow.torch as torch
from tinyflow.torch import nn

Compile = Callable[[Any], Any]
PROGRAMS: dict[str, Callable[[Compile], Any]] = {}
SCALE = 2.0
HISTORY: list[Any] = []
COUNTER = 0
TABLE = {"gain": 3.0, "layers": [1.0, 2.0]}
Pair = namedtuple("Pair", "a b")


def program(f: Callable[[Compile], Any]) -> Callable[[Compile], Any]:
    PROGRAMS[f.__name__] = f
    return f


def ramp(*shape: int) -> torch.Tensor:
    return torch.arange(math.prod(shape)).float().reshape(*shape) / 7 - 0.5


# ------------------------------------------------------------------------------------------ plain work


@program
def arithmetic(compile: Compile) -> Any:
    @compile
    def f(x, y):
        return (x + 2 * y - 1) / (y.abs() + 1) ** 2

    return [f(ramp(3, 4), ramp(4)), f(-ramp(3, 4), ramp(4)), f(ramp(2, 4), ramp(4))]


@program
def unrolled_loop(compile: Compile) -> Any:
    @compile
    def f(x, n):
        outs = []
        for k in range(n):
            x = torch.tanh(x + k)
            if k % 2:
                continue
            outs.append(x)
        return torch.stack(outs), len(outs)

    return [f(ramp(3), 4), f(ramp(3), 5), f(ramp(3), 1)]


@program
def containers(compile: Compile) -> Any:
    @compile
    def f(batch, *rest, scale=1.0, **named):
        a, (b, *more) = batch["x"], batch["parts"]
        out = {"sum": a + b, "more": [m * scale for m in more], **{k: v + 1 for k, v in named.items()}}
        out["rest"] = tuple(r - a for r in rest)
        first, *_, last = [a, b, *more]
        return out, Pair(first, last), len(rest)

    batch = {"x": ramp(3), "parts": (ramp(3), ramp(3) * 2, ramp(3) * 3)}
    return [f(batch), f(batch, ramp(3), scale=2.0), f(batch, ramp(3), ramp(3) * 5, z=ramp(2), y=ramp(1))]


@program
def closures_change(compile: Compile) -> Any:
    k = 1.0

    @compile
    def f(x):
        return x * k + SCALE

    seen = [f(ramp(3))]
    k = 5.0
    seen.append(f(ramp(3)))
    globals()["SCALE"] = 7.0
    seen.append(f(ramp(3)))
    globals()["SCALE"] = 2.0
    k = ramp(3)
    seen.append(f(ramp(3)))
    return seen


@program
def inner_functions(compile: Compile) -> Any:
    @compile
    def f(x):
        total = 0

        def add(y, times=2):
            nonlocal total
            total += times
            return x + y * times

        twice = lambda v, by=3: v * by
        return add(twice(x)), add(x, times=5), total

    return [f(ramp(3)), f(ramp(2))]


@program
def function_returned(compile: Compile) -> Any:
    @compile
    def f(x):
        h = x.exp()

        def back(g):
            return g * h

        return h.sum(), back

    total, back = f(ramp(4))
    return [total, back(ramp(4)), f(ramp(2))[1](ramp(2))]


@program
def helpers_are_followed(compile: Compile) -> Any:
    def norm(v, eps=1e-3):
        return v / (v.norm() + eps)

    def both(f, g, *xs):
        return [f(x) + g(x) for x in xs]

    @compile
    def f(x, y):
        return both(norm, functools.partial(norm, eps=1.0), x, y)

    return [f(ramp(3), ramp(4)), f(ramp(3), ramp(4))]


# ------------------------------------------------------------------------------------------ what stays in Python


@program
def prints(compile: Compile) -> Any:
    @compile
    def f(x, verbose):
        h = x * 2
        if verbose:
            print("sum is", h.sum().item(), f"{h.mean().item():.3f}")
        h = h + 1
        print(h)
        return h.sum()

    return [f(ramp(3), True), f(ramp(3), False), f(-ramp(3), True)]


@program
def branch_on_data(compile: Compile) -> Any:
    @compile
    def f(x):
        h = torch.tanh(x)
        if h.sum() > 0:
            y = h * 2
        elif h.min() < -0.9:
            return h.min()
        else:
            y = h - 1
        return y.sum()

    return [f(x) for x in (ramp(4), -ramp(4), -ramp(40), ramp(4), -ramp(4))]


@program
def loop_on_data(compile: Compile) -> Any:
    @compile
    def f(x):
        steps = 0
        while x.norm() > 1:
            x = x * 0.7
            steps += 1
            if steps > 20:
                break
        else:
            x = x + 100
        return x, steps

    return [f(ramp(4)), f(ramp(20)), f(ramp(20) * 1e9)]


@program
def item_and_python_numbers(compile: Compile) -> Any:
    @compile
    def f(x, best):
        loss = (x * x).mean()
        value = loss.item()
        if value < best:
            best = value
        scaled = x / value
        return scaled, round(best, 4), int(x.sum()), float(x[0]), bool(x.max() > 1)

    return [f(ramp(4), 10.0), f(ramp(5), 0.01), f(ramp(6), 0.5), f(ramp(7), 0.5)]


@program
def side_effects_in_order(compile: Compile) -> Any:
    log: list[Any] = []
    state = {"n": 0}

    @compile
    def f(x):
        global COUNTER
        log.append("start")
        h = x * 3
        COUNTER += 1
        state["n"] += h.shape[0]
        log.append(h.sum().item())
        HISTORY.append(h)
        y = h + COUNTER
        log.append(state["n"])
        return y

    HISTORY.clear()
    globals()["COUNTER"] = 0
    seen = [f(ramp(2)), f(ramp(3)), f(ramp(2)), f(ramp(5))]
    return [seen, list(log), dict(state), COUNTER, list(HISTORY)]


@program
def nonlocal_counter(compile: Compile) -> Any:
    calls = 0

    @compile
    def f(x):
        nonlocal calls
        calls += 1
        y = x * calls
        return y + 1

    return [f(ramp(2)), f(ramp(2)), f(ramp(2)), calls]


@program
def nonlocal_tensors(compile: Compile) -> Any:
    """A state outside, whose entries are written one after the other."""
    kept, place, last = [torch.zeros(3, 2), torch.ones(3, 2)], 0, None

    def model(x, at, keys, values):
        keys, values = keys.index_copy_(0, at, x), values.index_add_(0, at, x * 2)
        return (keys * values).sum(0), keys, values

    @compile
    def f(x):
        nonlocal kept, place, last
        y, *kept = model(x, torch.tensor([place]), *kept)
        last = first = y * 2
        place = (place + 1) % 3
        return first + y

    seen = [f(ramp(1, 2) + k) for k in range(7)]
    return [seen, kept, place, last, torch.tensor([place, 4]), torch.tensor(place)]


@program
def numbers_in_tensors(compile: Compile) -> Any:
    @compile
    def f(x, n):
        at = torch.tensor([n, n + 1, 3])
        return x[at] * torch.tensor(n) + torch.tensor([n, 0.5, 2])

    out = [f(ramp(9), n) for n in range(5)]
    return [out, [o.dtype == torch.float32 for o in out], torch.tensor([3, 4]).dtype == torch.int64]


@program
def object_state(compile: Compile) -> Any:
    class Meter:
        def __init__(self) -> None:
            self.count, self.total, self.last = 0, torch.zeros(()), None

        @compile
        def update(self, x):
            self.count += 1
            self.total = self.total + x.sum()
            self.last = x * 2
            return self.total / self.count

        @property
        def mean(self):
            return self.total / max(self.count, 1)

    m = Meter()
    seen = [m.update(ramp(3)), m.update(ramp(4)), m.update(ramp(4))]
    return [seen, m.count, m.total, m.last, m.mean]


@program
def prints_in_a_helper(compile: Compile) -> Any:
    def shown(v, what):
        w = v * 2
        print(what, w.sum().item())
        return w + 1

    @compile
    def f(x):
        a = x + 1
        b = shown(a, "first") * shown(a * a, "second")
        return b.sum() + shown(b, "third").mean()

    return [f(ramp(3)), f(ramp(3) * 2)]


@program
def errors(compile: Compile) -> Any:
    @compile
    def f(x, mode):
        y = x * 2
        if mode == "raise":
            raise ValueError(f"bad mode {mode}")
        if mode == "shape":
            return y + torch.ones(17)
        try:
            if mode == "caught":
                raise KeyError("inside")
            y = y + 1
        except KeyError as e:
            y = y * 10
            y = y + len(str(e))
        finally:
            y = y - 0.5
        assert y.shape[0] < 5, "too long"
        return y

    seen: list[Any] = []
    for mode, n in [("no", 3), ("raise", 3), ("shape", 3), ("caught", 3), ("no", 6), ("no", 4), ("caught", 2)]:
        try:
            seen.append(f(ramp(n), mode))
        except Exception as e:
            seen.append((type(e).__name__, str(e).splitlines()[0]))
    return seen


@program
def missing_names(compile: Compile) -> Any:
    @compile
    def f(x, flag):
        h = x + 1
        if flag:
            late = h * 2
        print("here")
        if flag or h.shape[0] > 3:
            return late + 1
        return h

    seen: list[Any] = []
    for flag, n in [(True, 2), (False, 2), (False, 5), (True, 5), (False, 2)]:
        try:
            seen.append(f(ramp(n), flag))
        except UnboundLocalError as e:
            seen.append(str(e))
    return seen


@program
def wrong_arguments(compile: Compile) -> Any:
    @compile
    def f(x, y=1, *, z=2):
        return x * y + z

    seen: list[Any] = [f(ramp(2)), f(ramp(2), z=5), f(y=3, x=ramp(2))]
    for args, kwargs in [((), {}), ((1, 2, 3), {}), ((ramp(1),), {"w": 1})]:
        try:
            seen.append(f(*args, **kwargs))
        except TypeError as e:
            seen.append(str(e).split("()", 1)[-1])
    return seen


@program
def opaque_calls(compile: Compile) -> Any:
    class Box:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __mul__(self, other: Any) -> Box:
            return Box(self.value * other)

        def __repr__(self) -> str:
            return f"Box({self.value})"

    def numbers():
        yield from (1.0, 2.0, 3.0)

    @compile
    def f(x):
        b = Box(x + 1) * 2
        total = x * 0
        for k in numbers():
            total = total + x * k
        with contextlib.suppress(ZeroDivisionError):
            total = total + 1
            print("about to divide", 1 / 0)
        ordered = sorted([3, 1, 2])
        return b.value, total, ordered, {1, 2} | {3}, [str(v) for v in {"a": 1}]

    return [f(ramp(3)), f(ramp(3)), f(ramp(2))]


@program
def short_circuit(compile: Compile) -> Any:
    calls: list[str] = []

    def said(name, value):
        calls.append(name)
        return value

    @compile
    def f(x):
        a = x.sum() > 0 and said("and", x * 2)
        b = x.sum() > 0 or said("or", x * 3)
        c = said("yes", x + 1) if x.max() > 1 else said("no", x - 1)
        return a, b, c, 0 < x.shape[0] < 3

    return [f(ramp(3)), f(-ramp(3)), f(ramp(9)), calls]


@program
def walrus_and_fstrings(compile: Compile) -> Any:
    @compile
    def f(x, tag="t"):
        if (n := x.shape[0]) > 2:
            x = x[: n // 2]
        name = f"{tag}-{n:03d}-{x.ndim!r}"
        y = x * (m := n + 1)
        return name, y, m, n

    return [f(ramp(2)), f(ramp(6)), f(ramp(7)), f(ramp(9), tag="u")]


# ------------------------------------------------------------------------------------------ aliasing and in-place


@program
def in_place_on_new(compile: Compile) -> Any:
    @compile
    def f(x):
        y = x.clone()
        v = y.view(-1)
        v += 1
        y[0] = 5
        y.mul_(2)
        z = y
        z -= 0.25
        return y, v, z is y

    return [f(ramp(2, 3)), f(ramp(3, 2))]


@program
def in_place_on_arguments(compile: Compile) -> Any:
    @compile
    def f(x, w):
        y = x * 2
        x += 1
        w[0] = y.sum()
        x.view(-1)[0] = 100
        return x + y

    x, w = ramp(2, 2), ramp(3)
    alias = x.view(4)
    seen = [f(x, w), x, w, alias]
    return [*seen, f(x, w), x.clone(), alias.clone()]


@program
def views_are_shared(compile: Compile) -> Any:
    @compile
    def f(x):
        h = x * 2
        return h, h.t(), x.view(-1), x

    x = ramp(2, 3)
    h, ht, flat, same = f(x)
    h.add_(10)
    flat[0] = 50
    same[1, 1] = 70
    seen = [h, ht, flat, same is x, x]
    h, ht, flat, same = f(x)
    flat.zero_()
    return [*seen, ht, x, same is x]


@program
def strided_arguments(compile: Compile) -> Any:
    @compile
    def f(x):
        return x.reshape(-1) + 1, x.is_contiguous(), x.t(), x[1:]

    x = ramp(4, 3)
    return [f(x), f(x.t()), f(x[:, 1:]), f(x[::2]), f(x.t())]


@program
def the_same_tensor_twice(compile: Compile) -> Any:
    @compile
    def f(x, y):
        z = x + y
        return z, x is y, x

    a, b = ramp(3), ramp(3)
    return [f(a, b)[:2], f(a, a)[:2], f(b, a)[2] is b]


@program
def list_is_changed_for_the_caller(compile: Compile) -> Any:
    @compile
    def f(xs, d):
        xs.append(xs[0] * 2)
        d["last"] = xs[-1] + 1
        own = [x + 1 for x in xs]
        own.append(d["last"])
        return own

    xs, d = [ramp(2)], {}
    return [f(xs, d), f(xs, d), xs, d]


@program
def returned_containers_are_new(compile: Compile) -> Any:
    @compile
    def f(x):
        out = [x + 1]
        return out, out, {"k": out}

    a, b, c = f(ramp(2))
    a.append(3)
    d, _, _ = f(ramp(2))
    return [a is b, c["k"] is a, len(a), len(d), d]


# ------------------------------------------------------------------------------------------ modules, modes, random


class Net(nn.Module):
    def __init__(self, n: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(n, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(8, 2))
        self.scale = 1.5
        self.calls = 0

    def forward(self, x):
        h = torch.tanh(self.first(x))
        for k, block in enumerate(self.blocks):
            h = h + block(h) * self.scale
            if self.training and k == 0:
                h = nn.functional.dropout(h, 0.5, training=self.training)
        self.calls += 1
        return self.last(h)


@program
def modules(compile: Compile) -> Any:
    torch.manual_seed(1)
    net = Net()
    f = compile(net)
    seen = [f(ramp(5, 4)), f(ramp(5, 4)), net.calls]
    net.eval()
    seen += [f(ramp(5, 4)), f(ramp(6, 4))]
    net.scale = 0.0
    seen += [f(ramp(6, 4))]
    net.blocks.append(nn.Linear(8, 8))
    seen += [f(ramp(6, 4)), net.calls, f.calls, sorted(f.state_dict())]
    with torch.no_grad():
        net.first.weight.mul_(2)
    f.train()
    return [*seen, net.training, f(ramp(6, 4))]


@program
def random_numbers(compile: Compile) -> Any:
    @compile
    def f(x):
        noise = torch.randn(3)
        kept = nn.functional.dropout(x, 0.5)
        print("between")
        return x + noise, kept, torch.rand(2, 2)

    torch.manual_seed(3)
    return [f(ramp(3)), torch.rand(2), f(ramp(3)), f(ramp(3)), torch.rand(2)]


@program
def grad_modes(compile: Compile) -> Any:
    @torch.no_grad()
    def frozen(v):
        return v * 3

    @compile
    def f(x, w):
        with torch.no_grad():
            a = x * w
        b = x * w
        return a, a.requires_grad, b, b.requires_grad, torch.is_grad_enabled(), frozen(b).requires_grad, b.detach()

    w = torch.ones(3, requires_grad=True)
    seen = [f(ramp(3), w)]
    with torch.no_grad():
        seen.append(f(ramp(3), w))
    return [*seen, f(ramp(3), torch.ones(3)), f(ramp(3), w)]


@program
def backward_through(compile: Compile) -> Any:
    @compile
    def loss_of(x, y, w, b):
        h = torch.tanh(x @ w + b)
        print("forward")
        return ((h - y) ** 2).mean()

    torch.manual_seed(2)
    w, b = torch.randn(4, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
    seen = []
    for k in range(4):
        loss = loss_of(ramp(3 + k, 4), torch.ones(3 + k, 2), w, b)
        loss.backward()
        seen += [loss.item(), w.grad.clone(), b.grad.clone()]
        with torch.no_grad():
            w -= 0.1 * w.grad
            b -= 0.1 * b.grad
        w.grad = b.grad = None
    return [*seen, w, b]


@program
def training_step_inside(compile: Compile) -> Any:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    criterion = nn.CrossEntropyLoss()

    @compile
    def step(x, y):
        opt.zero_grad()
        out = net(x)
        loss = criterion(out, y)
        loss.backward()
        opt.step()
        return loss.item(), out.argmax(1)

    labels = torch.tensor([0, 1, 2, 1, 0])
    return [step(ramp(5, 4), labels) for _ in range(5)] + [p.detach() for p in net.parameters()]


@program
def update_by_hand_inside(compile: Compile) -> Any:
    torch.manual_seed(5)
    w = torch.randn(4, 3, requires_grad=True)

    @compile
    def step(x, lr):
        loss = (x @ w).square().mean()
        loss.backward()
        with torch.no_grad():
            w.sub_(lr * w.grad)
        w.grad = None
        return loss

    return [step(ramp(5, 4), lr).item() for lr in (0.1, 0.1, 0.05, 0.02)] + [w]


@program
def recurrent_cell(compile: Compile) -> Any:
    torch.manual_seed(6)
    W_h, W_x = torch.randn(5, 5, requires_grad=True), torch.randn(5, 3, requires_grad=True)

    @compile
    def run(xs, h):
        for x in xs:
            h = torch.tanh(W_h @ h + W_x @ x)
        return h.sum()

    out = run(ramp(4, 3), torch.zeros(5))
    out.backward()
    return [out, W_h.grad, W_x.grad, run([ramp(3)], torch.ones(5))]


# ------------------------------------------------------------------------------------------ numbers and sizes that vary


@program
def varying_numbers(compile: Compile) -> Any:
    @compile
    def f(x, n, lr):
        y = x * lr + n
        z = y / (n + 1) - math.sqrt(n)
        if n > 5:
            z = z * 2
        return z, n * 2, n < lr, [n, lr]

    return [
        f(ramp(3), n, lr)
        for n, lr in [(1, 0.5), (2, 0.5), (3, 0.25), (7, 0.1), (64, 1e-3), (1000, 3), (2, True), (0, -0.0)]
    ]


@program
def varying_sizes(compile: Compile) -> Any:
    @compile
    def f(x, w):
        n, d = x.shape
        h = x @ w
        mean = h.sum(0) / n
        flat = h.view(n, -1, 2).reshape(x.size(0), -1)
        return mean, flat[: n - 1], torch.zeros(n, 2) + h[:, :2], torch.cat([h, h]), x.numel(), len(x), (n, d), h.mean()

    return [f(ramp(n, 3), ramp(3, 4)) for n in (1, 2, 3, 7, 64, 1000, 1, 2)]


@program
def sizes_of_two(compile: Compile) -> Any:
    @compile
    def f(x, y):
        return x + y, x.shape[0] * y.shape[1]

    seen: list[Any] = []
    for a, b in [
        ((3, 4), (3, 4)),
        ((5, 4), (5, 4)),
        ((5, 4), (1, 4)),
        ((6, 7), (6, 7)),
        ((6, 7), (6, 1)),
        ((8, 7), (8, 3)),
    ]:
        try:
            seen.append(f(ramp(*a), ramp(*b)))
        except RuntimeError:
            seen.append("error")
    return seen


@program
def types_vary(compile: Compile) -> Any:
    @compile
    def f(x, k):
        return x * k

    return [
        f(x, k)
        for x in (ramp(2), ramp(2).double(), torch.arange(3), torch.ones(()))
        for k in (2, 2.5, True, torch.ones(1))
    ]


@program
def strings_and_none(compile: Compile) -> Any:
    @compile
    def f(x, activation="relu", bias=None, dims=(0, 1)):
        y = getattr(torch, activation)(x)
        if bias is not None:
            y = y + bias
        return y.sum(dims), activation.upper()

    return [
        f(ramp(2, 3)),
        f(ramp(2, 3), "tanh"),
        f(ramp(2, 3), bias=ramp(3)),
        f(ramp(2, 3), "exp", ramp(3), (1,)),
        f(ramp(2, 3)),
    ]


@program
def configuration(compile: Compile) -> Any:
    @dataclass
    class Config:
        width: int = 3
        name: str = "a"

    config = Config()

    @compile
    def f(x):
        w = TABLE["gain"] * config.width
        for k in TABLE["layers"]:
            x = x + k * w
        return x, config.name, isinstance(config, Config), hasattr(config, "depth")

    seen = [f(ramp(2))]
    config.width = 5
    seen.append(f(ramp(2)))
    TABLE["layers"].append(9.0)
    seen.append(f(ramp(2)))
    TABLE["layers"].pop()
    config.depth = 1
    return [*seen, f(ramp(2))]


@program
def ordered_and_nested(compile: Compile) -> Any:
    @compile
    def f(tree):
        def walk(t):
            if isinstance(t, dict):
                return {k: walk(v) for k, v in t.items()}
            if isinstance(t, (list, tuple)):
                return type(t)(walk(v) for v in t)
            return t * 2

        return walk(tree)

    tree = OrderedDict(a=ramp(2), b=[ramp(1), (ramp(3), 4)])
    return [f(dict(tree)), f({"a": [ramp(2)]}), f([1, 2])]


@program
def no_source(compile: Compile) -> Any:
    scope: dict[str, Any] = {"torch": torch}
    exec("def f(x):\n    return torch.tanh(x) + 1", scope)
    f = compile(scope["f"])
    g = compile(lambda x, y=2: x * y)
    return [f(ramp(3)), g(ramp(3)), g(ramp(3), 4)]


@program
def generators(compile: Compile) -> Any:
    @compile
    def f(x):
        yield x + 1
        yield x * 2

    @compile
    def g(x):
        return sum(v for v in (x, x * 2)) + any(k > 1 for k in range(3))

    return [list(f(ramp(2))), g(ramp(2))]


@program
def recursion(compile: Compile) -> Any:
    @compile
    def power(x, n):
        return torch.ones(x.shape) if n == 0 else x * power(x, n - 1)

    return [power(ramp(3), 3), power(ramp(3), 0), power(ramp(3), 6)]


@program
def long_loop(compile: Compile) -> Any:
    @compile
    def f(x, n):
        for k in range(n):
            x = x * 0.999 + k * 1e-4
        return x

    return [f(ramp(2), 3), f(ramp(2), 6000)]


@program
def super_and_private(compile: Compile) -> Any:
    class Base(nn.Module):
        def forward(self, x):
            return x * 2

    class Child(Base):
        def __init__(self) -> None:
            super().__init__()
            self.__secret = 3.0

        def forward(self, x):
            return super().forward(x) + self.__secret

    f = compile(Child())
    return [f(ramp(2)), f(ramp(3))]


@program
def parent_after_a_cut(compile: Compile) -> Any:
    class Float(nn.LayerNorm):
        def forward(self, x):
            size = x.abs().sum().item()
            found = super().forward(x / size)
            return [super(Float, self).forward(y) for y in (found, x)]

    f = compile(Float(3))
    return [f(ramp(2, 3)), f(ramp(4, 3))]


@program
def sizes_of_a_mask(compile: Compile) -> Any:
    def f(x):
        keep = torch.eye(4, dtype=torch.bool)
        picked = (x * 2)[~keep].view(4, -1)
        return torch.cat([x[:, :1], picked], dim=1).exp().sum()

    def g(x, wanted):
        picked = x[x > wanted]
        print(wanted)
        return picked * 2, (picked + 1).sum()

    f, g = compile(f), compile(g)
    found = [g(ramp(3, 4), wanted) for wanted in (0.2, 0.9, 5.0)]
    return [f(ramp(4, 4)), f(ramp(4, 4) * 2), found, ramp(5)[ramp(5) > 0.5]]


@program
def hooks(compile: Compile) -> Any:
    seen: list[Any] = []
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.5)
    f = compile(net)
    a = f(ramp(2, 3))
    handle = net[0].register_forward_hook(lambda m, x, y: seen.append(y.sum().item()) or y * 2)
    b = f(ramp(2, 3))
    handle.remove()
    return [a, b, f(ramp(2, 3)), seen]
