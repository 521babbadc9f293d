"""The pipeline: what happens to a graph between the user and the compiler, as one flat list with names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinyflow.core.config import config
from tinyflow.graph.node import Node, bodies, rewrite_in, toposort, with_bodies, with_inputs
from tinyflow.graph.verify import same_meaning, verify
from tinyflow.ops.scan import loops_of
from tinyflow.passes.attention import attention
from tinyflow.passes.checkpoint import checkpoint
from tinyflow.passes.chunks import chunks
from tinyflow.passes.groups import groups
from tinyflow.passes.joins import joins
from tinyflow.passes.layout import layout
from tinyflow.passes.parts import parts
from tinyflow.passes.phases import phases
from tinyflow.passes.shifts import shifts
from tinyflow.passes.simplify import simplify, stabilise
from tinyflow.passes.sums import sums
from tinyflow.passes.tables import tables
from tinyflow.passes.unturned import unturned

Pass = Callable[[Sequence[Node], Sequence[Node]], dict[Node, Node]]  # of the roots, and of all nodes in order


def each(change: Callable[[Node], Node]) -> Pass:
    """A pass that changes one node at a time, once its inputs are done."""
    return lambda roots, order: rewrite_in(order, change)


#    name           what it makes of a graph     why here
PIPELINE: list[tuple[str, Pass]] = [
    ("simplify", each(simplify)),  # first, so that the patterns of the others meet one spelling
    ("stabilise", each(stabilise)),
    ("joins", each(joins)),  # so that attention sees in which order its gradients are wanted
    ("attention", attention),  # after differentiation, and in the simple form
    ("tables", each(tables)),  # while rows are looked up beside their product
    ("phases", each(phases)),  # before the last, which joins the views that it brings
    ("shifts", each(shifts)),  # of the phases too; it turns its results
    ("groups", each(groups)),  # of the phases too
    ("layout", each(layout)),  # after every pattern that speaks of neighbours
    ("unturned", unturned),  # of the permutations that are left
    ("sums", each(sums)),  # once the axes have their last order
    ("parts", each(parts)),  # those that are left
    ("simplify again", each(simplify)),  # a stable form brings new x - (-y)
    ("chunks", each(chunks)),
    ("checkpoint", checkpoint),  # the last: no rule sees through what is computed again
]


def run(roots: Sequence[Node], watch: Callable[[str, list[Node]], None] | None = None) -> list[Node]:
    """The roots after every pass. CHECK=1 verifies the graph between passes, CHECK=2 also compares its values."""
    nodes = list(roots)
    order = toposort(nodes)
    for name, change in PIPELINE:
        new = within_loops(change)(nodes, order)
        after = [new[n] for n in nodes]
        if config.CHECK >= 1:
            verify(after, name)
        if config.CHECK >= 2:
            same_meaning(nodes, after, name)
        if after != nodes:
            nodes, order = after, toposort(after)
        if watch:
            watch(name, nodes)
    return nodes


def within_loops(change: Pass) -> Pass:
    """The pass, done in the bodies of loops too: for all results of a loop at once, so that they stay results of one."""

    def both(nodes: Sequence[Node], order: Sequence[Node]) -> dict[Node, Node]:
        new = change(nodes, order)
        if not any(n.op.kind == "loop" for n in order):  # no pass makes one of what is none
            return new
        order = toposort([new[n] for n in nodes])
        inner: dict[Node, dict[Node, Node]] = {}
        for results in loops_of(order).values():
            roots = list(dict.fromkeys(root for n in results for root in bodies(n)))
            inner.update(dict.fromkeys(results, both(roots, toposort(roots))))
        done: dict[Node, Node] = {}
        for n in order:
            x = with_inputs(n, tuple(done[i] for i in n.inputs))
            done[n] = with_bodies(x, inner[n]) if n in inner else x
        return {n: done[new[n]] for n in nodes}

    return both
