"""Tensor: one output of an operation. And `operation`, by which all operations are made.

Tensor := op, value_index, dtype            named 'op name:value_index'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinyflow.core import dtypes
from tinyflow.core.dtypes import DType
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node
from tinyflow.ops import leaf
from tinyflow.ops.movement import reshape, stack
from tinyflow.symbolic import known
from tinyflow.symbolic.graph import Graph, Operation, get_default_graph, session_of
from tinyflow.symbolic.shape import Dimension, TensorShape, as_dims
from tinyflow.symbolic.world import HERE, NotYet, compute, guessed_types

string = DType.__new__(DType)  # bytes, which Python computes with and graphs only carry
string.name, string.llvm, string.kind, string.numpy, string.size = "string", "ptr", "O", np.dtype(object), 8


NAMES: dict[Any, DType] = {
    "string": string, "str": string, str: string, bytes: string, "float": dtypes.float32, float: dtypes.float32,
    "double": dtypes.float64, "half": dtypes.float16,
}  # fmt: skip


def as_dtype(given: Any) -> DType:
    """The element type that a DType, a numpy or Python type, or a name stands for. Python's float is float32."""
    if isinstance(given, DType):
        return given
    if isinstance(given, str | type) and given in NAMES:
        return NAMES[given]
    return string if isinstance(given, np.dtype) and given.kind in "OSU" else dtypes.as_dtype(given)


