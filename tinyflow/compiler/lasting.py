"""lasting: what is made of leaves alone that stay the same from run to run; see runtime/steady.py.

lasting(order, leaves) -> nodes        elementwise, moved or summed up of such leaves and constants; never products:
                                       laying weights out once is worth memory, remembering results is the user's business
edge(order, nodes)     -> nodes        those that the rest reads, and that take some computing
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tinyflow.compiler.lower import VIEWS, is_view, through_views
from tinyflow.core import expr
from tinyflow.core.expr import Index_
from tinyflow.graph.node import Node
from tinyflow.ops.contraction import CONTRACT, PAIRS
from tinyflow.ops.movement import CONCAT, PAD
from tinyflow.ops.reduction import MAX, SUM

SHORT = {SUM, MAX, PAIRS, CONCAT, PAD}


def lasting_values(order: Sequence[Node], leaves: Collection[Node]) -> set[Node]:
    made, constant = set(leaves), set[Node]()
    for n in order if leaves else ():
        if n.op.kind == "leaf" or not (n.op.elementwise or n.op.name in VIEWS or n.op in SHORT):
            continue
        if constant.issuperset(n.inputs):
            constant.add(n)
        elif all(x in made or x in constant for x in n.inputs):
            made.add(n)
    return made


def edge(order: Sequence[Node], made: set[Node]) -> set[Node]:
    """They get a buffer; no larger than the leaves that they are made of, and not what is only laid out for a product."""
    found: set[Node] = set()
    size: dict[Node, Index_] = {}
    for n in order if made else ():
        if n in made:
            size[n] = expr.product(n.shape) if not n.inputs else max_of([size[x] for x in n.inputs if x in made])
        elif n.op is not CONTRACT:
            found.update(y for y in map(through_views, n.inputs) if y in made and not is_view(y))
    return {n for n in found if fits(expr.product(n.shape), size[n])}


def max_of(sizes: Sequence[Index_]) -> Index_:
    return max((s for s in sizes if isinstance(s, int)), default=0)


def fits(size: Index_, most: Index_) -> bool:
    return isinstance(size, int) and isinstance(most, int) and size <= most
