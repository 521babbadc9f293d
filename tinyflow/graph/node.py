"""Node: an op applied to nodes. It stands for its output tensor too.

    node := Node(op, input*, attrs, shape, dtype, where)        shape := dim*

Nodes do not change, and equal nodes are one object: making a node that exists gives it back, so common
subexpressions are computed once and equality is identity. `where` is the line of user code that made it first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tinyflow.core import expr
from tinyflow.core.dtypes import DType
from tinyflow.core.errors import LINE, ShapeError, Where, line_kept, user_line
from tinyflow.core.expr import Expr
from tinyflow.core.interned import Interned
from tinyflow.graph.op import Op, lookup

Dim: TypeAlias = "int | Expr"
Shape: TypeAlias = "tuple[Dim, ...]"

_nodes: Interned[Node] = Interned()
_uids = itertools.count(1)


def _binary(a: Node, b: Any) -> Node:
    raise NotImplementedError


def _unary(a: Node) -> Node:
    raise NotImplementedError


class Node:
    """One operator of a dataflow graph, and its output tensor."""

    __slots__ = ("__weakref__", "attrs", "dtype", "inputs", "op", "shape", "uid", "where")
    __array_priority__ = 1000

    op: Op
    inputs: tuple[Node, ...]
    attrs: Mapping[str, Any]
    shape: Shape
    dtype: DType
    where: Where
    uid: int  # creation order; inputs have smaller ones

    if TYPE_CHECKING:  # ops/elementwise.py gives nodes their operators, from its table
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _binary
        __floordiv__ = __mod__ = __pow__ = __rpow__ = __and__ = __or__ = __lt__ = __le__ = __gt__ = __ge__ = _binary
        __neg__ = __invert__ = __abs__ = _unary

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def label(self) -> str:
        return str(self.attrs.get("name") or f"{self.op.name}{self.uid}")

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "()"
        return f"<{self.label}: {self.dtype} {shape}>"


def make(op: Op, *inputs: Node, **attrs: Any) -> Node:
    """The node `op(*inputs, **attrs)`: its shape and dtype are checked at once, on the user's line."""
    return known(op, inputs, attrs)


def known(op: Op, inputs: tuple[Node, ...], attrs: Mapping[str, Any], like: Node | None = None) -> Node:
    """The one such node. `like`, if given, has the same op and attributes: on inputs of the same shapes and types, it has the
    same shape and type."""
    key = (op, inputs, tuple(attrs.items()))
    found = _nodes.get(key)
    if found is not None:
        return found
    node = Node.__new__(Node)
    node.op, node.inputs, node.attrs = op, inputs, attrs
    if like is not None and alike(inputs, like.inputs):
        node.shape, node.dtype = like.shape, like.dtype
    else:
        try:
            node.shape = op.shape(*[x.shape for x in inputs], **attrs)
            node.dtype = op.dtype(*[x.dtype for x in inputs], **attrs) if op.dtype else inputs[0].dtype
        except ShapeError as e:
            e.args = (f"{call_text(op, inputs)}: {e}",)
            raise
    node.where = user_line()
    node.uid = next(_uids)
    return _nodes.keep(key, node)


def alike(xs: tuple[Node, ...], ys: tuple[Node, ...]) -> bool:
    """Whether the nodes have the same shapes and types."""
    for x, y in zip(xs, ys, strict=True):  # noqa: SIM110 asked of each node that is made again
        if x.shape != y.shape or x.dtype is not y.dtype:
            return False
    return True


def call_text(op: Op, inputs: Sequence[Node]) -> str:
    """What was asked, in words: matmul(float32 (3, 4), float32 (5, 6))."""
    return f"{op.name}({', '.join(f'{x.dtype} {shape_text(x.shape)}' for x in inputs)})"


def shape_text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def new_uid() -> int:
    """A number for a leaf of its own."""
    return next(_uids)


def toposort(roots: Iterable[Node], stop: Callable[[Node], bool] | None = None) -> list[Node]:
    """Every node the roots need, each once, inputs before users; `stop` says where not to look further."""
    order: dict[Node, None] = {}
    for root in roots:
        stack = [] if root in order else [root]
        while stack:
            node = stack[-1]
            for x in () if stop is not None and stop(node) else node.inputs:
                if x not in order:
                    stack.append(x)
                    break
            else:
                order[node] = None
                stack.pop()
    return list(order)