class Tensor:
    """A value that a run computes."""

    __slots__ = ("dtype", "hint", "op", "value_index")
    __array_priority__ = 100

    op: Operation
    value_index: int
    dtype: DType
    hint: TensorShape | None  # what set_shape said of a tensor of unknown rank

    @property
    def name(self) -> str:
        return f"{self.op.name}:{self.value_index}"

    @property
    def graph(self) -> Graph:
        return self.op.graph

    @property
    def device(self) -> str:
        return ""

    @property
    def node(self) -> Node | None:
        """What it is in the graph that is compiled; None while its rank is not known."""
        return None if not self.op.nodes else self.op.nodes[self.value_index]

    @property
    def shape(self) -> TensorShape:
        node = self.node
        if node is not None:
            return TensorShape(node.shape)
        return self.hint or TensorShape(None)

    def get_shape(self) -> TensorShape:
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Say more of the shape than is known. ValueError if that contradicts what is known."""
        more = TensorShape(shape)
        merged = self.shape.merge_with(more)
        if merged.dims is None or merged == self.shape:
            return
        if self.op.type == "Placeholder" and self.op.nodes is None:
            self.op.nodes = (leaf.placeholder(self.dtype, as_dims(more), self.op.name),)
        elif self.node is None:
            self.hint = merged
        else:
            given = zip(self.node.shape, TensorShape(more).as_list(), strict=True)
            dims = tuple(n if m is None else m for n, m in given)
            self.op.nodes = tuple(reshape(n, dims) if k == self.value_index else n for k, n in enumerate(self.op.nodes))

    def consumers(self) -> list[Operation]:
        """The operations that it goes into."""
        return [op for op in self.graph._operations if self in op.inputs]

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """Its value, by a session: the one given, else the default one."""
        return session_of(session, self).run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<tf.Tensor {self.name!r} shape={self.shape} dtype={self.dtype}>"

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self.name!r} has no value while the graph is being written, so Python cannot branch on it; "
            "use tf.cond(tensor, f, g), or `if t is not None:` to ask whether it is there"
        )

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self.name!r} is not iterable; tf.unstack(tensor) gives its slices, if their number is known")

    def __len__(self) -> int:
        raise TypeError(f"{self.name!r} has no len(); use tensor.get_shape()[0].value or tf.shape(tensor)[0]")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            f"{self.name!r} has no value before the run: numpy cannot take it; run it, or use the function of tf"
        )

    def __float__(self) -> float:
        raise TypeError(f"{self.name!r} has no value before the run; float(sess.run(tensor)) is its value")

    def __int__(self) -> int:
        raise TypeError(f"{self.name!r} has no value before the run; int(sess.run(tensor)) is its value")


# ------------------------------------------------------------------------------------------ making operations


def operation(
    kind: str,
    meaning: Callable[..., Any] | None,
    inputs: Sequence[Tensor] = (),
    name: str | None = None,
    *,
    graph: Graph | None = None,
    types: Sequence[DType] | None = None,
    host: Callable[..., Any] | None = None,
    worldly: bool = False,
    first: Sequence[Operation] = (),
) -> Operation:
    """A new operation of type `kind` in the graph of its inputs (else the default one).

    meaning  (*nodes of the inputs) -> the node or nodes of the outputs; None for a placeholder of unknown rank
    types    of the outputs, where they are not to be read off the nodes
    host     (*values of the inputs) -> the value, by Python after the run: such an output is not a node
    first    operations that it waits for

    Raises ShapeError, on the caller's line, if the inputs do not fit.
    """
    graph = graph or graph_of(inputs)
    op = Operation.__new__(Operation)
    op.type, op.meaning, op.worldly, op.host = kind, meaning, worldly, host
    op.graph, op.name, op.nodes = graph, name or kind, None
    branch = op.branch = graph._branch
    op.inputs = tuple(inputs) if branch is None or worldly else tuple([branch.bring(t) for t in inputs])
    op.control_inputs = tuple(dict.fromkeys((*first, *controls(graph, op)))) if first or graph._controls else ()
    if host is not None:
        op.nodes = ()
    elif any(t.op.host is not None for t in op.inputs):
        raise TypeError(f"{kind} computes with numbers; {op.inputs[0].name!r} is of type {op.inputs[0].dtype}")
    elif meaning is not None and is_complete(op):
        try:
            op.nodes = compute(op, HERE)
        except NotYet:
            op.nodes = None
    graph.add(op, name or kind)
    if types is None:
        types = guessed_types(op) if op.nodes is None else [float_or(n) for n in op.nodes]
    op.outputs = [output(op, k, d) for k, d in enumerate(types)]
    return op


def is_complete(op: Operation) -> bool:
    """Whether all that it needs has its nodes."""
    return all(t.op.nodes is not None for t in op.inputs) and all(c.nodes is not None for c in op.control_inputs)


def float_or(node: Node | None) -> DType:
    return dtypes.float32 if node is None else node.dtype


def output(op: Operation, index: int, dtype: DType) -> Tensor:
    t = Tensor.__new__(Tensor)
    t.op, t.value_index, t.dtype, t.hint = op, index, dtype, None
    return t


def tensor(
    kind: str, meaning: Callable[..., Any], inputs: Sequence[Tensor] = (), name: str | None = None, **how: Any
) -> Tensor:
    """The output of a new operation that has one."""
    return operation(kind, meaning, inputs, name, **how).outputs[0]


def controls(graph: Graph, op: Operation) -> tuple[Operation, ...]:
    """What a new operation waits for: the blocks around it, but for those that an input of it waits for already."""
    found: dict[Operation, None] = {}
    for block in graph._controls:
        if not any(t.op in block.made for t in op.inputs):
            found.update(dict.fromkeys(block.ops))
        block.made.add(op)
    return tuple(found)


def graph_of(inputs: Sequence[Tensor]) -> Graph:
    if not inputs:
        return get_default_graph()
    graph = inputs[0].op.graph
    for t in inputs:
        if t.op.graph is not graph:
            raise ValueError(
                f"{t.name!r} ({t.op.where}) and {inputs[0].name!r} ({inputs[0].op.where}) are of different graphs; "
                "make both within one `with graph.as_default():`"
            )
    return graph


# ------------------------------------------------------------------------------------------ from Python values


def convert(value: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """A tensor: itself, a variable's value, or a constant. With a dtype, numbers are made of that type.

    Raises TypeError for a tensor of another type, a float where an int is wanted, or a value that is no array.
    """
    if isinstance(value, Tensor):
        if dtype is not None and value.dtype is not dtype:
            raise TypeError(
                f"{value.name!r} is of type {value.dtype}, and {dtype} is wanted; use tf.cast(tensor, tf.{dtype})"
            )
        return value
    as_tensor = getattr(value, "_as_tensor", None)
    if as_tensor is not None:
        return convert(as_tensor(), dtype)
    if isinstance(value, list | tuple) and any(is_symbolic(v) for v in flat(value)):
        return packed(value, dtype, name)
    graph = get_default_graph()
    waiting, graph._controls = graph._controls, ()  # what is written as a number waits for nothing
    try:
        return constant(value, dtype, name=name or "Const")
    finally:
        graph._controls = waiting


def is_symbolic(value: Any) -> bool:
    """Whether a value is a tensor, a variable, or a size known only when running."""
    return (
        isinstance(value, Tensor | Expr)
        or hasattr(value, "_as_tensor")
        or (isinstance(value, Dimension) and isinstance(value.dim, Expr))
    )


def flat(value: Any) -> Iterator[Any]:
    for v in value:
        if isinstance(v, list | tuple):
            yield from flat(v)
        else:
            yield v


def packed(value: Sequence[Any], dtype: DType | None, name: str | None) -> Tensor:
    """A nested list with tensors in it, as one tensor."""
    if dtype is None:
        found = [v.dtype for v in flat(value) if hasattr(v, "dtype")]
        dtype = next((as_dtype(d) for d in found), dtypes.int32)
    parts = [convert(v, dtype) for v in value]
    return tensor("Pack", lambda *xs: stack(xs), parts, name or "stack")


def constant(
    value: Any, dtype: Any = None, shape: Any = None, name: str = "Const", verify_shape: bool = False
) -> Tensor:
    """A tensor with a value of its own.

    value  a number, a bool, a string, or a (nested list that is an) array. Python floats become float32, ints int32;
           numpy arrays keep their type
    shape  if given, the value is put into it; the last element fills what is left over

    Raises TypeError for a value that is no array of numbers, ValueError if it has more elements than the shape.
    """
    want = None if dtype is None else as_dtype(dtype)
    if (isinstance(value, Dimension) and isinstance(value.dim, Expr)) or isinstance(value, Expr):
        dim = value.dim if isinstance(value, Dimension) else value
        return tensor("Size", lambda: leaf.size(dim, want or dtypes.int32), (), name)
    if type(value) is float and shape is None and (want is None or want.is_floating):  # as most constants are
        number = leaf.constant(value, want)
        return tensor("Const", lambda: number, (), name)
    array = as_array(value, want)
    if array.dtype.kind in "OSU":
        return text(value, array, name)
    if shape is not None:
        array = shaped(array, TensorShape(shape).as_list(), verify_shape)
    node = known.array(array, want or as_dtype(array.dtype), name)
    return tensor("Const", lambda: node, (), name)


def as_array(value: Any, want: DType | None) -> np.ndarray:
    """The array of a Python value, in TensorFlow 1's types."""
    if value is None:
        raise ValueError("None is not a value; a function that returns nothing may have been given for a tensor")
    own = isinstance(value, np.ndarray | np.generic)
    try:
        array = np.asarray(value)
    except ValueError as e:
        raise ValueError(f"a tensor wants rows of equal length: {e}") from None
    if array.dtype.kind in "OSU":
        if array.dtype.kind == "O" and not all(isinstance(v, str | bytes) for v in array.ravel()):
            raise TypeError(f"a {type(value).__name__} is not a tensor, nor can it be made one: {value!r}")
        return array
    if want is not None and want.kind == "O":
        raise TypeError(f"{value!r} is not a string")
    if want is not None:
        if want.is_integer and array.dtype.kind == "f" and not own and array.size and np.any(array != np.floor(array)):
            raise TypeError(f"{value!r} is a float, and {want} is wanted; use tf.cast, or write an int")
        return array.astype(want.numpy)
    if not own and array.dtype == np.float64:
        return array.astype(np.float32)
    if not own and array.dtype == np.int64 and (not array.size or (array.min() >= -(2**31) and array.max() < 2**31)):
        return array.astype(np.int32)
    return array.astype(as_dtype(array.dtype).numpy)


