"""What a training step calls, as it is of values of a trace: backward, optimisers, a module's parameters, arrays as tensors.

An optimiser's step is its rule on symbols. Its settings are guarded, but for the numbers that change while training: those are
asked for at each call, as is how many steps were taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyflow.core.dtypes import float64, int64
from tinyflow.graph.node import Node
from tinyflow.jit import sources as s
from tinyflow.jit.attributes import get_item, iterate, keys
from tinyflow.jit.effects import Call, Entry, check_history
from tinyflow.jit.record import Scalar, call_tensors
from tinyflow.jit.sources import ById, Guard, Source
from tinyflow.jit.trace import Trace
from tinyflow.jit.values import NONE, Cut, Iterated, Known, Made, Sym, Tens, Value
from tinyflow.ops.elementwise import cast
from tinyflow.ops.leaf import constant
from tinyflow.ops.movement import stack
from tinyflow.torch import autograd, creation
from tinyflow.torch.modes import MODE
from tinyflow.torch.nn.module import Module, zero_grads
from tinyflow.torch.optim.optimizer import NO_SETTINGS, Optimizer, initial, move_all
from tinyflow.torch.tensor import Tensor, fresh

Args = list[Value]
Kwargs = dict[str, Value]


# ------------------------------------------------------------------------------------------ gradients


def differentiated(raw: Callable[..., Any]) -> Callable[..., Value]:
    """loss.backward(), autograd.backward(losses), autograd.grad(losses, inputs)"""

    def rule(t: Trace, args: Args, kwargs: Kwargs) -> Value:
        given = args[0] if args else kwargs.get("outputs", kwargs.get("tensors", NONE))
        roots = [given] if isinstance(given, Tens) else iterate(t, given)
        check_history(t, [r.tensor for r in roots if isinstance(r, Tens)])
        return call_tensors(t, raw, args, kwargs)

    return rule


# ------------------------------------------------------------------------------------------ arrays


def tensor_of(raw: Callable[..., Any], shared: bool) -> Callable[..., Value | None]:
    """from_numpy(array) and its like; None for what is no array that was there before."""

    def rule(t: Trace, args: Args, kwargs: Kwargs) -> Value | None:
        v = args[0] if args else None
        if raw is creation.tensor and len(args) == 1 and not kwargs and (numbers := varying(v)):
            return call_tensors(
                t, of_numbers if isinstance(v, Made) else fresh, [Scalar(number(t, n)) for n in numbers]
            )
        if not (isinstance(v, Known) and v.source is not None and isinstance(v.raw, np.ndarray)):
            return None
        dtype = t.concrete(kwargs["dtype"]) if "dtype" in kwargs else None
        if len(args) > 1 or not set(kwargs) <= {"dtype"}:
            raise Cut(f"{raw.__name__} of an array, with settings")
        kept = dtype is None or creation.core_of(dtype).numpy == v.raw.dtype
        found = t.array(v.raw, v.source, shared and kept)
        return found if kept else call_tensors(t, Tensor.to, [found, Known(dtype)])

    return rule


def varying(v: Value | None) -> list[Value]:
    """The integers of a list, or one alone, if some differ from call to call; empty if not."""
    numbers: list[Value] = (
        [v] if isinstance(v, Sym) else list(v.raw) if isinstance(v, Made) and type(v.raw) is list else []
    )
    plain = all(isinstance(n, Known | Sym) and type(n.raw) is int for n in numbers)
    fed = any(isinstance(n, Sym) for n in numbers) and not any(
        isinstance(n, Sym) and n.dim is not None for n in numbers
    )
    return numbers if plain and fed else []


def number(t: Trace, v: Value) -> Node:
    return t.scalar(v) if isinstance(v, Sym) else constant(t.concrete(v), int64)


def of_numbers(*nodes: Node) -> Tensor:
    return fresh(stack(nodes))


# ------------------------------------------------------------------------------------------ modules


def named(
    t: Trace, module: Known, table: str, prefix: str, seen: set[int] | None, deep: bool
) -> list[tuple[str, Value]]:
    """The names and values in a table of a module, and of those inside it, each once (unless `seen` is None)."""
    assert module.source is not None
    t.guard(s.has_type(module.source, type(module.raw)))
    found: list[tuple[str, Value]] = []
    for name, v in items(t, module, table):
        raw = v.raw if isinstance(v, Known) else t.real[v.source]  # type: ignore[attr-defined]
        if raw is None or (seen is not None and id(raw) in seen):
            continue
        if seen is not None:
            seen.add(id(raw))
        found.append((f"{prefix}.{name}" if prefix else name, v))
    for name, v in items(t, module, "_modules") if deep else ():
        assert isinstance(v, Known)
        if v.raw is not None:
            found += named(t, v, table, f"{prefix}.{name}" if prefix else name, seen, deep)
    return found


def items(t: Trace, module: Known, table: str) -> list[tuple[str, Value]]:
    held = t.arrive(getattr(module.raw, table), Source("attr", module.source, table))
    assert isinstance(held, Known)
    return [(k, get_item(t, held, Known(k))) for k in keys(t, held)]


def listed(table: str, with_names: bool) -> Callable[..., Value]:
    """module.parameters(), .named_parameters(), .buffers(), .named_buffers()"""

    def rule(t: Trace, args: Args, kwargs: Kwargs) -> Value:
        names = ("prefix", "recurse", "remove_duplicate") if with_names else ("recurse",)
        given = {k: t.concrete(v) for k, v in (*zip(names, args[1:]), *kwargs.items())}
        module = args[0]
        assert isinstance(module, Known)
        seen: set[int] | None = set() if given.get("remove_duplicate", True) else None
        found = named(t, module, table, given.get("prefix", ""), seen, given.get("recurse", True))
        return Made(Iterated(Made((Known(name), v)) if with_names else v for name, v in found))

    return rule


def forget_gradients(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    """module.zero_grad(), optimizer.zero_grad()"""
    owner = args[0]
    assert isinstance(owner, Known)
    to_none = t.concrete(kwargs.get("set_to_none", args[1] if len(args) > 1 else Known(True)))
    if isinstance(owner.raw, Module):
        params = [v for _, v in named(t, owner, "_parameters", "", set(), True)]
    else:
        params = [p for group in groups_of(t, owner) for p in iterate(t, get_item(t, group, Known("params")))]
    return call_tensors(t, zero_grads, [Made(params), Known(to_none)])


# ------------------------------------------------------------------------------------------ optimisers


def groups_of(t: Trace, optimizer: Known) -> list[Known]:
    assert optimizer.source is not None
    t.guard(s.has_type(optimizer.source, type(optimizer.raw)))
    held = t.arrive(optimizer.raw.param_groups, Source("attr", optimizer.source, "param_groups"))
    return iterate(t, held)  # type: ignore[return-value]


def move(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    """optimizer.step()"""
    optimizer = args[0]
    assert isinstance(optimizer, Known)
    if any(t.concrete(v) is not None for v in (*args[1:], *kwargs.values())):
        raise Cut("steps with a closure")
    if type(optimizer.raw).update is not Optimizer.update:
        raise Cut(f"a {type(optimizer.raw).__name__} moves its parameters in a way of its own")
    counted: list[Source] = []
    for group in groups_of(t, optimizer):
        params = [p for p in iterate(t, get_item(t, group, Known("params"))) if p.tensor._grad is not None]  # type: ignore[attr-defined]
        numbers = check_settings(t, optimizer.raw, group)
        held = [state_of(t, optimizer, group.raw, p) for p in params]  # type: ignore[arg-type]
        for members in same_step(t, optimizer.raw, held):
            n = numbers_of(t, optimizer.raw, group, numbers, held[members[0]], params[members[0]])  # type: ignore[arg-type]
            move_some(t, optimizer.raw, group.raw, [params[k] for k in members], [held[k] for k in members], n)  # type: ignore[misc]
        counted += [h.source for h in held] if optimizer.raw.counts else []
    if counted:
        t.calls.append(Call(advance, counted, f"counts a step of {len(counted)} parameters"))
    return NONE


def check_settings(t: Trace, raw: Optimizer, group: Known) -> tuple[str, ...]:
    """Relies on all of a group's settings but for its numbers, whose names are given."""
    names = raw.numbers(group.raw, 1)
    keys(t, group)
    for k in group.raw:
        v = get_item(t, group, Known(k)) if k not in NO_SETTINGS else NONE
        if k in names:
            assert isinstance(v, Known)
            if type(v.raw) not in (int, float):
                raise Cut(f"steps with a {k} that is a {type(v.raw).__name__}")
            words = f"{s.spoken(v.source)} is a number"  # type: ignore[arg-type]
            t.guard(Guard("number", "type({0}) is int or type({0}) is float", (v.source,), (), words))
        elif k not in NO_SETTINGS:
            t.concrete(v)
    return tuple(names)


