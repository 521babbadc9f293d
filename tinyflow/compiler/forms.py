"""forms: groups of one form, as equal layers of a network have them, are lowered and written down once.

They have the same loops on other buffers: a group after the first takes the text of that, and its own buffers by its names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.emit import Code
from tinyflow.compiler.loops import Kernel, Store, Target
from tinyflow.compiler.schedule import Group
from tinyflow.core import expr
from tinyflow.core.expr import Expr, Load
from tinyflow.graph.node import Node


class Forms:
    """The groups of one graph, lowered."""

    def __init__(self, buffered: Buffers, homes: Mapping[Node, Sequence[Target]]) -> None:
        self.buffered, self.homes = buffered, homes
        self.made: dict[Hashable, tuple[str, list[Node], list[Kernel]]] = {}

    def lower(self, group: Group, name: str, lower: Callable[[], list[Any]]) -> list[Any]:
        """The kernels of a group: of its own if it is the first of its form."""
        if group.stores[0].op.kind in ("loop", "find"):  # the one holds a graph, the other names a size of the graph
            return lower()
        stores = [*group.stores, *([] if group.core is None else [group.core])]
        targets = [t for n in stores for t in self.homes.get(n, ())]
        predicates = [p for p, _ in group.conditions]
        key, order = self.buffered.form(stores, set(stores))
        numbers = {n: k for k, n in enumerate(dict.fromkeys([*order, *(t.node for t in targets), *predicates]))}
        homes = tuple([(numbers[t.node], *t[1:]) for t in targets])
        local = tuple([(len(self.homes.get(n, ())), group.local.get(n)) for n in stores])
        under = tuple([(numbers[p], side) for p, side in group.conditions])
        key = (key, group.depth, group.core is None, homes, local, under)
        found = self.made.get(key)
        if found is None:
            self.made[key] = name, list(numbers), (kernels := lower())
            return kernels
        first, nodes, kernels = found
        names = Names(dict(zip(nodes, numbers, strict=True)))
        return [Alike(k, k.name.replace(first, name), names) for k in kernels]


class Names:
    """What each thing of a group is called in another of its form; scratch memory is new for each."""

    def __init__(self, nodes: Mapping[Node, Node]) -> None:
        self.known: dict[Any, Any] = dict(nodes)

    def of(self, x: Any) -> Any:
        """A node, a buffer, an expression; a store, a recipe or a kernel with all that it names; or what names nothing."""
        if type(x) is Node:
            return self.known.get(x, x)
        if isinstance(x, (int, str)) or x is None:
            return x
        if isinstance(x, Expr):
            return self.expression(x)
        if isinstance(x, tuple):
            parts = [self.of(p) for p in x]
            return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
        if not (hasattr(x, "slot") or hasattr(x, "emit") or isinstance(x, Kernel)):
            return x
        if x not in self.known:
            new = {f.name: self.of(getattr(x, f.name)) for f in fields(x) if f.init}
            self.known[x] = copy.copy(x) if hasattr(x, "slot") else replace(x, **new)
        return self.known[x]

    def expression(self, e: Expr) -> Any:
        new: dict[Expr, Any] = {}
        for x in expr.walk(e):
            y = expr.rebuild(x, new.__getitem__)
            new[x] = expr.from_buffer(self.of(y.buffer), y) if isinstance(y, Load) else y
        return new[e]

    def code(self, code: Code) -> Code:
        """The same text on other buffers."""
        called = {b: self.of(b) for b in code.buffers}
        return code._replace(
            buffers=tuple(called.values()),
            checks=self.of(code.checks),
            written=frozenset([called[b] for b in code.written]),
            touched=tuple([(self.of(b), self.of(n)) for b, n in code.touched]),
        )


class Alike(Kernel):
    """A kernel of the form of another. Its loops are only made for who wants to see them: its code is the other's."""

    like: Kernel
    names: Names

    def __init__(self, like: Kernel, name: str, names: Names) -> None:
        conditions, checks, nodes = names.of((like.conditions, like.checks, like.nodes))
        vars(self).update(like=like, names=names, name=name, rows=like.rows, cost=like.cost, lasting=like.lasting)
        vars(self).update(conditions=conditions, checks=checks, nodes=nodes)

    @cached_property
    def stores(self) -> tuple[Store, ...]:
        return self.names.of(self.like.stores)  # type: ignore[no-any-return]

    @cached_property
    def recipe(self) -> Any:
        return self.names.of(self.like.recipe)
