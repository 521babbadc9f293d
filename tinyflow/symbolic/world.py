"""Worlds: what nodes a graph's operations stand for.

    World := given: {Tensor: Node}, and for every other operation its meaning, applied to its inputs' nodes there
             marked: {Tensor: mark*}, whose nodes are after(node, mark): themselves, but told from equal ones
             before: {Operation: Operation*}, which write variables that it reads, in order to write them again

In the world a graph is written in (HERE) every operation has the nodes it was made with, or none yet where the rank of
an input is not known. A run makes other worlds where it must: one in which a placeholder has the rank that was fed, or
sizes that broadcast, or in which a tensor is replaced. What a world does not change keeps its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tinyflow.core.dtypes import DType
from tinyflow.core.errors import GraphError, ShapeError
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.node import Node
from tinyflow.ops import leaf
from tinyflow.ops.control import after, switch
from tinyflow.ops.leaf import VARIABLE

if TYPE_CHECKING:
    from tinyflow.symbolic.graph import Operation
    from tinyflow.symbolic.tensor import Tensor

FREE = ("Const", "Placeholder", "VariableV2", "NoOp")  # what is made within a branch of cond, and is the same outside
RANKS = (2, 1, 4, 3, 0)  # guesses for a placeholder of unknown rank, the likeliest first


class NotYet(GraphError):
    """A shape was asked for that only a run can tell, number of axes included."""


class Open(GraphError):
    """A placeholder of unknown rank has no node in this world."""

    def __init__(self, op: Operation) -> None:
        super().__init__(f"the rank of {op.name} ({op.where}) is not known before it is fed")
        self.op = op


def nothing_for(op: Operation) -> Node:
    raise Open(op)


class World:
    """What every operation's nodes are, given some tensors' nodes."""

    def __init__(self, given: Mapping[Tensor, Node], marked: Mapping[Tensor, tuple[Node, ...]] = MappingProxyType({}),
                 complete: Callable[[Operation], Node] = nothing_for,
                 before: Mapping[Operation, tuple[Operation, ...]] = MappingProxyType({})) -> None:  # fmt: skip
        self.given, self.marked, self.before = dict(given), dict(marked), before
        self.complete = complete
        self.made: dict[Operation, tuple[Any, ...]] = {}
        self.failed: dict[Operation, Exception] = {}

    def node(self, tensor: Tensor) -> Node:
        """The node of a tensor here."""
        found = self.given.get(tensor)
        if found is None:
            found = self.nodes(tensor.op)[tensor.value_index]
        for mark in self.marked.get(tensor, ()):
            found = after(found, mark)
        return found

    def nodes(self, op: Operation) -> tuple[Any, ...]:
        """The nodes of an operation's outputs here."""
        if op not in self.made:
            for needed in self.needed(op):
                self.made[needed] = self.make(needed)
        return self.made[op]

    def needed(self, op: Operation) -> list[Operation]:
        """What has to be made for an operation, itself included, inputs before users."""
        found, stack = {op}, [op]
        while stack:
            at = stack.pop()
            for x in (*parents(at, self.given), *self.before.get(at, ())):
                if x not in found and x not in self.made:
                    found.add(x)
                    stack.append(x)
        return sorted(found, key=lambda o: o.index)

    def make(self, op: Operation) -> tuple[Any, ...]:
        for x in (op, *parents(op, self.given)):
            if x in self.failed:
                raise self.failed[x]
        if (
            op.nodes is not None
            and op not in self.before
            and all(self.unchanged(t) for t in op.inputs)
            and all(self.made[c] is c.nodes for c in op.control_inputs)
        ):
            return op.nodes
        try:
            return compute(op, self)
        except Exception as e:
            self.failed[op] = e
            raise

    def unchanged(self, tensor: Tensor) -> bool:
        """Whether a tensor is here what it is in the world it was written in."""
        given = self.given.get(tensor)
        if tensor in self.marked:
            return False
        if given is not None:
            return tensor.op.nodes is not None and given is tensor.op.nodes[tensor.value_index]
        return self.made[tensor.op] is tensor.op.nodes


class Here:
    """The world a graph is written in."""

    given: Mapping[Tensor, Node] = MappingProxyType({})
    marked: Mapping[Tensor, tuple[Node, ...]] = MappingProxyType({})
    before: Mapping[Operation, tuple[Operation, ...]] = MappingProxyType({})
    complete = staticmethod(nothing_for)

    def node(self, tensor: Tensor) -> Node:
        if tensor.op.nodes is None:
            raise Open(tensor.op)
        return tensor.op.nodes[tensor.value_index]

    def nodes(self, op: Operation) -> tuple[Any, ...]:
        if op.nodes is None:
            raise Open(op)
        return op.nodes


HERE = Here()


def parents(op: Operation, given: Mapping[Tensor, Node]) -> Iterable[Operation]:
    """The operations that one needs, but for what is given."""
    for t in op.inputs:
        if t not in given:
            yield t.op
    yield from op.control_inputs
    if op.branch is not None and not op.inputs and op.branch.predicate not in given:
        yield op.branch.predicate.op  # it is alive on one side only, although nothing flows into it


def compute(op: Operation, world: Any) -> tuple[Any, ...]:
    """The nodes of an operation in a world, with what it must wait for."""
    if op.host is not None:
        return ()
    if op.nodes is None and not op.inputs and op.meaning is None:
        return (world.complete(op),)
    try:
        found = op.meaning(world) if op.worldly else op.meaning(*[seen(t, op, world) for t in op.inputs])
    except ShapeError as e:
        where = f" ({op.where})" if hasattr(op, "where") else ""
        e.args = (f"{op.type} {op.name!r}: {e}{where}",)
        raise
    nodes = tuple(found) if isinstance(found, list | tuple) else (found,)
    if op.branch is not None and not op.inputs and op.type not in FREE:
        nodes = tuple(switch(n, world.node(op.branch.predicate), op.branch.side) for n in nodes)
    if op.control_inputs:
        first = [n for c in op.control_inputs for n in world.nodes(c) if n is not None]
        nodes = tuple(n if n is None else after(n, *first) for n in nodes)
    return nodes


def seen(tensor: Tensor, op: Operation, world: Any) -> Node:
    """An input's node: of a variable's value, what the operations before this one leave."""
    node: Node = world.node(tensor)
    earlier = world.before.get(op, ())
    if earlier and node.op is VARIABLE and tensor.op.type == "Identity":
        return after(node, *(n for e in earlier for n in world.nodes(e)))
    return node


# ------------------------------------------------------------------------------------------ guesses


def guess(rank: int, op: Operation) -> Node:
    return leaf.placeholder(op.outputs[0].dtype, tuple(fresh_dim() for _ in range(rank)), op.name)


def guesses(op: Operation) -> Iterable[tuple[Any, ...]]:
    """The nodes of an operation, were all placeholders of unknown rank of rank 2, 1, ...; where that is possible."""
    worlds = op.graph.state.setdefault("guesses", [World({}, complete=partial(guess, rank)) for rank in RANKS])
    for world in worlds:
        try:
            yield world.nodes(op)
        except Exception:  # this rank does not fit, which is what the guess was to tell
            continue


def guessed_types(op: Operation) -> list[DType]:
    """The types of an operation's outputs, of which the rank is not known yet."""
    for nodes in guesses(op):
        return [op.inputs[0].dtype if n is None else n.dtype for n in nodes]
    return [op.inputs[0].dtype]