class Held:
    """What an optimiser keeps of a parameter."""

    def __init__(self, source: Source, raw: dict[str, Any], parts: dict[str, Tens]) -> None:
        self.source, self.raw, self.parts = source, raw, parts
        self.step = Source("item", source, "step")


def state_of(t: Trace, optimizer: Known, group: dict[str, Any], p: Tens) -> Held:
    """The state, made as the first step would make it."""
    assert p.source is not None
    real = t.real[p.source]
    t.guard(Guard("same", "{0} is {a}", (p.source,), (real,), f"{p.source.words} is the parameter that it was"))
    raw = optimizer.raw.state[real]
    raw.update(initial(optimizer.raw, group, real, raw))
    table = Source("attr", optimizer.source, "state")
    held = Held(Source("state", table, ById(real), p.source.words), raw, {})
    for name in optimizer.raw.parts(group):
        place = Source("item", held.source, name)
        if raw.get(name) is not None:
            found = t.arrive(raw[name], place)
            if not isinstance(found, Tens):
                raise Cut(f"steps with a {name} that is no tensor")
            held.parts[name] = found
        else:
            words = f"{held.source.words} has no {name}"
            t.guard(Guard("no entry", "{0}.get({a}) is None", (held.source,), (name,), words))
    return held


def same_step(t: Trace, raw: Optimizer, held: list[Held]) -> list[list[int]]:
    """The parameters that have taken equally many steps."""
    found: dict[int, list[int]] = {}
    for k, h in enumerate(held):
        step = h.raw["step"] if raw.counts else 0
        if type(step) is not int:
            raise Cut("steps with a count that is no number")
        found.setdefault(step, []).append(k)
    for members in found.values() if raw.counts else ():
        places = tuple(held[k].step for k in members)
        template = f"type({{0}}) is int and {' == '.join(f'{{{k}}}' for k in range(len(places)))}"
        t.guard(Guard("steps", template, places, (), f"{len(places)} parameters have taken equally many steps"))
    return list(found.values())


