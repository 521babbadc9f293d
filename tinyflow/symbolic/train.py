"""Optimizers: each is one formula, and the variables (slots) that it keeps beside every variable it trains.

    minimize(loss) = apply_gradients(compute_gradients(loss))

A step of an optimizer is one operation for each variable: its update, which writes the variable and its slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from tinyflow.core import dtypes
from tinyflow.graph.node import Node
from tinyflow.ops import control
from tinyflow.ops import elementwise as e
from tinyflow.ops import movement as m
from tinyflow.passes.gradient import broken_path
from tinyflow.symbolic import filling, gradient
from tinyflow.symbolic.control import group
from tinyflow.symbolic.graph import GraphKeys, Operation, get_default_graph
from tinyflow.symbolic.tensor import Tensor, constant, convert, operation, scalar
from tinyflow.symbolic.variable import Variable, assign_add, trainable_variables

Nodes = Mapping[str, Node]


class Optimizer:
    """What all optimizers have in common.

    A subclass has `numbers`, its hyperparameters (numbers or scalar tensors); `slots`, name -> initial value; and
    `update(v, g, slots, numbers)` -> the variable's and the slots' new values, by name.
    """

    GATE_NONE, GATE_OP, GATE_GRAPH = 0, 1, 2
    slots: Mapping[str, float] = MappingProxyType({})
    shared: Mapping[str, str] = MappingProxyType(
        {}
    )  # slots of the optimizer as a whole -> the hyperparameter they begin with

    def __init__(self, name: str, use_locking: bool = False, **numbers: Any) -> None:
        self._name, self.numbers = name, numbers
        self._slots: dict[tuple[Variable, str], Variable] = {}
        self._shared: dict[tuple[Any, str], Variable] = {}

    def update(self, v: Node, g: Node, slots: Nodes, numbers: Nodes) -> Nodes:
        raise NotImplementedError

    def get_name(self) -> str:
        return self._name

    def minimize(
        self, loss: Any, global_step: Any = None, var_list: Any = None, gate_gradients: int = 1, aggregation_method:
        Any = None, colocate_gradients_with_ops: bool = False, name: str | None = None, grad_loss: Any = None,
    ) -> Operation:  # fmt: skip
        """The operation of one step against the gradient of the loss; global_step, if given, counts up by one.

        Raises ValueError if no variable has a gradient, saying at which operation the way to each ends.
        """
        pairs = self.compute_gradients(loss, var_list, grad_loss=grad_loss)
        if not any(g is not None for g, _ in pairs):
            raise ValueError(
                f"No gradients provided for any variable: {convert(loss).name!r} reaches none of them.\n"
                + "\n".join(f"  {v.name}: {broken(convert(loss), v)}" for _, v in pairs)
            )
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(
        self, loss: Any, var_list: Any = None, gate_gradients: int = 1, aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False, grad_loss: Any = None,
    ) -> list[tuple[Tensor | None, Variable]]:  # fmt: skip
        """(gradient, variable) for every trainable variable, or for those given; the gradient is None where there is none."""
        chosen = trainable_variables() if var_list is None else gradient.listed(var_list)
        if not chosen:
            raise ValueError("there are no variables to optimize; tf.Variable(...) makes one")
        return list(zip(gradient.gradients(loss() if callable(loss) else loss, chosen, grad_loss), chosen, strict=True))

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: str | None = None) -> Operation:
        """The operation that updates the variables by the gradients given."""
        pairs = [(g, v) for g, v in grads_and_vars if g is not None]
        if not pairs:
            raise ValueError(f"No gradients provided for any variable: {[v.name for _, v in grads_and_vars]}")
        graph = get_default_graph()
        with graph.control_dependencies(None):
            for _, v in pairs:
                self._prepare(v)
        with graph.name_scope(name or self._name) as scope:
            numbers = {k: hyperparameter(n, k) for k, n in self.numbers.items()}
            shared: ClassVar = {k: self._shared[pairs[0][1].graph, k] for k in self.shared}
            updates = [self._apply(v, g, numbers, shared) for g, v in pairs]
            updates += self._finish(updates, shared, numbers)
            if global_step is None:
                return group(*updates, name=scope)
            with graph.control_dependencies([group(*updates, name="update")]):
                return assign_add(global_step, 1, name=scope).op

    def _prepare(self, v: Variable) -> None:
        """Make the slots of a variable, and the shared ones."""
        for k, number in self.shared.items():
            if (v.graph, k) not in self._shared:
                first = self.numbers[number]
                self._shared[v.graph, k] = Variable(first() if callable(first) else first, trainable=False, name=k)
        for k, first in self.slots.items():
            if (v, k) not in self._slots:
                with v.graph.name_scope(None):
                    value = filling.fill(v.shape, constant(first, v.dtype))
                    self._slots[v, k] = Variable(value, trainable=False, name=f"{v.op.name}/{self._name}")

    def _apply(
        self, v: Variable, g: Tensor, numbers: Mapping[str, Tensor], shared: Mapping[str, Variable]
    ) -> Operation:
        """The update of one variable."""
        kept = {k: self._slots[v, k] for k in self.slots}
        held = {"": v, **kept}
        given = [convert(g), *(x.value() for x in (*held.values(), *shared.values())), *numbers.values()]

        def meaning(grad: Node, old: Node, *rest: Node) -> Node:
            count = len(kept) + len(shared)
            slots = dict(zip((*kept, *shared), (e.cast(n, old.dtype) for n in rest[:count]), strict=True))
            new = self.update(
                old,
                matched(grad, old),
                slots,
                {k: e.cast(n, old.dtype) for k, n in zip(numbers, rest[count:], strict=True)},
            )
            return control.group(*(control.assign(x.node, new[k]) for k, x in held.items() if k in new))

        op = operation(
            f"Apply{type(self).__name__.removesuffix('Optimizer')}", meaning, given, f"update_{v.op.name}", types=[]
        )
        v.graph.state.setdefault("writes", {})[op] = (v, *kept.values())
        return op

    def _finish(
        self, updates: Sequence[Operation], shared: Mapping[str, Variable], numbers: Mapping[str, Tensor]
    ) -> list[Operation]:
        """Shared slots go on once all variables are updated."""
        graph = get_default_graph()
        done = []
        for k, v in shared.items():
            with graph.control_dependencies(updates):
                done.append(v.assign(v.value() * numbers[self.shared[k]]).op)
        return done

    def get_slot(self, var: Variable, name: str) -> Variable | None:
        """The slot variable that is kept beside a variable."""
        return self._slots.get((var, name))

    def get_slot_names(self) -> list[str]:
        return sorted({k for _, k in self._slots})

    def variables(self) -> list[Variable]:
        """The variables that the optimizer itself keeps."""
        return [*self._shared.values(), *self._slots.values()]


def hyperparameter(value: Any, name: str) -> Tensor:
    """A number, or a tensor that is one, or a function that gives one."""
    value = value() if callable(value) else value
    return scalar(value) if isinstance(value, Tensor | Variable) else convert(value, dtypes.float32, name)


def matched(grad: Node, old: Node) -> Node:
    """A gradient in the variable's type, and shape."""
    return m.expand(e.cast(grad, old.dtype), old.shape)


