"""Graph and Operation: the graph as it was written down, with names.

    Graph     := Operation*, scopes, collections, seed
    Operation := name, type, inputs: Tensor*, control_inputs: Operation*, meaning -> outputs: Tensor*

An operation's `nodes` are what it computes. Its `meaning` makes them from its inputs' nodes, and can make them again
from others: with the rank of what is fed, with sizes that broadcast, with a tensor overridden (see world.py).
Operations with equal meaning share their nodes, so they are computed once; their names stay their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from tinyflow.core.errors import Where, user_line
from tinyflow.graph.node import Node

if TYPE_CHECKING:
    from tinyflow.symbolic.control import Branch
    from tinyflow.symbolic.tensor import Tensor


class GraphKeys:
    """The names of the collections that the library itself fills or reads."""

    GLOBAL_VARIABLES = "variables"
    VARIABLES = "variables"
    LOCAL_VARIABLES = "local_variables"
    MODEL_VARIABLES = "model_variables"
    TRAINABLE_VARIABLES = "trainable_variables"
    MOVING_AVERAGE_VARIABLES = "moving_average_variables"
    SUMMARIES = "summaries"
    UPDATE_OPS = "update_ops"
    LOSSES = "losses"
    REGULARIZATION_LOSSES = "regularization_losses"
    WEIGHTS = "weights"
    BIASES = "biases"
    ACTIVATIONS = "activations"
    TRAIN_OP = "train_op"
    GLOBAL_STEP = "global_step"
    INIT_OP = "init_op"
    LOCAL_INIT_OP = "local_init_op"
    TABLE_INITIALIZERS = "table_initializer"
    QUEUE_RUNNERS = "queue_runners"
    SAVERS = "savers"
    COND_CONTEXT = "cond_context"
    ASSET_FILEPATHS = "asset_filepaths"
    EVAL_STEP = "eval_step"
    CONCATENATED_VARIABLES = "concatenated_variables"


class Operation:
    """One operation of a graph. `nodes` is None while the rank of an input is not known."""

    __slots__ = ("_device", "branch", "control_inputs", "graph", "host", "index", "inputs", "meaning", "name", "nodes",
                 "outputs", "type", "where", "worldly")  # fmt: skip

    graph: Graph
    name: str
    type: str
    inputs: tuple[Tensor, ...]
    control_inputs: tuple[Operation, ...]
    meaning: Callable[..., Any]
    worldly: bool  # the meaning takes the world itself: it looks further back than its inputs
    host: Callable[..., Any] | None  # computed by Python after the run, from the values of the inputs
    nodes: tuple[Node, ...] | None
    outputs: list[Tensor]
    where: Where
    branch: Branch | None
    index: int  # its place in the graph: inputs have smaller ones

    @property
    def node(self) -> Node | None:
        """What it computes, its first output."""
        return None if self.nodes is None else self.nodes[0]

    @property
    def device(self) -> str:
        return ""

    @property
    def op(self) -> Operation:
        return self

    def values(self) -> list[Tensor]:
        return list(self.outputs)

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run it in a session, by default the default one."""
        session_of(session, self).run(self, feed_dict)

    def get_attr(self, name: str) -> Any:
        raise ValueError(f"{self.name} has no attribute {name!r}: attributes are part of its node, {self.node}")

    def __repr__(self) -> str:
        return f"<tf.Operation {self.name!r} type={self.type}>"


