"""attention_parts: what single nodes of an attention are, the steps between its products and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tinyflow.graph.node import Node, Op
from tinyflow.graph.op import lookup
from tinyflow.ops.contraction import CONTRACT
from tinyflow.ops.leaf import CONSTANT
from tinyflow.ops.movement import EXPAND

ADD, DIV, MUL, WHERE = map(lookup, ("add", "div", "mul", "where"))

Name = int | str


class NoMatch(Exception):
    """What was looked at is not an attention."""


def need(fact: object) -> None:
    if not fact:
        raise NoMatch


class Operand(NamedTuple):
    """A node, and a name for each of its axes."""

    node: Node
    names: tuple[Name, ...]

    def order(self, names: Sequence[Name]) -> list[int]:
        """Where the axes of these names are; they must be all."""
        need(len(self.names) == len(names) and {*self.names} == {*names})
        return [self.names.index(x) for x in names]


def letters(product: Node) -> tuple[list[list[str]], list[str]]:
    """The operands' letters and the result's, of a plain product of two."""
    spec = product.attrs["spec"]
    need(spec.plain and len(spec.operands) == 2)
    return [[p.letter for p in places] for places in spec.operands], list(spec.out)


def number(n: Node) -> Any:
    """The value of a constant, stretched or not; None of anything else."""
    n = bare(n)
    return n.attrs["value"] if n.op is CONSTANT else None


def bare(n: Node) -> Node:
    """What was stretched."""
    while n.op is EXPAND:
        n = n.inputs[0]
    return n


def score_input(n: Node) -> int:
    """Which input of a step is the score."""
    if n.op in (MUL, DIV):
        need(number(n.inputs[1]) is not None or (n.op is MUL and number(n.inputs[0]) is not None))
        return 0 if number(n.inputs[1]) is not None else 1
    if n.op is WHERE:
        need((number(n.inputs[1]) is None) != (number(n.inputs[2]) is None))
        return 1 if number(n.inputs[1]) is None else 2
    need(n.op is ADD)
    return 0 if leads_to_product(n.inputs[0]) else 1


def leads_to_product(n: Node) -> bool:
    while n.op is not CONTRACT:
        try:
            n = n.inputs[score_input(n)]
        except NoMatch:
            return False
    return True


def is_slope(n: Node, g: Node, step: Node, score: int) -> bool:
    """Whether n takes the gradient g back through a step."""
    if step.op is WHERE:
        return (
            n.op is WHERE
            and n.inputs[0] is step.inputs[0]
            and n.inputs[score] is g
            and number(n.inputs[3 - score]) == 0
        )
    return (
        n.op is step.op and g in n.inputs and step.inputs[1 - score] in n.inputs and (n.op is MUL or n.inputs[0] is g)
    )


def other(n: Node, op: Op, x: Node) -> Node:
    """The operand of n beside x."""
    need(n.op is op and x in n.inputs)
    return n.inputs[1 - n.inputs.index(x)]
