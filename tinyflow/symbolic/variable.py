"""Variables: tensors whose value lives in a session from run to run.

    Variable := its leaf, an Assign operation of its first value (`initializer`), and a read (`value()`)

As in TensorFlow 1 a variable named 'W' makes the operations W, W/Assign and W/read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyflow.core.dtypes import bool_
from tinyflow.graph.node import Node
from tinyflow.ops import control, leaf
from tinyflow.symbolic.graph import Graph, GraphKeys, Operation, get_default_graph, session_of
from tinyflow.symbolic.operators import install
from tinyflow.symbolic.shape import TensorShape, as_dims
from tinyflow.symbolic.tensor import Tensor, as_dtype, convert, operation, string, tensor


class Variable:
    """A tensor whose value lives in a session from run to run.

    initial_value  a tensor, an array or a number, or a function that makes one; its shape and type are the variable's
    trainable      whether optimizers change it by default
    collections    where it is listed; GraphKeys.GLOBAL_VARIABLES by default
    name           'Variable' by default
    dtype          what the initial value is made of
    shape          where the initial value's own is not known
    """

    __array_priority__ = 100

    def __init__(
        self, initial_value: Any = None, trainable: bool | None = None, collections: Sequence[str] | None = None,
        validate_shape: bool = True, caching_device: Any = None, name: str | None = None, variable_def: Any = None,
        dtype: Any = None, expected_shape: Any = None, import_scope: str | None = None, constraint: Callable[..., Any]
        | None = None, use_resource: bool | None = None, synchronization: Any = None, aggregation: Any = None, shape:
        Any = None,
    ) -> None:  # fmt: skip
        if initial_value is None:
            raise ValueError("a Variable wants an initial_value: a tensor, an array, or a function that makes one")
        self.graph: Graph = get_default_graph()
        self.trainable = True if trainable is None else bool(trainable)
        self.constraint = constraint
        with (
            self.graph.control_dependencies(None),
            self.graph.name_scope(self.graph.unique_name(name or "Variable") + "/"),
        ):
            self._make(initial_value, None if dtype is None else as_dtype(dtype), TensorShape(shape))
        listed = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if self.trainable and GraphKeys.TRAINABLE_VARIABLES not in listed:
            listed.append(GraphKeys.TRAINABLE_VARIABLES)
        self.graph.add_to_collections(listed, self)

    def _make(self, value: Any, dtype: Any, shape: TensorShape) -> None:
        """The operations, in the scope that bears the variable's name."""
        full = self.graph._scope
        self.initial_value = value = convert(value() if callable(value) else value, dtype, "initial_value")
        if value.node is None and shape.dims is None:
            raise ValueError(
                f"the initial value of {full!r} has a shape that is not known, not even its rank; give the Variable a shape"
            )
        if value.dtype is string:
            raise TypeError(f"{full!r}: a variable holds numbers, not strings")
        dims = (
            as_dims(shape)
            if shape.dims is not None
            else tuple(n if isinstance(n, int) else None for n in value.node.shape)
        )
        self.dtype = value.dtype
        node = leaf.variable(value.dtype, as_dims(dims), full)
        self._ref = tensor("VariableV2", lambda: node, (), full + "/", graph=self.graph)
        self._initializer = assignment("Assign", self, value, lambda old, new: new, "Assign").op
        self._snapshot = tensor("Identity", lambda n: n, [self._ref], "read")
        self.graph.state.setdefault("variables", {})[node] = self

    # ------------------------------------------------------------------------------ what it is

    @property
    def op(self) -> Operation:
        return self._ref.op

    @property
    def name(self) -> str:
        return self._ref.name

    @property
    def node(self) -> Node:
        return self._ref.node

    @property
    def shape(self) -> TensorShape:
        return self._ref.shape

    def get_shape(self) -> TensorShape:
        return self._ref.shape

    def set_shape(self, shape: Any) -> None:
        self._ref.set_shape(shape)

    @property
    def device(self) -> str:
        return ""

    @property
    def initializer(self) -> Operation:
        """The operation that gives it its first value."""
        return self._initializer

    def _as_graph_element(self) -> Tensor:
        return self._ref

    # ------------------------------------------------------------------------------ reading

    def value(self) -> Tensor:
        """Its value: what it was when the run began, or what the operations left that control_dependencies names."""
        block = self.graph._controls[-1] if self.graph._controls else None
        if block is None:
            return self._snapshot
        if self not in block.reads:
            block.reads[self] = self.read_value()
        return block.reads[self]

    _as_tensor = value

    def read_value(self) -> Tensor:
        """Its value, read by an operation of its own."""
        return tensor("Identity", lambda n: n, [self._ref], f"{self.op.name.rsplit('/', 1)[-1]}/read")

    def initialized_value(self) -> Tensor:
        """Its value, or its initial value where it has none yet: for the initial value of another variable."""
        return initialized_value(self)

    def eval(self, session: Any = None) -> Any:
        """Its value in a session, by default the default one."""
        return session_of(session, self).run(self)

    # ------------------------------------------------------------------------------ writing

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Tensor:
        """The operation that gives it a value; as a tensor, the value."""
        return assign(self, value, name=name)

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Tensor:
        return assign_add(self, delta, name=name)

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Tensor:
        return assign_sub(self, delta, name=name)

    def load(self, value: Any, session: Any = None) -> None:
        """Give it a value in a session at once, without a graph."""
        session_of(session, self).load(self, value)

    def __repr__(self) -> str:
        return f"<tf.Variable {self.name!r} shape={self.shape} dtype={self.dtype}>"

    def __iter__(self) -> Any:
        raise TypeError(f"the variable {self.name!r} is not iterable; tf.unstack(variable) gives its slices")

    def __len__(self) -> int:
        raise TypeError(f"the variable {self.name!r} has no len(); use variable.get_shape()[0].value")

    __bool__ = Tensor.__bool__
    __array__ = Tensor.__array__
    __float__ = Tensor.__float__
    __int__ = Tensor.__int__