class Graph:
    """A dataflow graph: operations in the order of their making, their names, and what belongs to them."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._by_name: dict[str, Operation] = {}
        self._names: dict[str, int] = {}
        self._collections: dict[Any, list[Any]] = {}
        self._scope = ""
        self._controls: tuple[Controls, ...] = ()
        self._branch: Branch | None = None
        self._finalized = False
        self.seed: int | None = None
        self.random_count = 0
        self.sources: dict[Node, Callable[[Any], Any]] = {}  # leaves that a session feeds by itself, at each run
        self.state: dict[str, Any] = {}  # what other modules keep for a graph: variable scopes, worlds

    # ---------------------------------------------------------------------------------- operations

    @property
    def version(self) -> int:
        return len(self._operations)

    def add(self, op: Operation, name: str) -> None:
        """Put an operation in, under a name of its own."""
        if self._finalized:
            raise RuntimeError(f"the graph is finalized: {op.type} {name!r} cannot be added to it any more")
        op.graph, op.name, op.index = self, self.unique_name(name), len(self._operations)
        op.branch = self._branch
        op.where = user_line()
        self._operations.append(op)
        self._by_name[op.name] = op

    def get_operations(self) -> list[Operation]:
        return list(self._operations)

    def get_operation_by_name(self, name: str) -> Operation:
        return self.as_graph_element(name, allow_tensor=False)

    def get_tensor_by_name(self, name: str) -> Tensor:
        return self.as_graph_element(name, allow_operation=False)

    def as_graph_element(self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True) -> Any:
        """The operation or tensor of this graph that an object or a name stands for: 'add' or 'add:0'."""
        element = getattr(obj, "_as_graph_element", lambda: obj)()
        if not isinstance(element, str):
            if getattr(element, "graph", None) is None:
                raise TypeError(f"a {type(obj).__name__} is neither a tensor nor an operation: {obj!r}")
            if element.graph is not self:
                raise ValueError(f"{element.name!r} is of another graph ({element.graph!r}, this is {self!r})")
            return element
        name, _, number = element.partition(":")
        op = self._by_name.get(name)
        if (number and not allow_tensor) or (not number and not allow_operation):
            kind = "a tensor: 'name:0'" if allow_tensor else "an operation: 'name'"
            raise ValueError(f"{element!r} does not name {kind}")
        if op is None:
            raise KeyError(f"{element!r}: there is no operation {name!r} in the graph{self.alike(name)}")
        if not number:
            return op
        if not number.isdigit() or int(number) >= len(op.outputs):
            raise KeyError(f"{element!r}: the operation {name!r} has {len(op.outputs)} outputs, counted from 0")
        return op.outputs[int(number)]

    def alike(self, name: str) -> str:
        import difflib

        found = difflib.get_close_matches(name, self._by_name, 3)
        return f"; there is {', '.join(found)}" if found else ""

    def is_feedable(self, tensor: Tensor) -> bool:
        return True

    # ---------------------------------------------------------------------------------- names

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """The name within the current scope, with a number behind it if it is taken: Add, Add_1, Add_2.

        A name that ends in a slash is taken as it is.
        """
        if name.endswith("/"):
            self._names.setdefault(name[:-1], 1)
            return name[:-1]
        full = f"{self._scope}/{name}" if self._scope else name
        count = self._names.get(full, 0)
        unique = full
        while count and unique in self._names:
            unique = f"{full}_{count}"
            count += 1
        if mark_as_used:
            self._names[full] = max(count, 1)
            self._names.setdefault(unique, 1)
        return unique

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Names made inside begin with `name/`. A name with a trailing slash goes back to that very scope; None or ''
        to none at all."""
        before = self._scope
        self._scope = "" if not name else name[:-1] if name.endswith("/") else self.unique_name(name)
        try:
            yield self._scope + "/" if self._scope else ""
        finally:
            self._scope = before

    def get_name_scope(self) -> str:
        return self._scope

    # ---------------------------------------------------------------------------------- collections

    def add_to_collection(self, name: Any, value: Any) -> None:
        self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        for name in (names,) if isinstance(names, str) else dict.fromkeys(names):
            self.add_to_collection(name, value)

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """What is in a collection; of it, with a scope, what has a name that matches from its beginning."""
        import re

        items = self._collections.get(name, [])
        if scope is None:
            return list(items)
        pattern = re.compile(scope)
        return [item for item in items if hasattr(item, "name") and pattern.match(item.name)]

    def get_collection_ref(self, name: Any) -> list[Any]:
        return self._collections.setdefault(name, [])

    def get_all_collection_keys(self) -> list[Any]:
        return [k for k in self._collections if isinstance(k, str)]

    def clear_collection(self, name: Any) -> None:
        self._collections.pop(name, None)

    # ---------------------------------------------------------------------------------- contexts

    @contextmanager
    def as_default(self) -> Iterator[Graph]:
        """The graph that operations go to, in the block."""
        token = _stack.set((*_stack.get(), self))
        try:
            yield self
        finally:
            _stack.reset(token)

    @contextmanager
    def control_dependencies(self, control_inputs: Sequence[Any] | None) -> Iterator[Controls | None]:
        """What is made in the block runs after these operations and tensors; None forgets those of the blocks around."""
        before, branch = self._controls, self._branch
        if control_inputs is None:
            self._controls, self._branch = (), None
            made = None
        else:
            ops = dict.fromkeys(self.as_graph_element(c).op for c in control_inputs)
            made = Controls(tuple(ops))
            self._controls = (*before, made) if ops else before
        try:
            yield made
        finally:
            self._controls, self._branch = before, branch

    @contextmanager
    def device(self, device_name_or_function: Any) -> Iterator[None]:
        """Accepted, and without effect: there is one device."""
        yield

    @contextmanager
    def colocate_with(self, op: Any, ignore_existing: bool = False) -> Iterator[None]:
        yield

    @contextmanager
    def container(self, container_name: str) -> Iterator[None]:
        yield

    def gradient_override_map(self, op_type_map: Any) -> Any:
        raise AttributeError(
            "gradient_override_map is not built: an op's gradient is a column of its row in tinyflow/ops"
        )

    def finalize(self) -> None:
        """Nothing can be added from now on."""
        self._finalized = True

    @property
    def finalized(self) -> bool:
        return self._finalized

    def show(self, path: Any = "graph.html") -> Any:
        """Write the graph as one page that a browser opens, and give its path."""
        from tinyflow.tools.page import write_page

        return write_page(path, self, title=str(path))

    def __repr__(self) -> str:
        return f"<tf.Graph of {len(self._operations)} operations at {id(self):#x}>"