def broken(loss: Tensor, v: Variable) -> str:
    """Where the way of the gradient from the loss to a variable ends, in words."""
    if loss.node is None:
        return "the loss does not depend on it"
    at = broken_path(loss.node, v.node)
    if at is None:
        return "the loss does not depend on it"
    named = next((op for op in loss.graph._operations if op.nodes and at in op.nodes), None)
    who = f"{named.name} ({named.type}, {named.where})" if named else f"{at.op.name} ({at.where})"
    why = f"it gives {at.dtype}, and only floats have gradients" if not at.dtype.is_floating else "it has no gradient"
    return f"the path ends at {who}: {why}"


# ------------------------------------------------------------------------------------------ the formulas


class GradientDescentOptimizer(Optimizer):
    """v := v - lr g"""

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent") -> None:
        super().__init__(name, learning_rate=learning_rate)

    def update(self, v: Node, g: Node, slots: Nodes, numbers: Nodes) -> Nodes:
        return {"": v - numbers["learning_rate"] * g}


class MomentumOptimizer(Optimizer):
    """a := momentum a + g;  v := v - lr a       (Nesterov: v := v - lr (g + momentum a))"""

    slots: ClassVar = {"momentum": 0.0}

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(name, learning_rate=learning_rate, momentum=momentum)
        self.nesterov = use_nesterov

    def update(self, v: Node, g: Node, slots: Nodes, numbers: Nodes) -> Nodes:
        lr, mu = numbers["learning_rate"], numbers["momentum"]
        a = slots["momentum"] * mu + g
        return {"": v - (g * lr + a * mu * lr if self.nesterov else lr * a), "momentum": a}


