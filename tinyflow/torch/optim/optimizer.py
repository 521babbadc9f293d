"""Optimizer: groups of parameters with settings, and a step that updates all of them as one program.

Settings that change while training (learning rate, moments' corrections) reach the graph as scalar leaves, so that a new
value is never a new program.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinyflow.core.dtypes import float64
from tinyflow.graph.node import Node
from tinyflow.ops.elementwise import cast
from tinyflow.torch import storage
from tinyflow.torch.functions import add_keys
from tinyflow.torch.leaves import STORE, Remembered, scalar_leaf
from tinyflow.torch.modes import MODE
from tinyflow.torch.nn.module import zero_grads
from tinyflow.torch.tensor import Tensor, assign, fresh, from_array, use

REQUIRED = object()
Group = dict[str, Any]


class Optimizer:
    """Subclasses say how a parameter moves: `numbers`, `parts` and `move`, or `step` as a whole."""

    def __init__(self, params: Iterable[Any], defaults: Group) -> None:
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._scalars: dict[tuple[int, str], Node] = {}
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got torch.FloatTensor"
            )
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: Group) -> None:
        """More parameters, with settings of their own."""
        group = dict(param_group)
        params = group["params"]
        group["params"] = (
            [params] if isinstance(params, Tensor) else [p[1] if isinstance(p, tuple) else p for p in params]
        )
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is REQUIRED and name not in group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)
        held = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in held for p in group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or make them zeros."""
        for group in self.param_groups:
            zero_grads(group["params"], set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves every parameter that has a gradient; with a closure, calls it first, and returns what it returns."""
        loss = None
        if closure is not None:
            before, MODE.grad = MODE.grad, True
            try:
                loss = closure()
            finally:
                MODE.grad = before
        before, MODE.grad = MODE.grad, False
        try:
            with storage.deferred():
                for number, group in enumerate(self.param_groups):
                    moving = [p for p in group["params"] if p._grad is not None]
                    if moving:
                        self.update(number, group, moving)
            storage.flush()
        finally:
            MODE.grad = before
        return loss

    counts = True  # whether the state counts the steps

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        """The settings that change while training: the graph has a leaf for each."""
        return {"lr": group["lr"]}

    def parts(self, group: Group) -> dict[str, float | None]:
        """The state that a parameter has besides: arrays of its shape, filled with a number at first (None: without a value)."""
        return {}

    @staticmethod
    def move(p: Node, g: Node, n: dict[str, Node], state: dict[str, Node], group: Group) -> Node:
        """The parameter's new value, given its gradient, the numbers and the state, which takes its new values."""
        raise NotImplementedError

    def update(self, number: int, group: Group, params: list[Tensor]) -> None:
        for k, (step, some) in enumerate(self.by_step(params).items()):
            values = self.numbers(group, step)
            n = {name: self.scalar(number, f"{name} {k}", value, some[0]) for name, value in values.items()}
            move_all(self, group, some, [self.state[t] for t in some], n)

    def by_step(self, params: Iterable[Tensor]) -> dict[int, list[Tensor]]:
        """The parameters by the number of the step that they are about to take; their states count it."""
        if not self.counts:
            return {0: list(params)}
        found: dict[int, list[Tensor]] = {}
        for t in params:
            state = self.state[t]
            state["step"] = step = state.get("step", 0) + 1
            found.setdefault(int(step), []).append(t)
        return found

    def scalar(self, number: int, name: str, value: Any, like: Tensor) -> Node:
        """A setting as a node: the same leaf at every step, holding the present value."""
        if isinstance(value, Tensor):
            return cast(use(value), like.dtype.core)
        leaf = self._scalars.get((number, name))
        if leaf is None:
            leaf = self._scalars[(number, name)] = scalar_leaf(value, float64)
        else:
            STORE[leaf][...] = value
        return cast(leaf, like.dtype.core)

    # -------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """The state by number of parameter, and the groups with numbers in the parameters' place."""
        numbers = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        groups = [
            {k: v for k, v in g.items() if k != "params"} | {"params": [numbers[id(p)] for p in g["params"]]}
            for g in self.param_groups
        ]
        return {"state": {numbers[id(p)]: dict(s) for p, s in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what state_dict gave, of an optimiser of the same parameters."""
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(groups, self.param_groups, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        by_number: dict[Any, Tensor] = {}
        for saved, group in zip(groups, self.param_groups, strict=True):
            by_number.update(zip(saved["params"], group["params"], strict=True))
            group.update({k: v for k, v in saved.items() if k != "params"})
        self.state = defaultdict(dict)
        for number, values in state_dict["state"].items():
            copies = {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in values.items()}
            self.state[by_number[number]] = copies

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n" + "".join(
                f"    {k}: {group[k]}\n" for k in sorted(group) if k != "params"
            )
        return text + ")"


MOVED = Remembered(4096)  # rule, settings, nodes -> new nodes


def move_all(
    optimizer: Optimizer, group: Group, params: list[Tensor], states: list[dict[str, Any]], n: dict[str, Node]
) -> None:
    """Moves parameters that have taken equally many steps."""
    rule, parts = type(optimizer).move, optimizer.parts(group)
    settings: list[Any] = [rule]
    known = add_keys(settings, [v for k, v in group.items() if k not in NO_SETTINGS and k not in n])
    start = (*settings, *n.values())
    for t, state in zip(params, states, strict=True):
        state.update(initial(optimizer, group, t, state))
        there = {name: use(state[name]) for name in parts if state.get(name) is not None}
        p, g = use(t), use(t._grad)  # type: ignore[arg-type]
        key = (*start, p, g, *there.values(), len(there))
        found = MOVED.get(key) if known else None
        if found is None:
            new = rule(p, g, n, there, group)
            found = new, there
            if known:
                MOVED.put(key, found)
        for name, value in found[1].items():
            if state.get(name) is None:
                state[name] = fresh(value, False, True)
            else:
                assign(state[name], value)
        assign(t, found[0])


def initial(optimizer: Optimizer, group: Group, t: Tensor, state: dict[str, Any]) -> dict[str, Any]:
    """What a parameter's state lacks before its first step."""
    kind = t._storage.node.dtype.numpy
    missing = {k: v for k, v in optimizer.parts(group).items() if v is not None and state.get(k) is None}
    found: dict[str, Any] = {k: from_array(np.full(t._shape, v, kind)) for k, v in missing.items()}  # type: ignore[arg-type]
    return {"step": 0, **found} if optimizer.counts and "step" not in state else found


NO_SETTINGS = {"params", "initial_lr"}


def check(**limits: tuple[Any, bool, str]) -> None:
    """Settings out of range, in PyTorch's words: name=(value, whether it is allowed, what to call it)."""
    for value, fine, name in limits.values():
        if not fine:
            raise ValueError(f"Invalid {name}: {value}")
