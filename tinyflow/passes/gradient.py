"""gradient: differentiation by extending the graph. It knows no op: each row brings its own."""

from __future__ import annotations

from collections.abc import Sequence

from tinyflow.core.errors import LINE, ShapeError, line_kept
from tinyflow.graph.node import Node, rewrite, shape_text, toposort
from tinyflow.ops.control import KEPT, again
from tinyflow.ops.functions import ones
from tinyflow.ops.scan import loops_of
from tinyflow.passes.rewrite import applier
from tinyflow.passes.simplify import STABLE

STABLE_ROOTS = {rule.left.op for rule in STABLE}


@line_kept()
def gradients(
    ys: Sequence[Node], xs: Sequence[Node], seeds: Sequence[Node | None] | None = None, stop: Sequence[Node] = ()
) -> list[Node | None]:
    """d(sum of ys)/dx for every x, each weighted by its seed; None where no path of gradients leads to x.

    The ys are first written in the stable form, so that the gradient of log(softmax(z)) is that of log_softmax(z).
    A gradient is known by the line of what it is the gradient of.
    """
    stable = stabilised(ys, {*xs, *stop})
    roots = [stable.get(y, y) for y in ys]
    targets = [stable.get(x, x) for x in xs]
    order = toposort(roots, stop=lambda n: n in stop)
    wanted = dependents(order, targets)
    parts: dict[Node, list[Node]] = {}
    for root, seed in zip(roots, seeds or [None] * len(roots), strict=True):
        if root in wanted and root.dtype.is_floating:
            parts.setdefault(root, []).append(seeded(root, seed))
    result: dict[Node, Node] = {}
    loops = {y: first for first, family in loops_of(order).items() for y in family}
    pending: dict[Node, dict[Node, Node]] = {}  # of each loop's first result: the gradients of its results
    for y in reversed(order):
        if y in parts:
            g = result[y] = total(parts.pop(y))
            if y in loops:
                pending.setdefault(loops[y], {})[y] = g
        elif y not in pending:
            continue
        if y in loops:
            if loops[y] is y and y not in stop:  # the oldest: by now all results of this loop have their gradients
                from tinyflow.passes.recurrence import loop_gradients

                found = loop_gradients(pending.pop(y), [x in wanted for x in y.inputs])
                for x, gx in zip(y.inputs, found, strict=True):
                    if gx is not None and x in wanted:
                        parts.setdefault(x, []).append(gx)
            continue
        if y.op.grad is None or y in stop:
            continue
        LINE.held = y.where
        each = computed_again(g, *y.inputs) if y.op is KEPT else y.op.grad(g, y, *y.inputs, **y.attrs)
        for x, gx in zip(y.inputs, each if isinstance(each, tuple) else (each,), strict=True):
            if gx is not None and x in wanted and x.dtype.is_floating:
                parts.setdefault(x, []).append(
                    gx() if callable(gx) else gx
                )  # a costly one is made only if it is wanted
    return [result.get(t) for t in targets]


def computed_again(g: Node, y: Node, *xs: Node) -> tuple[Node | None, ...]:
    """The gradients of the xs, by way of y computed again of them once its gradient is there; y's own if it is not made of them alone."""
    if any(n.op.kind == "leaf" and n not in xs for n in toposort([y], stop=xs.__contains__)):
        return (g, *(None for _ in xs))
    copies = {x: again(x, g) for x in xs}
    copy = rewrite([y], lambda n: n, start=copies)[y]
    return (None, *gradients([copy], list(copies.values()), [g]))


def stabilised(ys: Sequence[Node], keep: set[Node]) -> dict[Node, Node]:
    """Old node -> stable node, where there is anything to make stable."""
    change = applier(STABLE, barred=keep.__contains__)
    order = toposort(ys)
    if all(n.op not in STABLE_ROOTS or change(n) is n for n in order):
        return {}
    return rewrite(ys, change, start={n: n for n in keep if not n.inputs})


def seeded(y: Node, seed: Node | None) -> Node:
    if seed is None:
        return ones(y.shape, y.dtype)
    if len(seed.shape) != len(y.shape):
        raise ShapeError(
            f"a gradient of shape {shape_text(seed.shape)} was given for a tensor of shape {shape_text(y.shape)}"
        )
    return seed


def total(parts: Sequence[Node]) -> Node:
    """The sum of what the users of a tensor contribute, in their order."""
    g = parts[0]
    for p in parts[1:]:
        g = g + p
    return g


def dependents(order: Sequence[Node], targets: Sequence[Node]) -> set[Node]:
    """The targets and all that is computed from them."""
    found = set(targets)
    for node in order:
        if any(x in found for x in node.inputs):
            found.add(node)
    return found


def broken_path(y: Node, x: Node) -> Node | None:
    """Where the way of the gradient from y back to x ends: an op without one. None if y does not depend on x at all."""
    order = toposort([y])
    below = dependents(order, [x])
    if y not in below:
        return None
    reached = {y}
    for node in reversed(order):
        if node in reached and node in below and node is not x:
            if (node.op.grad is None and node.op.kind != "loop") or not node.dtype.is_floating:
                return node
            reached.update(n for n in node.inputs if n in below)
    return None