def shaped(array: np.ndarray, shape: Sequence[int | None], verify: bool) -> np.ndarray:
    count = int(np.prod(shape, dtype=int)) if None not in shape else -1
    if count < 0 or array.size > count or (verify and array.size != count) or (array.size == 0) != (count == 0):
        raise ValueError(f"a value of shape {array.shape} does not fit the shape {tuple(shape)}")
    filled = (
        array.ravel()
        if array.size == count
        else np.concatenate([array.ravel(), np.repeat(array.ravel()[-1:], count - array.size)])
    )
    return filled.reshape(shape)


def text(value: Any, array: np.ndarray, name: str) -> Tensor:
    """Strings: carried as bytes."""
    encoded = np.array([v.encode() if isinstance(v, str) else bytes(v) for v in array.ravel()], dtype=object).reshape(
        array.shape
    )
    result = encoded[()] if encoded.ndim == 0 else encoded
    made = tensor("Const", None, (), name, host=lambda: result, types=[string])
    made.hint = TensorShape(array.shape)
    return made


def convert_to_tensor(
    value: Any, dtype: Any = None, name: str | None = None, preferred_dtype: Any = None, dtype_hint: Any = None
) -> Tensor:
    """A tensor: the value itself if it is one, a variable's value, else a constant of the value."""
    return convert(value, None if dtype is None else as_dtype(dtype), name)


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor whose value is given at each run, by feed_dict.

    shape  its sizes, None for one that may differ from run to run; no shape at all leaves even the rank open, and
           what is computed of it is completed by the rank of what is fed, one program a rank
    """
    dtype, shape = as_dtype(dtype), TensorShape(shape)
    if dtype is string:
        made = tensor("Placeholder", None, (), name, host=unfed, types=[string])
    elif shape.dims is None:
        made = tensor("Placeholder", None, (), name, types=[dtype])
    else:
        label = name or "Placeholder"
        node = leaf.placeholder(dtype, as_dims(shape), get_default_graph().unique_name(label, mark_as_used=False))
        made = tensor("Placeholder", lambda: node, (), name)
    return made


def scalar(value: Any, dtype: Any = None) -> Tensor:
    """A tensor that can only be a scalar: a placeholder of unknown rank is one from now on."""
    found = convert(value, dtype)
    if found.node is None and found.op.type == "Placeholder" and found.op.host is None:
        found.set_shape([])
    return found


def unfed() -> Any:
    raise ValueError("a placeholder of strings must be fed")
