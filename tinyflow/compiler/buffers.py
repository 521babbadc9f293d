"""Buffers: which nodes of a graph have one, and the slots of a program."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from tinyflow.core import expr
from tinyflow.core.expr import Index_
from tinyflow.graph.node import Node, is_static
from tinyflow.ops.movement import CONCAT, RESHAPE
from tinyflow.passes.state import Conditions
from tinyflow.runtime.items import Slot


class Buffers(set[Node]):
    """The nodes of a graph that have a buffer."""

    def __init__(self, nodes: set[Node]) -> None:
        super().__init__(nodes)
        self.start: dict[Node, Index_] = {}  # where in its buffer a node begins, if not at 0; of leaves too
        self.lasting: set[Node] = set()  # made of leaves alone that stay the same from run to run
        self.in_place: set[Node] = set()  # stored over what they are made of, entries that no index names stay
        self.repeated = False  # whether the graph is the body of a loop

    def form(self, roots: Sequence[Node], inside: Collection[Node]) -> tuple[Hashable, list[Node]]:
        """What some nodes are in terms of the buffers and leaves that they are computed of, with nodes by number; and the nodes.
        The roots, and those `inside`, are computed though they have a buffer."""
        place: dict[Node, int] = {}
        rows: list[tuple[Any, ...]] = []
        for root in roots:
            stack = [root] if root not in place else []
            while stack:
                n = stack[-1]
                for x in n.inputs:
                    if x in place:
                        continue
                    if x.op.kind != "leaf" and (x not in self or x in inside):
                        stack.append(x)
                        break
                    place[x] = len(place)
                    rows.append((x.shape, x.dtype, self.start.get(x, 0), x in self.lasting))
                else:
                    place[n] = len(place)
                    numbers, attrs = tuple([place[x] for x in n.inputs]), tuple(n.attrs.values())
                    rows.append((n.op, numbers, attrs, n in self, n in self.lasting, n in self.in_place))
                    stack.pop()
        return (tuple(rows), tuple([place[n] for n in roots])), list(place)


class Memory:
    """The slots of a program, and the number of the slot that a buffer lies in."""

    def __init__(self) -> None:
        self.slots = [Slot("status")]
        self.where: dict[Any, int] = {}

    def add(self, key: Any, kind: str, node: Node) -> int:
        """A slot of a node's size."""
        self.where[key] = len(self.slots)
        size = expr.mul(expr.product(node.shape), node.dtype.size)
        self.slots.append(Slot(kind, size, label=node.label, where=node.where))
        return self.where[key]

    def temp(self, key: Any, node: Node) -> int:
        return self.add(key, "temp", node)


def joined(
    chosen: Buffers,
    users: Mapping[Node, Sequence[Node]],
    roots: Collection[Node],
    conditions: Mapping[Node, Conditions],
) -> dict[Node, list[Node]]:
    """Concatenations whose parts are each stored where they belong in it, and those parts: they take no pass of their own."""
    found: dict[Node, list[Node]] = {}
    for n in users:
        if n.op is CONCAT and n in chosen and n not in roots and is_static(n.shape):
            parts = parts_of(n, users, roots)
            own = parts and all(p in chosen and p.op.kind in ("at", "block") and p.op is not CONCAT for p in parts)
            if own and all(conditions[p] == conditions[n] for p in parts):
                found[n] = parts
    return found


def parts_of(n: Node, users: Mapping[Node, Sequence[Node]], roots: Collection[Node]) -> list[Node]:
    """What the inputs of a concatenation are other shapes of; none if somebody else reads one."""
    found = []
    for x in n.inputs:
        while x.op is RESHAPE and len(users[x]) == 1 and x not in roots:
            (x,) = x.inputs
        found.append(x)
    return found if all(len(users[x]) == 1 and x not in roots for x in found) else []
