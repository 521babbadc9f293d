"""What runs, and when: cond and case, groups of operations, prints and assertions.

cond := pred, a branch for each side -> Merge of both
Branch := predicate, side; what it takes from outside goes through a Switch
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyflow.core.dtypes import bool_
from tinyflow.ops import control
from tinyflow.symbolic import errors
from tinyflow.symbolic.graph import Graph, Operation, get_default_graph
from tinyflow.symbolic.nest import flatten, pack
from tinyflow.symbolic.tensor import Tensor, convert, operation, scalar, tensor
from tinyflow.symbolic.world import FREE

# ------------------------------------------------------------------------------------------ branches


class Branch:
    """One side of a cond, while its function makes operations."""

    def __init__(self, predicate: Tensor, side: bool) -> None:
        self.predicate, self.side = predicate, side
        self.graph: Graph = predicate.graph
        self.outer = self.graph._branch
        self.brought: dict[Tensor, Tensor] = {}
        self.inside: set[Tensor] = set()

    def __enter__(self) -> Branch:
        self.graph._branch = self
        return self

    def __exit__(self, *exception: Any) -> None:
        self.graph._branch = self.outer

    def bring(self, t: Tensor) -> Tensor:
        """A tensor as this side sees it: from outside it comes through a Switch."""
        if t.op.branch is self or t in self.inside or t.op.type == "VariableV2" or t.op.host is not None:
            return t
        return self.switched(t)

    def alive(self, t: Tensor) -> Tensor:
        """A tensor that is alive on this side only: constants are switched too."""
        return self.switched(t) if self.is_free(t.op) else self.bring(t)

    def switched(self, t: Tensor) -> Tensor:
        if t not in self.brought:
            with self.graph.control_dependencies(None):
                self.graph._branch = self.outer
                inputs = [t, self.predicate]
                both = operation(
                    "Switch",
                    lambda x, p: [control.switch(x, p, False), control.switch(x, p, True)],
                    inputs,
                    types=[t.dtype] * 2,
                )
            self.brought[t] = both.outputs[self.side]
            self.inside.add(self.brought[t])
        return self.brought[t]

    def is_free(self, op: Operation) -> bool:
        """Whether an operation made here needs nothing that is alive on one side only."""
        if op.branch is not self:
            return False
        free, stack = True, [op]
        while stack and free:
            o = stack.pop()
            needs = [t for t in o.inputs if t.op.type != "VariableV2"]
            free = o.branch is self and not any(t in self.inside for t in needs) and (bool(o.inputs) or o.type in FREE)
            stack.extend(t.op for t in needs)
        return free


def cond(
    pred: Any, true_fn: Callable[[], Any] | None = None, false_fn: Callable[[], Any] | None = None, strict: bool =
    False, name: str | None = None, fn1: Callable[[], Any] | None = None, fn2: Callable[[], Any] | None = None,
) -> Any:  # fmt: skip
    """true_fn() if pred, else false_fn(): both write their side into the graph, a run computes the one that is taken.

    The functions return tensors, or equal nestings of tensors (a list of one is that one, unless strict); what they use from outside comes in through a Switch, what
    was outside before the cond is computed in any case. TypeError if pred is a Python bool, or the results' types differ.
    """
    true_fn, false_fn = fn1 if true_fn is None else true_fn, fn2 if false_fn is None else false_fn
    if not callable(true_fn) or not callable(false_fn):
        raise TypeError("cond wants two functions: cond(pred, lambda: a, lambda: b)")
    if isinstance(pred, builtins.bool):
        raise TypeError("cond wants a tensor as its predicate; for a Python bool, Python's own if will do")
    pred = scalar(pred)
    if pred.dtype is not bool_:
        raise TypeError(f"the predicate {pred.name!r} is of type {pred.dtype}; compare it with something")
    graph = pred.graph
    with graph.as_default(), graph.name_scope(name or "cond"):
        pred = tensor("Identity", lambda p: p, [pred], "pred_id")
        results, structures = [], []
        for side, fn in ((True, true_fn), (False, false_fn)):
            with Branch(pred, side) as branch:
                given = fn()
                if given is None:
                    raise ValueError(f"{'true_fn' if side else 'false_fn'} of cond returned nothing; return a tensor")
                structures.append(given)
                results.append([result(branch, r) for r in flatten(given)])
        together = pack(structures[0], merged(pred, results, structures))
        return (
            together if strict or not isinstance(together, list | builtins.tuple) or len(together) != 1 else together[0]
        )


def result(branch: Branch, value: Any) -> Tensor:
    """What a branch returns, alive on its side; an operation is a tensor that waits for it."""
    if isinstance(value, Operation):
        pivot = branch.bring(branch.predicate)
        return operation("Identity", lambda p: p, [pivot], "control_dependency", first=[value]).outputs[0]
    return branch.alive(convert(value))


def merged(pred: Tensor, results: Sequence[Sequence[Tensor]], structures: Sequence[Any]) -> list[Tensor]:
    true, false = results
    if len(true) != len(false):
        raise ValueError(f"the branches of cond return different structures: {structures[0]!r} and {structures[1]!r}")
    return [merge(pred, f, t) for t, f in zip(true, false, strict=True)]


def merge(pred: Tensor, false: Tensor, true: Tensor) -> Tensor:
    if false.dtype is not true.dtype:
        raise TypeError(f"the branches of cond return {true.dtype} and {false.dtype}; cast one of them")
    return tensor("Merge", lambda f, t, p: control.merge(p, f, t), [false, true, pred], "Merge")


def case(
    pred_fn_pairs: Any,
    default: Callable[[], Any] | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """The function of the first predicate that holds, else default()."""
    pairs = list(pred_fn_pairs.items() if isinstance(pred_fn_pairs, dict) else pred_fn_pairs)
    if not pairs:
        raise ValueError("case wants at least one (predicate, function) pair")
    with get_default_graph().name_scope(name):
        if default is None:
            _, default = pairs.pop()
        rest = default
        for pred, fn in reversed(pairs):
            rest = chosen(pred, fn, rest, strict)
        return rest()


def chosen(pred: Any, fn: Callable[[], Any], rest: Callable[[], Any], strict: bool) -> Callable[[], Any]:
    return lambda: cond(pred, fn, rest, strict)


# ------------------------------------------------------------------------------------------ order


def no_op(name: str | None = None) -> Operation:
    """An operation that does nothing."""
    return group(name=name or "NoOp")


def group(*inputs: Any, **kwargs: Any) -> Operation:
    """An operation that is done once all of its inputs are."""
    name = kwargs.pop("name", None)
    if kwargs:
        raise TypeError(f"group() has no argument {next(iter(kwargs))!r}")
    graph = get_default_graph()
    ops = []
    for x in flatten(list(inputs)):
        element = getattr(x, "_as_graph_element", lambda x=x: x)()
        if not isinstance(element, Tensor | Operation):
            raise TypeError(f"group takes operations and tensors, not {x!r}")
        graph = element.graph
        ops.append(element.op)
    with graph.as_default():
        return operation("NoOp", lambda: control.group(), (), name or "group_deps", first=ops, types=[])


def tuple(tensors: Sequence[Any], name: str | None = None, control_inputs: Sequence[Any] | None = None) -> list[Any]:
    """The tensors, none of which is there before all are computed."""
    with get_default_graph().name_scope(name or "tuple"):
        gate = group(*[t for t in tensors if t is not None], *(control_inputs or ()), name="group_deps")
        return with_each([gate], tensors)


def with_each(first: Sequence[Operation], tensors: Sequence[Any]) -> list[Any]:
    return [
        None
        if t is None
        else operation("Identity", lambda n: n, [convert(t)], "control_dependency", first=first).outputs[0]
        for t in tensors
    ]


# ------------------------------------------------------------------------------------------ what Python does after the run


def Print(
    input_: Any, data: Sequence[Any], message: str | None = None, first_n: int | None = None, summarize: int | None =
    None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """input_, whose run also prints the values of `data` to stderr: [v1 v2 v3...][w]. first_n limits how often."""
    done = [0]

    def show(*values: Any) -> None:
        done[0] += 1
        if first_n is None or first_n < 0 or done[0] <= first_n:
            print((message or "") + "".join(brief(v, summarize or 3) for v in values), file=sys.stderr)

    printing = operation("Print", None, [convert(d) for d in data], name or "Print", host=show, types=[])
    return operation("Identity", lambda n: n, [convert(input_)], f"{name or 'Print'}/output", first=[printing]).outputs[
        0
    ]


def brief(value: Any, count: int) -> str:
    items = np.ravel(value)
    shown = " ".join(str(v.decode() if isinstance(v, bytes) else v) for v in items[: count if count >= 0 else None])
    return f"[{shown}{'...' if 0 <= count < items.size else ''}]"


def print_(*inputs: Any, **kwargs: Any) -> Operation:
    """An operation that prints its inputs, strings and tensors, to stderr (or to output_stream, sys.stdout say)."""
    stream = kwargs.get("output_stream", sys.stderr)
    tensors = [convert(x) for x in inputs if isinstance(x, Tensor) or hasattr(x, "_as_tensor")]

    def show(*values: Any) -> None:
        remaining = iter(values)
        words = [next(remaining) if isinstance(x, Tensor) or hasattr(x, "_as_tensor") else x for x in inputs]
        print(*words, sep=kwargs.get("sep", " "), end=kwargs.get("end", "\n"), file=stream)

    return operation("PrintV2", None, tensors, kwargs.get("name") or "PrintV2", host=show, types=[])


def Assert(condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None) -> Operation:
    """An operation that raises InvalidArgumentError with the values of `data` if the condition does not hold."""

    def check(held: Any, *values: Any) -> None:
        if not np.all(held):
            raise errors.InvalidArgumentError(f"assertion failed: {''.join(brief(v, summarize or 3) for v in values)}")

    return operation(
        "Assert", None, [convert(condition), *(convert(d) for d in data)], name or "Assert", host=check, types=[]
    )
