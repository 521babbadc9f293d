"""checkpoint: cheap values are computed again for the gradient, and not kept from the forward pass until then.

    stage     how many products, sums and the like lie on the longest way from the leaves to a node
    far user  one that comes so many stages later that its operand is kept for long: what a gradient reads
    cone      a value and the cheap operations that it is made of, down to its anchors
    anchor    what is not computed again: a product, a sum, a leaf, a value that is kept

A value is computed again where that keeps less: if its anchors are kept anyway, or are smaller. Its far users read a copy
of its cone on `again(anchor, g)`, where g is what else the first of them waits for. relu, the normalised values of a batch
norm, gelu, dropout masks and casts are such values; conv and matmul outputs are anchors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain

from tinyflow.core import expr
from tinyflow.core.config import config
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node, at_line, toposort, with_inputs
from tinyflow.graph.op import lookup
from tinyflow.ops.contraction import CONTRACT
from tinyflow.ops.control import again
from tinyflow.ops.elementwise import HEAVY
from tinyflow.ops.movement import CONCAT, EXPAND, PAD, PERMUTE, RESHAPE, SLICE
from tinyflow.ops.random import UNIFORM
from tinyflow.passes.state import conditions

FAR = 8  # stages
LEAST = 1 << 20  # bytes of a value worth the trouble
SMALL = 16  # an anchor that is smaller than the value by this factor costs nothing
MOST_ANCHORS = 4  # that are not small
MOST_WORK = 32  # scalar operations of a cone
USUAL = 32  # what a dimension known only when running is taken for

ADD = lookup("add")
VIEWS = (EXPAND, RESHAPE, PERMUTE, SLICE)
CHEAP = {*VIEWS, PAD, CONCAT, UNIFORM}


def checkpoint(roots: Sequence[Node], order: Sequence[Node]) -> dict[Node, Node]:
    """Old node -> new node."""
    plan = Plan(order) if config.CHECKPOINT else None
    if plan is None or not plan.chosen:
        return dict(zip(order, order, strict=True))
    for node in order:
        plan.rebuild(node)
    return plan.new


class Plan:
    def __init__(self, order: Sequence[Node]) -> None:
        self.stage = stages(order)
        self.guarded = conditions(order)
        self.products = {through_views(x) for n in order if n.op is CONTRACT for x in n.inputs}
        users = Counter(chain.from_iterable([set(n.inputs) for n in order]))
        self.sums = {n for n in order if n.op is ADD and users[n] > 1 and not any(map(is_given, n.inputs))}
        self.far: set[Node] = set()  # what far users read: themselves, or in what they inline
        for n in reversed(order):
            inlined = n in self.far and is_cheap(n) and not self.is_stored(n)
            self.far.update(n.inputs if inlined else self.far_inputs(n))
        self.kept: set[Node] = set()  # values that lie in memory when far users run
        self.chosen: set[Node] = set()  # those computed again
        self.work: dict[Node, int] = {}
        self.choose(order)
        self.touched = self.made_of_chosen(order)
        self.new: dict[Node, Node] = {}
        self.copies: dict[Node, Node] = {}

    def far_inputs(self, user: Node) -> list[Node]:
        long_ago = self.stage[user] - FAR
        found = [x for x in user.inputs if self.stage[x] <= long_ago]
        return [x for x in found if not (self.guarded[user] or self.guarded[x])] if found else found

    # ------------------------------------------------------------------------------------------ which

    def choose(self, order: Sequence[Node]) -> None:
        for n in order:
            if n not in self.far:
                continue
            if not is_cheap(n):
                self.kept.add(n)
            elif not self.is_stored(n):  # its users compute it of what is stored
                self.kept.update(self.cone(n, self.is_stored)[1])
        for n in order:
            if n not in self.far or not is_cheap(n) or not self.is_stored(n) or size(n) < LEAST:
                continue
            inside, anchors = self.cone(n)
            work = sum(0 if x.op in CHEAP else HEAVY.get(x.op.name, 1) for x in inside)
            large = [a for a in anchors if size(a) * SMALL > size(n)]
            price = sum(size(a) for a in large if a not in self.kept and a.op.kind != "leaf")
            if work <= MOST_WORK and len(large) <= MOST_ANCHORS and 2 * price <= size(n):
                self.chosen.add(n)
                self.kept.update(anchors)
            else:
                self.kept.add(n)

    def is_stored(self, n: Node) -> bool:
        """Whether a cheap value is likely to have a buffer: what a product reads, what is costly, a sum along a residual network."""
        return n in self.products or n.op.name in HEAVY or n in self.sums

    def cone(self, n: Node, stored: Callable[[Node], bool] = lambda x: False) -> tuple[set[Node], set[Node]]:
        """(what a value is made of, itself included; its anchors, and what counts as one besides)"""
        inside, anchors, stack = {n}, set(), list(n.inputs)
        while stack:
            x = stack.pop()
            if x in inside or x in anchors:
                continue
            if self.is_anchor(x) or stored(x):
                anchors.add(x)
            else:
                inside.add(x)
                stack.extend(x.inputs)
        return inside, anchors

    def is_anchor(self, x: Node) -> bool:
        stored = x in self.kept and x not in self.chosen
        return stored or not is_cheap(x) or bool(self.guarded[x])

    def made_of_chosen(self, order: Sequence[Node]) -> set[Node]:
        """The chosen values, and the cheap ones made of them."""
        found: set[Node] = set()
        for n in order:
            if n in self.chosen or (not found.isdisjoint(n.inputs) and not self.is_anchor(n)):
                found.add(n)
        return found

    # ------------------------------------------------------------------------------------------ the new graph

    def rebuild(self, node: Node) -> None:
        """Inputs that are far and made of chosen values are copies, which wait for the latest of the other inputs."""
        known = self.touched.isdisjoint(node.inputs)
        far = [] if known else [x for x in self.far_inputs(node) if x in self.touched]
        others = [x for x in node.inputs if x not in far]
        if far and others:
            last = self.new[max(others, key=lambda x: self.stage[x])]
            copied = {x: self.copy(x, last) for x in dict.fromkeys(far)}
        else:
            copied = {}
        self.new[node] = with_inputs(node, tuple([copied.get(x) or self.new[x] for x in node.inputs]))

    def copy(self, node: Node, last: Node) -> Node:
        """The node computed again. An anchor waits for what its first copy waited for."""
        _, anchors = self.cone(node)
        for n in toposort([node], stop=lambda n: n in anchors or n in self.copies):
            if n not in self.copies:
                if n in anchors:
                    known = not n.inputs and n.op.kind != "leaf"  # a number
                    self.copies[n] = self.new[n] if known else at_line(n, again(self.new[n], last))
                else:
                    self.copies[n] = with_inputs(n, tuple(self.copies[x] for x in n.inputs))
        return self.copies[node]


def stages(order: Sequence[Node]) -> dict[Node, int]:
    found: dict[Node, int] = {}
    for n in order:
        found[n] = max([found[x] for x in n.inputs], default=0) + (0 if is_cheap(n) or n.op.kind != "at" else 1)
    return found


def is_cheap(n: Node) -> bool:
    return n.op.elementwise or n.op in CHEAP


def size(n: Node) -> int:
    """Bytes, about."""
    dims = {a: USUAL for d in n.shape if isinstance(d, Expr) for a in expr.walk(d) if isinstance(a, expr.Dim)}
    elements = expr.product(n.shape)
    return max(elements if isinstance(elements, int) else expr.evaluate(elements, dims), 1) * n.dtype.size


def is_given(n: Node) -> bool:
    """Whether it is a leaf, a number, or one of them stretched."""
    n = through_views(n)
    return not n.inputs


def through_views(n: Node) -> Node:
    while n.op in VIEWS:
        n = n.inputs[0]
    return n