NONE: Mapping[Node, Node] = {}


def rewrite(
    roots: Iterable[Node], change: Callable[[Node], Node], start: Mapping[Node, Node] | None = None
) -> dict[Node, Node]:
    """Old node -> new node, for every node below the roots: each is made again of its new inputs, then changed.

    What takes the place of a node is known by its line.
    """
    if start:
        order = [n for n in toposort(roots, stop=start.__contains__) if n not in start]
        return rewrite_in(order, change, start)
    return rewrite_in(toposort(roots), change)


@line_kept()
def rewrite_in(order: Sequence[Node], change: Callable[[Node], Node], start: Mapping[Node, Node] = NONE) -> dict[Node, Node]:  # fmt: skip
    """The same of nodes in an order in which inputs come first."""
    new = {**start, **dict(zip(order, order, strict=True))}
    other = {old for old, made in start.items() if made is not old}
    for node in order:
        LINE.held = node.where
        same = other.isdisjoint(node.inputs)
        made = change(node if same else with_inputs(node, tuple([new[x] for x in node.inputs])))
        if made is not node:
            new[node] = made
            other.add(node)
    return new


def with_inputs(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The same op and attributes on other inputs; it keeps the user's line."""
    if inputs == node.inputs:
        return node
    return at_line(node, known(node.op, inputs, node.attrs, node))


def at_line(source: Node, node: Node) -> Node:
    """node, known by the line that made `source` if it is a newer node."""
    if node.uid > source.uid and node is not source:
        node.where = source.where
    return node


def with_dims(roots: Iterable[Node], values: Mapping[Expr, Dim]) -> dict[Node, Node]:
    """The graph with some symbolic dimensions replaced."""
    new: dict[Node, Node] = {}
    for node in toposort(roots):
        inputs = tuple(new[x] for x in node.inputs)
        attrs = {k: substitute(v, values) for k, v in node.attrs.items()}
        same = inputs == node.inputs and attrs == node.attrs
        new[node] = node if same else at_line(node, make(node.op, *inputs, **attrs))
    return new


def substitute(attr: Any, values: Mapping[Expr, Dim]) -> Any:
    """An attribute (any nesting of tuples, of nodes too) with dimensions replaced."""
    if isinstance(attr, Expr):
        return expr.substitute(attr, values)
    if isinstance(attr, Node):
        return with_dims([attr], values)[attr]
    if isinstance(attr, tuple):
        parts = [substitute(a, values) for a in attr]
        return type(attr)(*parts) if hasattr(attr, "_fields") else tuple(parts)
    return attr


def with_bodies(node: Node, new: Mapping[Node, Node]) -> Node:
    """A loop with the nodes of its body replaced."""
    attrs = {k: replaced(v, new) for k, v in node.attrs.items()}
    return node if attrs == node.attrs else at_line(node, make(node.op, *node.inputs, **attrs))


def replaced(attr: Any, new: Mapping[Node, Node]) -> Any:
    if isinstance(attr, Node):
        return new.get(attr, attr)
    if isinstance(attr, tuple):
        parts = [replaced(a, new) for a in attr]
        return type(attr)(*parts) if hasattr(attr, "_fields") else tuple(parts)
    return attr


def bodies(node: Node) -> list[Node]:
    """The nodes that a loop's attributes name: the roots of its body, and its arguments."""
    found: list[Node] = []

    def look(attr: Any) -> None:
        if isinstance(attr, Node):
            found.append(attr)
        elif isinstance(attr, tuple):
            for a in attr:
                look(a)

    if node.op.kind == "loop":
        look(tuple(node.attrs.values()))
    return found


def with_all_bodies(roots: Iterable[Node]) -> list[Node]:
    """Every node the roots need, and every node within their loops."""
    order = dict.fromkeys(toposort(roots))
    stack = list(order)
    while stack:
        node = stack.pop()
        for inner in toposort(bodies(node)) if node.op.kind == "loop" else ():
            if inner not in order:
                order[inner] = None
                stack.append(inner)
    return list(order)


def is_static(shape: Shape) -> bool:
    return all(isinstance(d, int) for d in shape)


__all__ = ["Dim", "Node", "Op", "Shape", "lookup", "make", "toposort"]