def numbers_of(
    t: Trace, raw: Optimizer, group: Known, names: tuple[str, ...], held: Held, like: Tens
) -> dict[str, Node]:
    """The numbers of the step to come, fed at each call."""
    step = held.step if raw.counts else ("const", -1)
    values = tuple(raw.numbers(group.raw, held.raw["step"] + 1 if raw.counts else 0).values())
    call = ("call", functools.partial(next_numbers, raw), group.source, step)
    n = {}
    for k, (name, value) in enumerate(zip(names, values, strict=True)):
        scalar = t.scalar(Sym(("part", (k, f"{type(raw).__name__}.{name}"), call), float(value)))
        n[name] = cast(cast(scalar, float64), like.tensor._storage.node.dtype)
    return n


def next_numbers(optimizer: Optimizer, group: dict[str, Any], step: int) -> tuple[Any, ...]:
    return tuple(optimizer.numbers(group, step + 1).values())


def move_some(
    t: Trace, raw: Optimizer, group: dict[str, Any], params: list[Tens], held: list[Held], n: dict[str, Node]
) -> None:
    states: list[dict[str, Any]] = [{"step": 0, **{name: v.tensor for name, v in h.parts.items()}} for h in held]
    before, MODE.grad = MODE.grad, False
    try:
        call_tensors(t, lambda ps: move_all(raw, group, ps, states, n), [Made([*params])])
    finally:
        MODE.grad = before
    for h, state in zip(held, states, strict=True):
        for name in raw.parts(group):
            if name in state and name not in h.parts:
                made = t.lift(state[name])
                assert isinstance(made, Tens)
                t.entries.append(Entry(h.source, name, made))


def advance(*states: dict[str, Any]) -> None:
    for state in states:
        state["step"] += 1


# fmt: off
METHODS: dict[Any, Callable[..., Value]] = {
    Module.parameters:       listed("_parameters", False),
    Module.named_parameters: listed("_parameters", True),
    Module.buffers:          listed("_buffers", False),
    Module.named_buffers:    listed("_buffers", True),
    Module.zero_grad:        forget_gradients,
    Optimizer.zero_grad:     forget_gradients,
    Optimizer.step:          move,
}
FUNCTIONS: dict[Any, Callable[..., Value | None]] = {
    autograd.backward:   differentiated(autograd.backward),
    autograd.grad:       differentiated(autograd.grad),
    Tensor.backward:     differentiated(Tensor.backward),
    creation.from_numpy: tensor_of(creation.from_numpy, True),
    creation.as_tensor:  tensor_of(creation.as_tensor, True),
    creation.tensor:     tensor_of(creation.tensor, False),
}
# fmt: on
