"""Learning rates that change with the step, and averages of variables over the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.core import dtypes
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import leaf
from tinyflow.symbolic import filling
from tinyflow.symbolic.control import group
from tinyflow.symbolic.graph import GraphKeys, Operation, get_default_graph
from tinyflow.symbolic.tensor import Tensor, constant, convert, operation
from tinyflow.symbolic.variable import Variable, moving_average_variables, trainable_variables


def schedule(
    kind: str, rate: Any, step: Any, others: Sequence[Any], formula: Callable[..., Node], name: str | None
) -> Tensor:
    """formula(rate, step, *others) as one operation, all of the rate's type."""
    if step is None:
        raise ValueError(f"{kind} wants a global_step, the tensor that counts steps")
    rate = convert(rate, None if isinstance(rate, Tensor | Variable) else dtypes.float32)
    others = [convert(o) for o in others]

    def meaning(lr: Node, at: Node, *rest: Node) -> Node:
        return formula(lr, *(e.cast(n, lr.dtype) for n in (at, *rest)))

    return operation(kind, meaning, [rate, convert(step), *others], name or kind, types=[rate.dtype]).outputs[0]


def stepped(p: Node, staircase: bool) -> Node:
    return e.floor(p) if staircase else p


def exponential_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any, staircase: bool = False, name: str | None
    = None,
) -> Tensor:  # fmt: skip
    """learning_rate decay_rate^(step / decay_steps); staircase takes the floor of the exponent."""
    return schedule(
        "ExponentialDecay",
        learning_rate,
        global_step,
        (decay_steps, decay_rate),
        lambda lr, t, n, r: lr * e.pow_(r, stepped(t / n, staircase)),
        name,
    )


def natural_exp_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any, staircase: bool = False, name: str | None
    = None,
) -> Tensor:  # fmt: skip
    """learning_rate exp(-decay_rate step / decay_steps)"""
    return schedule(
        "NaturalExpDecay",
        learning_rate,
        global_step,
        (decay_steps, decay_rate),
        lambda lr, t, n, r: lr * e.exp(-r * stepped(t / n, staircase)),
        name,
    )


def inverse_time_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any, staircase: bool = False, name: str | None
    = None,
) -> Tensor:  # fmt: skip
    """learning_rate / (1 + decay_rate step / decay_steps)"""
    return schedule(
        "InverseTimeDecay",
        learning_rate,
        global_step,
        (decay_steps, decay_rate),
        lambda lr, t, n, r: lr / (1.0 + r * stepped(t / n, staircase)),
        name,
    )


def polynomial_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, end_learning_rate: Any = 0.0001, power: Any = 1.0, cycle:
    bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """(learning_rate - end)(1 - step / decay_steps)^power + end, up to decay_steps; cycle lengthens them to a multiple."""

    def formula(lr: Node, t: Node, n: Node, end: Node, p: Node) -> Node:
        total = n * e.maximum(e.ceil(t / n), 1.0) if cycle else n
        return (lr - end) * e.pow_(1.0 - e.minimum(t, total) / total, p) + end

    return schedule(
        "PolynomialDecay", learning_rate, global_step, (decay_steps, end_learning_rate, power), formula, name
    )


def cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, alpha: Any = 0.0, name: str | None = None
) -> Tensor:
    """learning_rate ((1 - alpha) (1 + cos(pi step / decay_steps)) / 2 + alpha)"""

    def formula(lr: Node, t: Node, n: Node, a: Node) -> Node:
        return lr * ((1.0 - a) * (e.cos(e.minimum(t, n) / n * math.pi) + 1.0) * 0.5 + a)

    return schedule("CosineDecay", learning_rate, global_step, (decay_steps, alpha), formula, name)


def piecewise_constant(x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None) -> Tensor:
    """values[k] for the first boundary k that x does not exceed, the last value beyond."""
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"piecewise_constant: {len(boundaries)} boundaries divide {len(boundaries) + 1} values, not {len(values)}"
        )
    levels = constant(list(values))

    def choose(at: Node) -> Node:
        result = leaf.constant(values[-1], levels.dtype)
        for b, v in reversed(list(zip(boundaries, values, strict=False))):
            result = e.where(e.less_equal(at, leaf.constant(b, at.dtype)), leaf.constant(v, levels.dtype), result)
        return result

    return operation(
        "PiecewiseConstant", choose, [convert(x)], name or "PiecewiseConstant", types=[levels.dtype]
    ).outputs[0]


piecewise_constant_decay = piecewise_constant


class ExponentialMovingAverage:
    """average := decay average + (1 - decay) variable, at each run of `apply`.

    num_updates  a step count t, which makes the decay min(decay, (1 + t) / (10 + t)): quick at first
    """

    def __init__(
        self, decay: Any, num_updates: Any = None, zero_debias: bool = False, name: str = "ExponentialMovingAverage"
    ) -> None:
        if zero_debias:
            raise AttributeError("ExponentialMovingAverage(zero_debias=True) is not built")
        self.decay, self.num_updates, self.name = decay, num_updates, name
        self.averages: dict[Any, Variable] = {}

    def apply(self, var_list: Sequence[Any] | None = None) -> Operation:
        """The operation that brings the averages up to date."""
        chosen = trainable_variables() if var_list is None else list(var_list)
        graph = get_default_graph()
        for v in chosen:
            if v not in self.averages:
                with graph.name_scope(None), graph.control_dependencies(None):
                    first = v.initialized_value() if isinstance(v, Variable) else filling.zeros(v.shape, v.dtype)
                    self.averages[v] = Variable(first, trainable=False, name=self.average_name(v))
                graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, v)
        return group(*[self._step(v) for v in chosen], name=self.name)

    def _step(self, v: Any) -> Operation:
        average = self.averages[v]
        given = [
            convert(self.decay, average.dtype),
            average.value(),
            convert(v),
            *(() if self.num_updates is None else (convert(self.num_updates),)),
        ]

        def mixed(decay: Node, a: Node, x: Node, *count: Node) -> Node:
            if count:
                t = e.cast(count[0], decay.dtype)
                decay = e.minimum(decay, (t + 1.0) / (t + 10.0))
            return a - (a - x) * (1.0 - decay)

        return average.assign(operation("MovingAverage", mixed, given, "AssignMovingAvg").outputs[0]).op

    def average(self, var: Any) -> Variable | None:
        """The variable that holds another's average."""
        return self.averages.get(var)

    def average_name(self, var: Any) -> str:
        return f"{var.op.name}/{self.name}"

    def variables_to_restore(self, moving_avg_variables: Sequence[Variable] | None = None) -> dict[str, Variable]:
        """Names in a checkpoint -> the variables to restore: averages for what has one."""
        graph = get_default_graph()
        averaged = moving_average_variables() if moving_avg_variables is None else list(moving_avg_variables)
        names = {self.average_name(v): v for v in dict.fromkeys([*averaged, *trainable_variables()])}
        others = [v for v in graph.get_collection(GraphKeys.GLOBAL_VARIABLES) if v not in names.values()]
        return {**names, **{v.op.name: v for v in others}}