class AdamOptimizer(Optimizer):
    """m := m + (1 - b1)(g - m);  v := v + (1 - b2)(g² - v);  w := w - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon)

    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", in the form before its section 2.1's last remark.
    """

    slots: ClassVar = {"m": 0.0, "v": 0.0}
    shared: ClassVar = {"beta1_power": "beta1", "beta2_power": "beta2"}

    def __init__(
        self, learning_rate: Any = 0.001, beta1: Any = 0.9, beta2: Any = 0.999, epsilon: Any = 1e-08, use_locking:
        bool = False, name: str = "Adam",
    ) -> None:  # fmt: skip
        super().__init__(name, learning_rate=learning_rate, beta1=beta1, beta2=beta2, epsilon=epsilon)

    def update(self, v: Node, g: Node, slots: Nodes, numbers: Nodes) -> Nodes:
        lr, b1, b2, epsilon = (numbers[k] for k in ("learning_rate", "beta1", "beta2", "epsilon"))
        rate = lr * e.sqrt(1.0 - slots["beta2_power"]) / (1.0 - slots["beta1_power"])
        first = slots["m"] + (g - slots["m"]) * (1.0 - b1)
        second = slots["v"] + (g * g - slots["v"]) * (1.0 - b2)
        return {"": v - rate * first / (e.sqrt(second) + epsilon), "m": first, "v": second}


class AdagradOptimizer(Optimizer):
    """a := a + g²;  v := v - lr g / sqrt(a)"""

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        super().__init__(name, learning_rate=learning_rate)
        self.slots = {"accumulator": initial_accumulator_value}

    def update(self, v: Node, g: Node, slots: Nodes, numbers: Nodes) -> Nodes:
        a = slots["accumulator"] + g * g
        return {"": v - numbers["learning_rate"] * g / e.sqrt(a), "accumulator": a}


class AdadeltaOptimizer(Optimizer):
    """a := rho a + (1 - rho) g²;  d := sqrt(u + epsilon) / sqrt(a + epsilon) g;  u := rho u + (1 - rho) d²;  v := v - lr d"""

    slots: ClassVar = {"accum": 0.0, "accum_update": 0.0}

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Any = 0.95,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
    ) -> None:
        super().__init__(name, learning_rate=learning_rate, rho=rho, epsilon=epsilon)

    def update(self, v: Node, g: Node, slots: Nodes, numbers: Nodes) -> Nodes:
        lr, rho, epsilon = (numbers[k] for k in ("learning_rate", "rho", "epsilon"))
        a = rho * slots["accum"] + (1.0 - rho) * g * g
        d = e.sqrt(slots["accum_update"] + epsilon) / e.sqrt(a + epsilon) * g
        return {"": v - lr * d, "accum": a, "accum_update": rho * slots["accum_update"] + (1.0 - rho) * d * d}


class RMSPropOptimizer(Optimizer):
    """s := decay s + (1 - decay) g²;  a := momentum a + lr g / sqrt(s + epsilon);  v := v - a

    Centered, the square of a running mean of g is taken off s under the root.
    """

    def __init__(
        self, learning_rate: Any, decay: Any = 0.9, momentum: Any = 0.0, epsilon: Any = 1e-10, use_locking: bool =
        False, centered: bool = False, name: str = "RMSProp",
    ) -> None:  # fmt: skip
        super().__init__(name, learning_rate=learning_rate, decay=decay, momentum=momentum, epsilon=epsilon)
        self.slots = {"rms": 1.0, **({"mg": 0.0} if centered else {}), "momentum": 0.0}

    def update(self, v: Node, g: Node, slots: Nodes, numbers: Nodes) -> Nodes:
        lr, decay, mu, epsilon = (numbers[k] for k in ("learning_rate", "decay", "momentum", "epsilon"))
        s = slots["rms"] + (g * g - slots["rms"]) * (1.0 - decay)
        new, under = {"rms": s}, s
        if "mg" in slots:
            mean = new["mg"] = slots["mg"] + (g - slots["mg"]) * (1.0 - decay)
            under = s - mean * mean
        a = slots["momentum"] * mu + lr * g / e.sqrt(under + epsilon)
        return {"": v - a, "momentum": a, **new}


# ------------------------------------------------------------------------------------------ counting steps


def create_global_step(graph: Any = None) -> Variable:
    """The variable 'global_step', which counts steps."""
    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise ValueError("there is a global_step already; use get_or_create_global_step")
    with graph.as_default(), graph.name_scope(None):
        listed = [GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP]
        return Variable(constant(0, dtypes.int64), trainable=False, name="global_step", collections=listed)


def get_global_step(graph: Any = None) -> Variable | None:
    """The variable that counts steps, or None."""
    graph = graph or get_default_graph()
    found = graph.get_collection(GraphKeys.GLOBAL_STEP) or [
        v for v in graph.get_collection(GraphKeys.GLOBAL_VARIABLES) if v.name == "global_step:0"
    ]
    return found[0] if found else None


def get_or_create_global_step(graph: Any = None) -> Variable:
    found = get_global_step(graph)
    return create_global_step(graph) if found is None else found


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """How many steps were taken in a session."""
    return int(sess.run(global_step_tensor))
