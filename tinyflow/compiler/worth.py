"""worth: which values are worth a buffer, each by itself; the schedule asks."""

from __future__ import annotations

from collections.abc import Collection

from tinyflow.compiler.lower import is_view, through_views
from tinyflow.core import expr
from tinyflow.graph.node import Node
from tinyflow.ops.attention import weight
from tinyflow.ops.contraction import CONTRACT, PAIRS
from tinyflow.ops.elementwise import HEAVY
from tinyflow.ops.movement import CONCAT, PAD, PERMUTE, RESHAPE, SLICE
from tinyflow.ops.pooling import POOL_ARG, POOL_MAX, POOL_SUM, RESAMPLE, SPREAD
from tinyflow.ops.random import UNIFORM
from tinyflow.ops.reduction import ARGMAX, ARGMIN, MAX, MIN, PROD, SUM

FOLDS = (SUM, PROD, MAX, MIN, ARGMAX, ARGMIN, CONTRACT, POOL_MAX, POOL_ARG, POOL_SUM, SPREAD, RESAMPLE)
FEW_PARTS = 4
MANY_CHANNELS = 8  # half a vector of them
FEW_CHANNELS = 3
SHORT_LINE = 16  # shorter than a vector, which reaches over several such lines, each with its own border
OFTEN = 8  # times that each element of an operand is read


def is_fold(n: Node) -> bool:
    """Whether its value takes a loop; the windows of an image, a contraction of one operand, may sum over nothing."""
    if n.op is CONTRACT and len(n.inputs) == 1:
        spec = n.attrs["spec"]
        return any(a not in spec.out for places in spec.operands for p in places for a, _ in p.terms)
    return n.op in FOLDS


def turned_images(n: Node) -> list[Node]:
    """The operands of a convolution that lie in memory with other axes last than those it adds up along: turning them once
    takes less than packing every window from places far apart, or from short lines. And those of which it reads every s-th
    place along lines, or lines with a border."""
    spec, found = n.attrs["spec"], []
    for x, places in zip(n.inputs, spec.operands, strict=True):
        others = {a for p in spec.operands if p is not places for q in p for a, _ in q.terms}
        rows = [p for p in places if p.letter is None or (p.letter in spec.out and p.letter not in others)]
        if x.op is PERMUTE and is_view(x) and len(rows) > 1 and places[-1].letter in spec.folded:
            last = x.shape[-1]
            line = x.inputs[0].shape[-1]
            short = isinstance(line, int) and line < SHORT_LINE and len(rows) > 2
            enough = isinstance(last, int) and last >= (FEW_CHANNELS if short else MANY_CHANNELS)
            found += [x] if enough and x.attrs["order"][-1] != x.ndim - 1 else []
        apart = x.op is SLICE and is_view(x) and x.ndim > 2 and x.attrs["step"][-1] > 1
        found += [x] if apart or (x.op is PAD and places[-1].letter is None) else []
    return found


def turned_rows(n: Node) -> list[Node]:
    """What the operands of a contraction are in another order, where the last axes are joined and lie apart in memory: turning
    it once takes less than to gather it element by element."""
    found = []
    for x in n.inputs:
        (y,) = x.inputs if x.op is RESHAPE else (x,)
        if x is not y and y.op is PERMUTE and y.attrs["order"][-1] != y.ndim - 1 and x.shape[-1:] != y.shape[-1:]:
            found.append(y)
    return found


def cheap_producer(n: Node) -> bool:
    """Whether a contraction may compute it while it packs: no folds within, nothing heavy."""
    return (
        (n.op.elementwise or n.op is PAIRS)
        and n.op.name not in HEAVY
        and all(
            through_views(x).op.kind == "leaf" or through_views(x).op.name in ("constant", "size") for x in n.inputs
        )
    )


def costly_parts(n: Node, drawn: bool = False) -> list[Node]:
    """What a packed operand is made of, up to where it is worth a buffer: views and cheap arithmetic are computed as it is read,
    and random numbers if they may be drawn there."""
    found, stack, seen = [], [n], set()
    while stack:
        x = stack.pop()
        if x in seen or x.op.kind == "leaf":
            continue
        seen.add(x)
        inlined = x.op.elementwise and x.op.name not in HEAVY
        if (
            inlined
            or x.op.name in ("iota", "pad")
            or (drawn and x.op is UNIFORM)
            or x is not through_views(x)
            or (x.op is CONCAT and len(x.inputs) <= FEW_PARTS)
        ):
            stack.extend(x.inputs)
        else:
            found.append(x)
    return found


def block_parts(n: Node) -> list[Node]:
    """The same of the operands of a block, which reads its weights once."""
    return [y for x in n.inputs for y in costly_parts(x, drawn=x is weight(n))]


def drawn_again(n: Node, readers: Collection[Node]) -> bool:
    """Whether all that read random numbers draw them: a gradient again, rather than that they are kept."""
    return n.op is UNIFORM and all(r.op.kind == "block" for r in readers)


def repeated_operands(n: Node) -> list[Node]:
    """Those of a product whose elements are each read several times: the vector that meets all rows of a matrix."""
    spec = n.attrs["spec"]
    used = [{a for p in places for a, _ in p.terms} for places in spec.operands]
    times = [expr.product(size for a, size in spec.size.items() if a not in u) for u in used]
    return [x for x, k in zip(n.inputs, times, strict=True) if not isinstance(k, int) or k >= OFTEN]


def is_laborious(n: Node) -> bool:
    """Whether a value takes more arithmetic than an operation or two on what has a buffer anyway."""
    stack, seen = [n], {n}
    while stack:
        x = stack.pop()
        if not x.op.elementwise or x.op.kind == "leaf":
            continue
        if x.op.name in HEAVY or len(seen) > FEW_PARTS:
            return True
        below = set(map(through_views, x.inputs)) - seen
        seen |= below
        stack.extend(below)
    return False


def is_costly(n: Node) -> bool:
    return n.op.elementwise and n.op.name in HEAVY


def grows(n: Node) -> bool:
    return expr.product(n.shape) != expr.product(n.inputs[0].shape)