install(Variable)


# ------------------------------------------------------------------------------------------ assignment


def assignment(kind: str, ref: Any, value: Any, new: Callable[[Node, Node], Node], name: str | None) -> Tensor:
    """The operation variable := new(its value, the value given). Inside a branch of cond it happens on that side only."""
    if not isinstance(ref, Variable):
        found = getattr(ref, "graph", get_default_graph()).state.get("variables", {}).get(getattr(ref, "node", None))
        if found is None:
            raise ValueError(f"{kind}: only a variable takes a value, {ref!r} is none")
        ref = found
    given = convert(value, ref.dtype)
    branch = ref.graph._branch
    if branch is not None:
        given = branch.alive(given)
    fits(ref, given)
    inputs = [ref._ref, given] if kind == "Assign" else [ref._ref, given, ref.value()]
    op = operation(kind, lambda _, x, read=None: control.assign(ref.node, new(read, x)), inputs, name or kind)
    ref.graph.state.setdefault("writes", {})[op] = (ref,)
    return op.outputs[0]


def fits(variable: Variable, value: Tensor) -> None:
    if not variable.shape.is_compatible_with(value.shape):
        raise ValueError(
            f"the variable {variable.name!r} ({variable.op.where}) has shape {variable.shape}; "
            f"a value of shape {value.shape} ({value.name!r}) does not fit it"
        )


def assign(
    ref: Any, value: Any, validate_shape: bool | None = None, use_locking: bool | None = None, name: str | None = None
) -> Tensor:
    """The operation that gives a variable a value; as a tensor, the value. ValueError if the shapes differ."""
    return assignment("Assign", ref, value, lambda old, new: new, name)


def assign_add(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Tensor:
    """variable := variable + value"""
    return assignment("AssignAdd", ref, value, lambda old, new: old + new, name)


def assign_sub(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Tensor:
    """variable := variable - value"""
    return assignment("AssignSub", ref, value, lambda old, new: old - new, name)


# ------------------------------------------------------------------------------------------ first values


def variables_initializer(var_list: Sequence[Variable], name: str = "init") -> Operation:
    """The operation that gives variables their first values."""
    from tinyflow.symbolic.control import group

    return group(*[v.initializer for v in var_list], name=name)


def global_variables(scope: str | None = None) -> list[Variable]:
    """All variables of the default graph but local ones; with a scope, those whose names begin with it."""
    return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Variable]:
    """The variables that optimizers change by default."""
    return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[Variable]:
    return get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Variable]:
    return get_default_graph().get_collection(GraphKeys.MODEL_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Variable]:
    return get_default_graph().get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def global_variables_initializer() -> Operation:
    """The operation that gives all global variables their first values."""
    return variables_initializer(global_variables())


def local_variables_initializer() -> Operation:
    return variables_initializer(local_variables())


def all_variables() -> list[Variable]:
    """The old name of global_variables."""
    return global_variables()


def initialize_all_variables() -> Operation:
    """The old name of global_variables_initializer."""
    return global_variables_initializer()


def initialize_variables(var_list: Sequence[Variable], name: str = "init") -> Operation:
    return variables_initializer(var_list, name)


def initialize_local_variables() -> Operation:
    return local_variables_initializer()


# ------------------------------------------------------------------------------------------ has it a value?


def is_variable_initialized(variable: Variable) -> Tensor:
    """Whether a variable has a value in the session, as a bool tensor."""
    graph, node = variable.graph, variable.node
    made = graph.state.setdefault("initialized", {})
    if node not in made:
        flag = leaf.placeholder(bool_, (), f"{variable.op.name}/initialized")
        graph.sources[flag] = lambda session, feeds: np.array(node in session.store)
        made[node] = flag
    return tensor("IsVariableInitialized", lambda _: made[node], [variable._ref], types=[bool_])


def initialized_value(variable: Variable) -> Tensor:
    from tinyflow.symbolic.control import cond

    with variable.graph.as_default():
        return cond(is_variable_initialized(variable), lambda: variable.value(), lambda: variable.initial_value)


def report_uninitialized_variables(
    var_list: Sequence[Variable] | None = None, name: str = "report_uninitialized_variables"
) -> Tensor:
    """The names of the variables without a value, as a vector of strings."""
    variables = global_variables() + local_variables() if var_list is None else list(var_list)
    flags = [is_variable_initialized(v) for v in variables]

    def names(*has: Any) -> Any:
        return np.array([v.op.name.encode() for v, h in zip(variables, has, strict=True) if not h], dtype=object)

    return tensor("ReportUninitialized", None, flags, name, host=names, types=[string])


def assert_variables_initialized(var_list: Sequence[Variable] | None = None) -> Tensor:
    return report_uninitialized_variables(var_list)
