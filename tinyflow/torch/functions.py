"""From functions of nodes to functions and methods of tensors.

    row := name -> function of nodes          sum -> torch.sum(x, dim), x.sum(dim)

A row's function takes nodes where its caller gave tensors, and everything else as it was given. One row makes the function,
the method, and, for names in INPLACE, the method that writes its result into its first operand: add, Tensor.add, Tensor.add_.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType
from tinyflow.core.errors import LINE, ShapeError, user_line
from tinyflow.graph.node import Node
from tinyflow.torch.dtypes import CATEGORY, FACE, Defaults, Size, dtype
from tinyflow.torch.errors import SizeError
from tinyflow.torch.leaves import GOING, Remembered
from tinyflow.torch.modes import MODE
from tinyflow.torch.storage import OPEN, State, flush, settle_sizes
from tinyflow.torch.tensor import Tensor, assign, fresh, use

Function = Callable[..., Any]
FUNCTIONS: dict[str, Function] = {}  # every name of the tables, as a function of tensors
SYNONYMS = {"axis": "dim", "axes": "dim", "keepdims": "keepdim", "x": "input", "x1": "input", "x2": "other"}


PLAIN = frozenset((int, float, bool, str, type(None)))
SINGLE = frozenset((DType, dtype, type))  # one object for each value
MADE = Remembered(4096)  # function, operands -> the nodes that it made of them


class Operands:
    """The nodes of some tensors, and whether the result has a history."""

    __slots__ = ("attached", "taint")

    def __init__(self) -> None:
        self.attached = self.taint = False

    def take(self, a: Any) -> Any:
        """The node of a tensor, in lists and tuples too; anything else as it is."""
        if isinstance(a, Tensor):
            s = a._storage
            if s.attached or s.taint:
                self.taint = True
                if s.attached and not a._detached:
                    self.attached = True
            elif a._view is None:  # the common case of `use`
                return s.node
            return use(a)
        kind = type(a)
        if kind in PLAIN:
            return a
        if kind is tuple or kind is list:
            for x in a:
                if type(x) not in PLAIN:
                    return kind(map(self.take, a)) if any(isinstance(x, Tensor) for x in a) else a
            return a
        if kind is np.ndarray:
            from tinyflow.torch.creation import as_tensor

            return use(as_tensor(a))
        return a.item() if isinstance(a, np.generic) else a

    def give(self, y: Any, fn: str) -> Any:
        if type(y) is Node:
            if self.attached and MODE.grad and y.dtype.is_floating:
                return fresh(y, True, False, fn)
            return fresh(y, False, self.taint and not MODE.grad)
        if isinstance(y, tuple) and hasattr(y, "_fields"):
            return type(y)(*(self.give(n, fn) for n in y))
        if isinstance(y, list | tuple):
            return type(y)(self.give(n, fn) for n in y)
        return y


def record(f: Function, fn: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """f of the nodes of some tensors, as tensors."""
    operands = Operands()
    return operands.give(nodes_of(f, operands, args, kwargs), fn)


def nodes_of(f: Function, operands: Operands, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What f makes of the nodes of some tensors. Of nodes that it was given lately it made the same before."""
    if (
        State.registry.leaf_waits and MODE.grad and not State.tracing
    ):  # before a node is taken that reads the leaf's old value
        flush()
    take = operands.take
    before, LINE.held, GOING.busy = LINE.held, None, GOING.busy + 1
    try:
        nodes = [take(a) for a in args]
        named = {SYNONYMS.get(k, k): take(v) for k, v in kwargs.items()} if kwargs else kwargs
        parts: list[Any] = [f, Defaults.dtype]
        known = add_keys(parts, nodes) and (not named or add_named(parts, named))
        key = tuple(parts)
        found = MADE.get(key) if known else None
        if found is None:
            LINE.held = user_line()
            found = f(*nodes, **named)
            if known:
                MADE.put(key, found)
        return found
    except Exception as e:
        if asks_size(args, kwargs):
            settle_sizes()  # what fails with a size that only data tells may do with a number
            return nodes_of(f, operands, args, kwargs)
        if not isinstance(e, ShapeError):
            raise
        raise e if isinstance(e, RuntimeError | IndexError) else SizeError(str(e)) from None
    finally:
        LINE.held, GOING.busy = before, GOING.busy - 1


def flat(given: Iterable[Any]) -> list[Any]:
    return [x for a in given for x in (flat(a) if isinstance(a, list | tuple) else [a])]


def add_key(parts: list[Any], a: Any) -> bool:
    """Adds what tells an operand from others; False for one that nothing does. A Python value is more than what it equals:
    1, 1.0 and True are three, and so are 0.0 and -0.0."""
    kind = type(a)
    if kind is Node or a is None:
        parts.append(a)
        return True
    parts.append(kind)
    if kind is int or kind is str or kind is bool or kind in SINGLE:
        parts.append(a)
    elif kind is float:
        parts.append(a or repr(a))
    elif kind is tuple or kind is list or kind is Size:
        parts.append(len(a))
        return add_keys(parts, a)
    elif kind is slice:
        return add_key(parts, a.start) and add_key(parts, a.stop) and add_key(parts, a.step)
    else:
        return a is Ellipsis
    return True


