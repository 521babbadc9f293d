"""Buffers: which nodes of a graph have one, and the slots of a program."""

from __future__ import annotations

from typing import Any

from tinyflow.core import expr
from tinyflow.core.expr import Index_
from tinyflow.graph.node import Node
from tinyflow.runtime.program import Slot


class Buffers(set[Node]):
    """The nodes of a graph that have a buffer."""

    def __init__(self, nodes: set[Node]) -> None:
        super().__init__(nodes)
        self.start: dict[Node, Index_] = {}  # where in its buffer a node begins, if not at 0; of leaves too
        self.repeated = False  # whether the graph is the body of a loop


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