class Controls:
    """The operations of one control_dependencies block, and what was made in it."""

    __slots__ = ("made", "ops", "reads")

    def __init__(self, ops: tuple[Operation, ...]) -> None:
        self.ops = ops
        self.made: set[Operation] = set()
        self.reads: dict[Any, Tensor] = {}


# ------------------------------------------------------------------------------------------ the default graph

_stack: ContextVar[tuple[Graph, ...]] = ContextVar("graphs", default=())
_default = Graph()


def get_default_graph() -> Graph:
    """The graph of the innermost `with graph.as_default():`, else the one that is always there."""
    stack = _stack.get()
    return stack[-1] if stack else _default


def reset_default_graph() -> None:
    """Start over with an empty graph."""
    global _default
    if _stack.get():
        raise AssertionError("reset_default_graph() within `with graph.as_default():`; leave that block first")
    _default = Graph()


def session_of(session: Any, of: Any) -> Any:
    """The session given, else the default one."""
    from tinyflow.symbolic.session import get_default_session

    found = session or get_default_session()
    if found is None:
        raise ValueError(
            f"{of.name!r} cannot be evaluated: there is no default session; write `with tf.Session():` around it, "
            "or give session="
        )
    return found


@contextmanager
def name_scope(name: str | None, default_name: str | None = None, values: Any = None) -> Iterator[str]:
    """Names made inside begin with `name/`, or with `default_name/` if name is None."""
    with get_default_graph().name_scope(name if name is not None else default_name) as scope:
        yield scope


def control_dependencies(control_inputs: Any) -> Any:
    """What is made in the block runs after these operations and tensors."""
    return get_default_graph().control_dependencies(control_inputs)


def device(device_name_or_function: Any) -> Any:
    """Accepted, and without effect: there is one device."""
    return get_default_graph().device(device_name_or_function)


def colocate_with(op: Any, ignore_existing: bool = False) -> Any:
    return get_default_graph().colocate_with(op, ignore_existing)


def container(container_name: str) -> Any:
    return get_default_graph().container(container_name)


def add_to_collection(name: Any, value: Any) -> None:
    """Put a value into a collection of the default graph."""
    get_default_graph().add_to_collection(name, value)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    """What is in a collection of the default graph."""
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Any) -> list[Any]:
    return get_default_graph().get_collection_ref(key)


def set_random_seed(seed: int | None) -> None:
    """The seed of the default graph's random operations that are made from now on."""
    get_default_graph().seed = None if seed is None else int(seed)
