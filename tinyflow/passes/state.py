"""state: effects become values. After it a graph has no assign, after or group; a run is outputs and writes.

Reads see what a variable held when the run began, unless order was asked for: after(v, assign(v, x)) is x.
A write on one side of a switch keeps the old value on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tinyflow.graph.node import Node, at_line, make, toposort
from tinyflow.ops.control import AFTER, ASSIGN, GROUP, MERGE, SWITCH, merge
from tinyflow.ops.leaf import VARIABLE, constant


class Effects(NamedTuple):
    values: list[Node]  # of the roots
    writes: dict[Node, Node]  # variable -> its value after the run


def effects(roots: Sequence[Node]) -> Effects:
    order = toposort(roots)
    if not any(n.op in (AFTER, ASSIGN, GROUP) for n in order):
        return Effects(list(roots), {})
    new: dict[Node, Node] = {}
    assigned: dict[Node, dict[Node, Node]] = {}  # node -> what the variables hold once it has run
    writes: dict[Node, Node] = {}
    for node in order:
        state: dict[Node, Node] = {}
        for x in node.inputs:
            state.update(assigned[x])
        inputs = tuple(new[x] for x in node.inputs)
        if node.op is AFTER:
            new[node] = state.get(node.inputs[0], inputs[0]) if node.inputs[0].op is VARIABLE else inputs[0]
        elif node.op is GROUP:
            new[node] = constant(0.0)
        elif node.op is ASSIGN:
            variable, value = node.inputs[0], inputs[1]
            new[node] = value
            kept = state.get(variable, writes.get(variable, variable))
            writes[variable] = state[variable] = if_alive(value, kept)
        else:
            new[node] = node if inputs == node.inputs else at_line(node, make(node.op, *inputs, **node.attrs))
        assigned[node] = state
    return Effects([new[r] for r in roots], writes)


def if_alive(value: Node, kept: Node) -> Node:
    """The value where it is alive, else what was there. Innermost first: its predicate may be dead where the outer says so."""
    for predicate, side in reversed(conditions([value])[value]):
        value = merge(predicate, kept, value) if side else merge(predicate, value, kept)
    return value


Conditions = tuple[tuple[Node, bool], ...]


def conditions(roots: Sequence[Node]) -> dict[Node, Conditions]:
    """For every node, the predicates (and their sides) that it is alive under, outermost first."""
    order = toposort(roots)
    found: dict[Node, Conditions] = dict.fromkeys(order, ())
    if not any(n.op is SWITCH for n in order):
        return found
    for node in order:
        if node.op is MERGE:
            p, f, t = node.inputs
            sides = dict.fromkeys((*found[p], *(c for c in (*found[f], *found[t]) if c[0] is not p)))
            found[node] = tuple(sides)
            continue
        sides = dict.fromkeys(c for x in node.inputs for c in found[x])
        if node.op is SWITCH:
            sides[(node.inputs[1], node.attrs["side"])] = None
        found[node] = tuple(sides)
    return found
