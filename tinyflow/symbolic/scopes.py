"""Variable scopes: variables by name, made once and shared.

with tf.variable_scope("layer"):
    w = tf.get_variable("w", [3, 4])        layer/w
with tf.variable_scope("layer", reuse=True):
    w is tf.get_variable("w", [3, 4])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.core import dtypes
from tinyflow.symbolic import initializers
from tinyflow.symbolic.graph import Graph, GraphKeys, get_default_graph
from tinyflow.symbolic.shape import TensorShape
from tinyflow.symbolic.tensor import Tensor, as_dtype, convert
from tinyflow.symbolic.variable import Variable


class AutoReuse:
    """Of a variable scope: make a variable the first time, take it from then on."""

    def __repr__(self) -> str:
        return "AUTO_REUSE"


AUTO_REUSE = AutoReuse()


class VariableScope:
    """What get_variable goes by: a prefix of names, whether variables are shared, and defaults."""

    def __init__(
        self, reuse: Any, name: str = "", initializer: Any = None, regularizer: Any = None, custom_getter: Any = None,
        dtype: Any = dtypes.float32, constraint: Any = None, name_scope: str = "",
    ) -> None:  # fmt: skip
        self.reuse, self.name, self.initializer, self.regularizer = reuse, name, initializer, regularizer
        self.custom_getter, self.dtype, self.constraint = custom_getter, dtype, constraint
        self.original_name_scope = name_scope
        self.use_resource = self.caching_device = self.partitioner = None

    def reuse_variables(self) -> None:
        """From now on variables are shared in this scope."""
        self.reuse = True

    def set_initializer(self, initializer: Any) -> None:
        self.initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        self.regularizer = regularizer

    def set_dtype(self, dtype: Any) -> None:
        self.dtype = dtype

    def set_custom_getter(self, custom_getter: Any) -> None:
        self.custom_getter = custom_getter

    def get_collection(self, name: str) -> list[Any]:
        return get_default_graph().get_collection(name, self.name + "/" if self.name else None)

    def trainable_variables(self) -> list[Variable]:
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def global_variables(self) -> list[Variable]:
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)


class Scopes:
    """What a graph knows of variable scopes: the current one, the variables by name, and how often a scope was opened."""

    def __init__(self) -> None:
        self.current = VariableScope(reuse=False)
        self.variables: dict[str, Variable] = {}
        self.opened: dict[str, int] = {}

    def unique(self, default_name: str) -> str:
        """A name for a scope that has not been opened yet in the current one."""
        prefix = f"{self.current.name}/" if self.current.name else ""
        name, count = default_name, 0
        while self.opened.get(prefix + name, 0):
            count += 1
            name = f"{default_name}_{count}"
        return name


def scopes(graph: Graph) -> Scopes:
    if "scopes" not in graph.state:
        graph.state["scopes"] = Scopes()
    return graph.state["scopes"]


def get_variable_scope() -> VariableScope:
    """The current variable scope of the default graph."""
    return scopes(get_default_graph()).current


class variable_scope:
    """The block in which get_variable's names begin with `name/`, and tf.name_scope(name) holds.

    name_or_scope  a name, or a scope to enter again; None takes default_name, with a number if it was taken
    reuse          True: variables must be there; AUTO_REUSE: made if they are not; None: as around
    initializer, regularizer, dtype, custom_getter, constraint: defaults of get_variable
    """

    def __init__(
        self, name_or_scope: Any, default_name: str | None = None, values: Any = None, initializer: Any = None,
        regularizer: Any = None, caching_device: Any = None, partitioner: Any = None, custom_getter: Any = None,
        reuse: Any = None, dtype: Any = None, use_resource: Any = None, constraint: Any = None, auxiliary_name_scope:
        bool = True,
    ) -> None:  # fmt: skip
        if name_or_scope is None and default_name is None:
            raise TypeError("variable_scope wants a name, or a default_name where the name is None")
        self.given, self.default_name, self.reuse, self.named = name_or_scope, default_name, reuse, auxiliary_name_scope
        self.defaults = dict(
            initializer=initializer,
            regularizer=regularizer,
            custom_getter=custom_getter,
            dtype=dtype,
            constraint=constraint,
        )

    def __enter__(self) -> VariableScope:
        graph = self.graph = get_default_graph()
        self.scopes = scopes(graph)
        outer = self.before = self.scopes.current
        again = isinstance(self.given, VariableScope)
        if self.given is None:
            part = self.scopes.unique(self.default_name or "")
        else:
            part = self.given.name if again else self.given
        full = part if again else f"{outer.name}/{part}" if outer.name and part else outer.name or part
        base = self.given if again else outer
        self.names = graph.name_scope(
            (part.rsplit("/", 1)[-1] or None) if part and self.named else (graph._scope + "/" if graph._scope else None)
        )
        name_scope = self.names.__enter__()
        reuse = base.reuse if self.reuse is None else self.reuse
        if outer.reuse is True and not again and self.reuse in (None, False):
            reuse = True  # sharing is inherited
        kept = {k: getattr(base, k) if v is None else v for k, v in self.defaults.items()}
        if self.defaults["custom_getter"] is not None and base.custom_getter is not None:
            kept["custom_getter"] = chained(self.defaults["custom_getter"], base.custom_getter)
        self.scopes.current = VariableScope(reuse, full, name_scope=name_scope, **kept)
        self.scopes.opened[full] = self.scopes.opened.get(full, 0) + 1
        return self.scopes.current

    def __exit__(self, *exception: Any) -> None:
        self.names.__exit__(*exception)
        inside = self.scopes.current.name + "/"
        for name in self.scopes.opened:
            if name.startswith(inside):
                self.scopes.opened[name] = 0
        self.scopes.current = self.before


def chained(inner: Callable[..., Any], outer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda getter, *args, **kwargs: outer(lambda *a, **k: inner(getter, *a, **k), *args, **kwargs)


def variable_op_scope(values: Any, name_or_scope: Any, default_name: str | None = None, **how: Any) -> variable_scope:
    return variable_scope(name_or_scope, default_name, values, **how)


def get_variable(
    name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, regularizer: Any = None, trainable: bool
    | None = None, collections: Sequence[str] | None = None, caching_device: Any = None, partitioner: Any = None,
    validate_shape: bool = True, use_resource: Any = None, custom_getter: Any = None, constraint: Any = None,
    synchronization: Any = None, aggregation: Any = None,
) -> Variable:  # fmt: skip
    """The variable of a name in the current scope: made, or, where the scope shares variables, taken.

    initializer  a function of (shape, dtype), or a value; by default the scope's, else Glorot's uniform one (zeros for ints)
    regularizer  a function of the variable, whose value joins the collection REGULARIZATION_LOSSES

    Raises ValueError if the variable is there and the scope does not share, or the reverse, or shapes or types differ.
    """
    scope = get_variable_scope()
    full = f"{scope.name}/{name}" if scope.name else name
    how: dict[str, Any] = dict(
        shape=shape, dtype=scope.dtype if dtype is None else dtype, initializer=scope.initializer if initializer is None else initializer,
        regularizer=scope.regularizer if regularizer is None else regularizer, trainable=trainable, collections=collections,
        constraint=scope.constraint if constraint is None else constraint, reuse=scope.reuse,
    )  # fmt: skip
    getter = custom_getter or scope.custom_getter
    if getter is not None:
        return getter(
            lambda name, *args, **changed: found_or_made(
                name, **{**how, **dict(zip(("shape", "dtype"), args, strict=False)), **changed}
            ),
            full,
            **how,
        )
    return found_or_made(full, **how)


def found_or_made(
    full: str, shape: Any = None, dtype: Any = None, initializer: Any = None, regularizer: Any = None, trainable: bool
    | None = None, collections: Any = None, constraint: Any = None, reuse: Any = None, **_: Any,
) -> Variable:  # fmt: skip
    store = scopes(get_default_graph()).variables
    there = store.get(full)
    if there is None and reuse is True:
        raise ValueError(
            f"there is no variable {full!r} to reuse: get_variable did not make one. Use reuse=tf.AUTO_REUSE to make it the first time"
        )
    if there is not None and not reuse:
        raise ValueError(
            f"the variable {full!r} exists already, made by {there.op.where}. To share it, use "
            "`with tf.variable_scope(..., reuse=tf.AUTO_REUSE):`; to start over (in a notebook), tf.reset_default_graph()"
        )
    if there is not None:
        return agreed(there, shape, dtype)
    made = store[full] = create(full, shape, dtype, initializer, trainable, collections, constraint)
    if regularizer is not None:
        with get_default_graph().name_scope(full + "/Regularizer/"):
            loss = regularizer(made.value())
        if loss is not None:
            made.graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return made


def agreed(variable: Variable, shape: Any, dtype: Any) -> Variable:
    if shape is not None and not variable.shape.is_compatible_with(TensorShape(shape)):
        raise ValueError(
            f"the variable {variable.name!r} ({variable.op.where}) has shape {variable.shape}, and {TensorShape(shape)} is wanted"
        )
    if dtype is not None and as_dtype(dtype) is not variable.dtype:
        raise ValueError(
            f"the variable {variable.name!r} ({variable.op.where}) is of type {variable.dtype}, and {as_dtype(dtype)} is wanted"
        )
    return variable


def create(
    full: str, shape: Any, dtype: Any, initializer: Any, trainable: Any, collections: Any, constraint: Any
) -> Variable:
    graph = get_default_graph()
    want = as_dtype(dtype)
    if initializer is None:
        initializer = initializers.glorot_uniform() if want.is_floating else initializers.Zeros()
    if isinstance(initializer, type):
        initializer = initializer()
    known = shape is not None and TensorShape(shape).is_fully_defined()
    if callable(initializer) and not isinstance(initializer, Tensor | Variable):
        if not known:
            raise ValueError(f"the shape of the variable {full!r} is {shape}; get_variable wants all its sizes")
        sizes = TensorShape(shape).as_list()
        value: Any = lambda: initial(initializer, sizes, want)
    else:
        value = convert(initializer) if not isinstance(initializer, Tensor) else initializer
        value = (
            convert(initializer, want)
            if value.dtype is not want and not isinstance(initializer, Tensor | Variable)
            else value
        )
        if shape is not None and not value.shape.is_compatible_with(shape):
            raise ValueError(f"the variable {full!r} has shape {TensorShape(shape)}, and its initializer {value.shape}")
    with graph.name_scope(None):
        return Variable(value, trainable, collections, name=full, constraint=constraint)


def initial(initializer: Any, shape: Any, dtype: Any) -> Any:
    """An initializer's value; a plain function may take the shape alone, or nothing."""
    import inspect

    try:
        takes = inspect.signature(initializer).parameters
    except (TypeError, ValueError):
        return initializer(shape, dtype)
    if not takes:
        return initializer()
    return (
        initializer(shape, dtype=dtype)
        if "dtype" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values())
        else initializer(shape)
    )


def get_local_variable(
    name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, **how: Any
) -> Variable:
    """A variable of the collection LOCAL_VARIABLES, not trained."""
    how.setdefault("collections", [GraphKeys.LOCAL_VARIABLES])
    return get_variable(
        name, shape, dtype, initializer, trainable=False, **{k: v for k, v in how.items() if k != "trainable"}
    )


def no_regularizer(_: Any) -> None:
    return None


def make_template(
    name_: str, func_: Callable[..., Any], create_scope_now_: bool = False, unique_name_: str | None = None, **kwargs:
    Any,
) -> Callable[..., Any]:  # fmt: skip
    """func_, whose variables are made at its first call and shared from then on."""
    state: dict[str, Any] = {}

    def call(*args: Any, **named: Any) -> Any:
        with variable_scope(
            state.get("scope"), default_name=name_ if not state else None, reuse=True if state else None
        ) as scope:
            result = func_(*args, **{**kwargs, **named})
            state.setdefault("scope", scope)
            return result

    return call
