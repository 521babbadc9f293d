"""Rules: pattern -> replacement, both written with the user's operators. The only way a graph changes.

    rule := Rule(name, left, right)                 left and right are graphs over the wild leaves x, y, z

A constant in a pattern matches that constant stretched to any shape.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.graph.node import Node, at_line, make
from tinyflow.ops.leaf import CONSTANT, PLACEHOLDER, constant, placeholder
from tinyflow.ops.movement import EXPAND, expand


class Rule(NamedTuple):
    name: str
    left: Node
    right: Node


x, y, z = (placeholder(float32, (), name) for name in "xyz")
WILD = (x, y, z)


def match(pattern: Node, node: Node, found: dict[Node, Node]) -> bool:
    """Whether the node is an instance of the pattern; `found` gets what the wild leaves stand for."""
    if pattern.op is PLACEHOLDER:
        return found.setdefault(pattern, node) is node
    if pattern.op is CONSTANT:
        while node.op is EXPAND:
            node = node.inputs[0]
        return node.op is CONSTANT and node.attrs["value"] == pattern.attrs["value"] and node.dtype.kind != "b"
    if pattern.op is not node.op or len(pattern.inputs) != len(node.inputs):
        return False
    for p, n in zip(pattern.inputs, node.inputs, strict=True):  # noqa: SIM110 asked too often for all(...)
        if not match(p, n, found):
            return False
    return True


def fill(pattern: Node, found: dict[Node, Node], like: Node) -> Node:
    """The replacement, made of what the wild leaves stand for, in the shape and type of the node it replaces."""
    if pattern.op is PLACEHOLDER:
        return expand(found[pattern], like.shape)
    if pattern.op is CONSTANT:
        return expand(constant(pattern.attrs["value"], like.dtype), like.shape)
    return at_line(like, make(pattern.op, *(fill(p, found, like) for p in pattern.inputs), **pattern.attrs))


def applier(rules: Sequence[Rule], barred: Callable[[Node], bool] = lambda node: False) -> Callable[[Node], Node]:
    """node -> node by the first rule that matches, again until none does. A match never reaches through a barred node."""
    by_op: dict[object, list[tuple[int, object, Rule]]] = {}
    for rule in rules:
        by_op.setdefault(rule.left.op, []).append((*told_by(rule.left), rule))

    def change(node: Node) -> Node:
        for at, op, rule in by_op.get(node.op, ()):
            if node.inputs[at].op is not op and not (op is CONSTANT and node.inputs[at].op is EXPAND):
                continue  # as nearly always
            found: dict[Node, Node] = {}
            if match(rule.left, node, found) and not any(barred(n) for n in inner(rule.left, node)):
                new = at_line(node, fill(rule.right, found, node))
                if new is not node:
                    trace(rule.name, node, new)
                    return change(new)
        return node

    return change


def told_by(pattern: Node) -> tuple[int, object]:
    """The first input of a pattern that is not wild, and its op."""
    return next((at, x.op) for at, x in enumerate(pattern.inputs) if x.op is not PLACEHOLDER)


def inner(pattern: Node, node: Node) -> list[Node]:
    """The nodes that a match goes through, without the wild ones and the node itself."""
    below: list[Node] = []
    for p, n in zip(pattern.inputs, node.inputs, strict=False):
        if p.op is not PLACEHOLDER and p.op is not CONSTANT:
            below += [n, *inner(p, n)]
    return below


def trace(name: str, old: Node, new: Node) -> None:
    if config.DEBUG >= 6:
        print(f"rewrite {name}: {old} -> {new}", file=sys.stderr)
