"""signature: the structure of a graph, whatever its leaves and sizes are called. Equal signatures share a program.

signature(roots) -> key, leaves, dims         leaves and symbolic dimensions in the order in which they are met
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tinyflow.core import expr
from tinyflow.core.expr import Dim, Expr, walk
from tinyflow.graph.node import Node, toposort


class Signature(NamedTuple):
    key: Hashable
    leaves: tuple[Node, ...]
    dims: tuple[Expr, ...]


def signature(roots: Sequence[Node], leading: Sequence[Node] = ()) -> Signature:
    """`leading` leaves come first, even if the roots do not need them."""
    order = toposort([*leading, *roots])
    place: dict[Node, int] = {n: k for k, n in enumerate(order)}
    leaves = tuple(n for n in order if n.op.kind == "leaf")
    dims = (*symbols(leaves), *(n.attrs["size"] for n in order if n.op.kind == "find"))
    names = {d: f"@{k}" for k, d in enumerate(dims)}
    rows: list[Any] = []
    for n in order:
        if n.op.kind == "leaf":
            rows.append(
                (renamed(n.shape, names) if names else n.shape, n.dtype)
            )  # fed or stored: the program is the same
        else:
            attrs = tuple(n.attrs.values())
            attrs = renamed(attrs, names) if names or n.op.kind == "loop" else attrs
            rows.append((n.op, tuple([place[x] for x in n.inputs]), attrs))
    return Signature((tuple(rows), tuple(place[r] for r in roots), tuple(place[n] for n in leading)), leaves, dims)


def structural_hash(roots: Sequence[Node]) -> str:
    """A short name for the structure of a graph, the same in every process."""
    return hashlib.sha256(repr(signature(roots).key).encode()).hexdigest()[:16]


def symbols(leaves: Sequence[Node]) -> tuple[Expr, ...]:
    """The symbolic dimensions of the leaves."""
    found: dict[Expr, None] = {}
    for n in leaves:
        for d in n.shape:
            if not isinstance(d, int):
                found.update((a, None) for a in walk(d) if isinstance(a, Dim))
    return tuple(found)


def renamed(attr: Any, names: dict[Expr, str]) -> Any:
    """An attribute with its dimensions numbered; expressions become their text, so that it can be compared."""
    if isinstance(attr, Expr):
        return ("expr", text(attr, names))
    if isinstance(attr, Node):
        return body(attr, names)
    if isinstance(attr, tuple):
        return tuple(renamed(a, names) for a in attr)
    return attr


_bodies: WeakKeyDictionary[Node, str] = WeakKeyDictionary()


def body(root: Node, names: dict[Expr, str]) -> str:
    """A graph within a loop, in short."""
    if not names and root in _bodies:
        return _bodies[root]
    order = toposort([root])
    place = {n: k for k, n in enumerate(order)}
    rows = [(n.op, tuple(place[x] for x in n.inputs), renamed(tuple(n.attrs.values()), names)) for n in order]
    short = hashlib.sha256(repr(rows).encode()).hexdigest()
    if not names:
        _bodies[root] = short
    return short


def text(e: Expr, names: dict[Expr, str]) -> str:
    if e in names:
        return names[e]
    if isinstance(e, expr.Poly):
        terms = sorted("*".join([str(c), *sorted(text(a, names) for a in m)]) for m, c in e.terms)
        return f"({' + '.join(terms)})"
    if isinstance(e, expr.Apply):
        return f"{e.fn}({', '.join(text(a, names) for a in e.args)})"
    return expr.show(e)
