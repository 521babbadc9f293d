"""How a function of tensors is declared: a row gives its operation's type, its arguments and its meaning on nodes.

    square = function("Square", "x", lambda x: x * x, "x²")            square(x, name=None)
    equal  = function("Equal", "x y", e.equal, "x = y")                equal(x, y, name=None)

A function has as many tensor operands as names; Python numbers among them become constants of the others' type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Dim
from tinyflow.symbolic import known
from tinyflow.symbolic.graph import Graph, get_default_graph
from tinyflow.symbolic.shape import Dimension
from tinyflow.symbolic.tensor import Tensor, as_dtype, convert, flat, operation

Function = Callable[..., Tensor]


def function(kind: str, operands: str, meaning: Callable[..., Any], doc: str) -> Function:
    """The function f(*operands, name=None) of a row."""
    names = (*operands.split(), "name")

    def build(*given: Any, **named: Any) -> Tensor:
        *values, name = bound(build.__name__, names, given, named)
        return combine(kind, meaning, names, values, name)

    build.__name__ = build.__qualname__ = kind.lower()
    build.__doc__ = f"{doc}\n\nArguments: {', '.join(names[:-1])}, name=None."
    return build


def bound(what: str, names: Sequence[str], given: Sequence[Any], named: dict[str, Any]) -> list[Any]:
    """The arguments in the order of their names; a TypeError that says which are wanted."""
    if len(given) > len(names) or any(k not in names[len(given) :] for k in named):
        raise TypeError(
            f"{what}() takes {', '.join(names)}; it was given {len(given)} in order and {', '.join(named) or 'none'} by name"
        )
    values = [*given, *(named.get(n) for n in names[len(given) :])]
    for n, v in zip(names[:-1], values, strict=False):
        if v is None:
            raise TypeError(
                f"{what}() lacks its argument {n!r}" if n not in named else f"{what}({n}=None): None is not a value"
            )
    return values


def combine(
    kind: str, meaning: Callable[..., Any], labels: Sequence[str], values: Sequence[Any], name: str | None
) -> Tensor:
    """The operation on values of one type, of which some may be Python numbers: these are named `name/label`."""
    if all(isinstance(v, Tensor) for v in values):
        dtype = values[0].dtype
        return operation(kind, meaning, [convert(v, dtype) for v in values], name).outputs[0]
    graph, dtype = home(values)
    label = graph.unique_name(name or kind) + "/"
    tensors: list[Tensor] = []
    with graph.as_default():
        for v, part in zip(values, labels, strict=False):
            tensors.append(convert(v, dtype, f"{label}{part}/"))
            dtype = dtype or tensors[0].dtype
    return operation(kind, meaning, tensors, label, graph=graph).outputs[0]


def home(values: Sequence[Any]) -> tuple[Graph, DType | None]:
    """The graph and the type of the first tensor among some values."""
    for v in values:
        if isinstance(v, Tensor) or hasattr(v, "_as_tensor"):
            return v.graph, as_dtype(v.dtype)
    return get_default_graph(), None


def integers(given: Any, what: str) -> list[int]:
    """Axes and the like: ints known when the graph is written. A constant tensor will do."""
    if isinstance(given, Tensor):
        found = None if given.node is None else known.values(given.node)
        if found is None or not all(isinstance(v, int) for v in found.ravel()):
            raise TypeError(
                f"{what} must be known when the graph is written; {given.name!r} has its value only in a run"
            )
        return [int(v) for v in found.ravel()]
    if isinstance(given, list | tuple):
        return [integers(g, what)[0] for g in given]
    try:
        return [int(g) for g in (given.ravel() if hasattr(given, "ravel") else [given])]
    except (TypeError, ValueError):
        raise TypeError(f"{what} is an int or a list of ints, not {given!r}") from None


def integer(given: Any, what: str) -> int:
    return integers(given, what)[0]


def shape_argument(given: Any) -> tuple[list[Tensor], Callable[..., tuple[Dim, ...]]]:
    """(the tensors that a shape depends on, what makes dimensions of their nodes): a shape may hold tensors."""
    if isinstance(given, Tensor) or hasattr(given, "_as_tensor"):
        return [convert(given)], known.dims
    entries = getattr(given, "dims", given)
    if entries is None:
        raise ValueError("a shape of unknown rank; tf.shape(tensor) is a shape that is known in the run")
    if hasattr(entries, "tolist"):
        entries = entries.tolist()
    entries = list(entries) if isinstance(entries, list | tuple) or hasattr(entries, "__iter__") else [entries]
    if any(isinstance(d, Tensor) or hasattr(d, "_as_tensor") for d in flat(entries)):
        return [convert(entries)], known.dims
    fixed = tuple(static(d) for d in flat(entries))
    return [], lambda: fixed


def static(size: Any) -> Dim:
    """A size that is known now, or is a dimension."""
    dim = size.dim if isinstance(size, Dimension) else size
    if dim is None:
        raise ValueError("a size is not known; tf.shape(tensor)[axis] is a size that is known in the run")
    return dim if isinstance(dim, Expr) else dim.__index__() if not isinstance(dim, float | np.floating) else whole(dim)


def whole(size: Any) -> int:
    if size != int(size):
        raise TypeError(f"a size is an int, not {size}")
    return int(size)