def add_keys(parts: list[Any], several: Iterable[Any]) -> bool:
    for a in several:  # most are nodes
        if type(a) is Node:
            parts.append(a)
        elif not add_key(parts, a):
            return False
    return True


def add_named(parts: list[Any], named: Mapping[str, Any]) -> bool:
    parts.append(dict)
    for name, a in named.items():
        parts.append(name)
        if not add_key(parts, a):
            return False
    return True


def lift(name: str, f: Function) -> Function:
    """The function of tensors that a function of nodes is."""
    fn, by_call = grad_fn_name(name), NAMED_BY_CALL.get(name)

    @functools.wraps(f)
    def call(*args: Any, out: Tensor | None = None, **kwargs: Any) -> Any:
        y = record(f, fn if by_call is None else by_call(fn, args, kwargs), args, kwargs)
        return y if out is None else assign(out, y)

    call.__name__ = call.__qualname__ = name
    return call


def lift_in_place(name: str, f: Function) -> Function:
    """The method that writes f(self, ...) into self."""
    fn = grad_fn_name(name)

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        operands = Operands()
        y = nodes_of(f, operands, (self, *args), kwargs)
        check_fits(self, y)
        return assign(self, y, operands.attached and MODE.grad, operands.taint, fn)

    call.__name__ = call.__qualname__ = f"{name}_"
    call.__doc__ = f"{name}, written into this tensor."
    return call


def check_fits(t: Tensor, y: Node) -> None:
    """What is written must have the tensor's shape, and be of no higher kind than its type."""
    if tuple(y.shape) != tuple(t._shape):
        raise SizeError(f"output with shape {list(t._shape)} doesn't match the broadcast shape {list(y.shape)}")
    have: DType = t._storage.node.dtype
    if CATEGORY[y.dtype] > CATEGORY[have]:
        raise RuntimeError(f"result type {legacy(y.dtype)} can't be cast to the desired output type {legacy(have)}")


def legacy(d: DType) -> str:
    return {
        "float32": "Float",
        "float64": "Double",
        "int32": "Int",
        "int64": "Long",
        "uint8": "Byte",
        "bool": "Bool",
        "bfloat16": "BFloat16",
        "float16": "Half",
    }[FACE[d].name]


def grad_fn_name(name: str) -> str:
    """The name that PyTorch shows for what made a tensor: add -> AddBackward0."""
    words = SHOWN_AS.get(name, name).replace("_", " ").split()
    return "".join(w[0].upper() + w[1:] for w in words) + "Backward0"


SHOWN_AS = {
    "subtract": "sub", "multiply": "mul", "true_divide": "div", "divide": "div", "square": "pow", "linear": "addmm", "copied": "clone",
    "cross_entropy": "nll_loss", "reshaped": "unsafe_view", "cast": "to_copy", "concat": "cat", "absolute": "abs", "negative": "neg",
}  # fmt: skip


def with_axis(number: int) -> Callable[..., str]:
    """Functions of all elements, and along axes, are shown with numbers of their own."""
    return lambda name, args, kwargs: (
        name[:-1] + str(number if len(args) > 1 or "dim" in kwargs or "axis" in kwargs else 1 - number)
    )


def product_name(name: str, args: Any, kwargs: Any) -> str:
    ranks = tuple(a.ndim for a in args if isinstance(a, Tensor))
    return {(1, 1): "DotBackward0", (2, 1): "MvBackward0", (2, 2): "MmBackward0", (1, 2): "SqueezeBackward4"}.get(
        ranks, "UnsafeViewBackward0"
    )


# names that depend on the operands
NAMED_BY_CALL: dict[str, Callable[..., str]] = {
    "sum": with_axis(1), "mean": with_axis(1), "prod": with_axis(1), "max": with_axis(0), "min": with_axis(0), "matmul": product_name,
    "rsub": lambda name, args, kwargs: "RsubBackward1",
}  # fmt: skip


def install(rows: Mapping[str, Function], methods: bool = True, in_place: str = "") -> None:
    """Functions of nodes become functions of tensors, and methods."""
    for name, f in rows.items():
        FUNCTIONS[name] = lift(name, f)
        if methods:
            setattr(Tensor, name, FUNCTIONS[name])
    for name in in_place.split():
        setattr(Tensor, f"{name}_", lift_in_place(name, rows[name]))


def of_known_sizes(f: Function) -> Function:
    """The function, tried again with numbers where it fails with sizes that only data tells."""

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return f(*args, **kwargs)
        except Exception:
            if not asks_size(args, kwargs):
                raise
        settle_sizes()
        return f(*args, **kwargs)

    return call


def asks_size(args: Iterable[Any], kwargs: Mapping[str, Any]) -> bool:
    return bool(OPEN) and any(isinstance(a, Tensor) and id(a) in OPEN for a in flat((*args, *kwargs.values())))


def install_tensor(rows: Mapping[str, Function], methods: bool = True) -> None:
    """Functions of tensors (views, and what looks at values) as they are."""
    for name, f in rows.items():
        FUNCTIONS[name] = of_known_sizes(f)
        if methods:
            setattr(Tensor, name, FUNCTIONS[name])
