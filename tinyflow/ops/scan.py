"""Loops: a body, which is a graph of its own, done for every step of a time axis.

    loop   := Loop(arguments, new, slices, length, reverse, going)
    scan(*inits, *sequences, *captures; loop, result)
    result := final k         state k after the last step
            | trace k         state k before the first step and after each: (length + 1, ...), in the order of time
            | each node       a node of the body at every step: (length, ...)

The body's arguments are the states, the slices of the sequences at one step, and captures, which do not change; `new`
are the states after the step. All results of one loop on the same inputs are computed together; each is a node.
A reversed loop goes from the last step to the first. `going` is asked before each step whether there is to be another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core.dtypes import DType, bool_
from tinyflow.core.errors import GraphError, ShapeError
from tinyflow.graph.evaluate import DEAD, evaluate
from tinyflow.graph.node import Dim, Node, Shape, make, shape_text
from tinyflow.graph.op import define
from tinyflow.ops.leaf import unfed
from tinyflow.ops.rules import attribute, same, same_dim


class Loop(NamedTuple):
    arguments: tuple[Node, ...]
    new: tuple[Node, ...]
    slices: int  # how many of the arguments, behind the states, are slices
    length: Dim  # the greatest number of steps
    reverse: bool = False
    going: Node | None = None

    @property
    def states(self) -> tuple[Node, ...]:
        return self.arguments[: len(self.new)]

    def parts(self, xs: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Inputs or arguments: those of states, sequences and captures."""
        a, b = len(self.new), len(self.new) + self.slices
        return xs[:a], xs[a:b], xs[b:]

    def __str__(self) -> str:
        return f"{self.length} steps{' back' if self.reverse else ''}"


class Result(NamedTuple):
    kind: str
    state: int = -1
    node: Node | None = None

    def root(self, loop: Loop) -> Node:
        """The node of the body that it is made of."""
        return loop.new[self.state] if self.node is None else self.node

    def __str__(self) -> str:
        return f"{self.kind} {self.state if self.node is None else self.node.op}"


def final(k: int) -> Result:
    return Result("final", k)


def trace(k: int) -> Result:
    return Result("trace", k)


def each(n: Node) -> Result:
    return Result("each", node=n)


ONE_SIDED = "a state of a loop has no value after a step, on one side of a switch; give it the merge of both sides"


def scan_np(*xs: Any, loop: Loop, result: Result) -> Any:
    states, sequences, captures = (list(part) for part in loop.parts(xs))
    kept = [states[result.state]] if result.kind == "trace" else []
    root = result.root(loop)
    for step in range(loop.length):  # type: ignore[arg-type]
        t = loop.length - 1 - step if loop.reverse else step
        given = [*states, *(x[t] for x in sequences), *captures]
        fed = dict(zip(loop.arguments, given, strict=True))
        if loop.going is not None and not evaluate([loop.going], fed, {})[loop.going]:
            break
        value = evaluate([*loop.new, root], fed, {})
        states = [value[n] for n in loop.new]
        if any(s is DEAD for s in states):
            raise GraphError(ONE_SIDED)
        kept.append(np.zeros(root.shape, root.dtype.numpy) if value[root] is DEAD else value[root])
    if result.kind == "final":
        return states[result.state]
    shape: Any = scan_shape(*(np.shape(x) for x in xs), loop=loop, result=result)
    out = np.zeros(shape, root.dtype.numpy)
    if kept:
        out[: len(kept)] = kept
    return out[::-1] if loop.reverse else out


def scan_shape(*shapes: Shape, loop: Loop, result: Result) -> Shape:
    states, sequences, captures = loop.parts(shapes)
    a, b, c = loop.parts(loop.arguments)
    for s, n in zip((*states, *captures), (*a, *c), strict=True):
        same(s, n.shape)
    for s, n in zip(sequences, b, strict=True):
        if not s or not same_dim(s[0], loop.length):
            raise ShapeError(f"a sequence of shape {shape_text(s)} has not the loop's {loop.length} steps")
        same(s[1:], n.shape)
    for n, new in zip(a, loop.new, strict=True):
        try:
            same(n.shape, new.shape)
        except ShapeError:
            raise ShapeError(f"a state of shape {shape_text(n.shape)} becomes {shape_text(new.shape)} in one step; states keep their shape") from None  # fmt: skip
    if result.kind == "each":
        return (loop.length, *result.root(loop).shape)
    shape = loop.arguments[result.state].shape
    return shape if result.kind == "final" else (loop.length + 1, *shape)


def scan_type(*dtypes: DType, loop: Loop, result: Result) -> DType:
    for d, n in zip(dtypes, loop.arguments, strict=True):
        if d is not n.dtype:
            raise ShapeError(f"the loop's body takes {n.dtype} where {d} is given; cast it")
    for n, new in zip(loop.states, loop.new, strict=True):
        if n.dtype is not new.dtype:
            raise ShapeError(f"a state of {n.dtype} becomes {new.dtype} in one step; states keep their type")
    if loop.going is not None and (loop.going.shape != () or loop.going.dtype is not bool_):
        raise ShapeError(f"whether to go on is a bool scalar, not {loop.going.dtype} {shape_text(loop.going.shape)}")
    return result.root(loop).dtype


# fmt: off
#                       name        numpy meaning   shape rule                       type             value at one index
ARGUMENT = define("argument", numpy=unfed,    shape=lambda shape, **_: shape,  dtype=attribute, at=None, grad=None, kind="leaf")
SCAN     = define("scan",     numpy=scan_np,  shape=scan_shape,                dtype=scan_type, at=None, grad=None, kind="loop")
# fmt: on


def argument(number: int, like: Node) -> Node:
    """An argument of a body, known by its number: bodies that do the same are one."""
    return make(ARGUMENT, name=f"a{number}", number=number, shape=like.shape, dtype=like.dtype)


def scan(loop: Loop, inputs: Sequence[Node], result: Result) -> Node:
    return make(SCAN, *inputs, loop=loop, result=result)


def loops_of(order: Sequence[Node]) -> dict[Node, list[Node]]:
    """The results of each loop, by the first of them."""
    found: dict[object, list[Node]] = {}
    for n in order:
        if n.op is SCAN:
            found.setdefault((n.inputs, n.attrs["loop"]), []).append(n)
    return {family[0]: family for family in found.values()}


__all__ = ["ARGUMENT", "SCAN", "Loop", "Result", "argument", "each", "final", "loops_of", "scan", "trace"]
