"""The gradient of a loop: a loop back through time, whose body is the gradient of the body.

states      the gradients of the states
sequences   what each step was computed of, as the loop left it behind: states, slices, and of what lies between
            those values that cost more than to be read
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyflow.core import expr
from tinyflow.graph.node import Dim, Node, rewrite, toposort
from tinyflow.graph.op import lookup
from tinyflow.ops import elementwise as e
from tinyflow.ops.functions import zeros
from tinyflow.ops.leaf import iota
from tinyflow.ops.movement import EXPAND, PAD, PERMUTE, RESHAPE, SLICE, reshape, slice_
from tinyflow.ops.recurrence import Recurrence, after, before, check_bounded
from tinyflow.ops.scan import Loop, each, final, scan, trace
from tinyflow.passes.gradient import dependents, gradients

KEPT = e.TRANSCENDENTAL  # not computed again
ADD = lookup("add")
VIEWS = (RESHAPE, PERMUTE, EXPAND, SLICE)


def loop_gradients(gs: Mapping[Node, Node], wanted: Sequence[bool]) -> list[Node | None]:
    """The gradients of a loop's inputs, of those of its results (of one loop on the same inputs)."""
    scanned = next(iter(gs))
    loop: Loop = scanned.attrs["loop"]
    inputs, steps = scanned.inputs, loop.length
    check_bounded(steps)
    back = Recurrence(steps, not loop.reverse)
    taken = (
        None if loop.going is None else e.less(back.slice(iota(steps)), scan(loop, inputs, final(len(loop.new) - 1)))
    )
    starts: dict[int, Node] = {}  # of the gradients of states, before the loop back
    ends: dict[int, Node] = {}  # what is added to them behind it
    ys: list[Node] = []
    seeds: list[Node | None] = []
    for node, g in gs.items():
        result = node.attrs["result"]
        if result.kind == "final":
            starts[result.state] = g
            continue
        whole: Node | None = g
        if result.kind == "trace":
            first = part(g, steps if loop.reverse else 0, 1)
            if first is not None:
                ends[result.state] = reshape(first, g.shape[1:])
            whole = part(g, 0 if loop.reverse else 1, steps)
        if whole is not None:
            ys.append(result.root(loop))
            seeds.append(back.slice(whole))
    floats = [k for k, n in enumerate(loop.states) if n.dtype.is_floating]
    blank = {k: zeros(loop.states[k].shape, loop.states[k].dtype) for k in floats}
    for k in floats:
        ys.append(loop.new[k])
        seeds.append(back.state(starts[k] if k in starts else blank[k]))
    takers = [k for k, n in enumerate(loop.arguments) if k in floats or (wanted[k] and k >= len(loop.new) and n.dtype.is_floating)]  # fmt: skip
    found = dict(zip(takers, gradients(ys, [loop.arguments[k] for k in takers], seeds), strict=True))
    found = dict(zip(found, supplied(scanned, back, list(found.values()), seeds, taken), strict=True))
    if taken is None:
        back.close([found[k] or blank[k] for k in floats])
    else:  # steps that were not taken change nothing
        found = {k: g if g is None else e.where(taken, g, 0) for k, g in found.items()}
        before_step = seeds[-len(floats) :] if floats else []
        back.close([e.where(taken, found[k] or blank[k], d) for k, d in zip(floats, before_step, strict=True)])
    asked: dict[int, Node] = {}
    for place, k in enumerate(floats):
        if wanted[k]:
            asked[k] = back.final(place) + ends[k] if k in ends else back.final(place)
    for k in takers[len(floats) :]:
        if (of_one := found[k]) is not None:
            asked[k] = back.each(of_one) if k < len(loop.new) + loop.slices else back.total(of_one)
    done = dict(zip(asked, back.results(list(asked.values())), strict=True))
    return [done.get(k) for k in range(len(inputs))]


def supplied(
    scanned: Node,
    back: Recurrence,
    roots: Sequence[Node | None],
    own: Sequence[Node | None],
    taken: Node | None,
) -> list[Node | None]:
    """The gradients' graph with what it takes of the body's own: arguments, and values kept or computed again.

    There is nothing but noise in what a step left that was not taken.
    """
    loop: Loop = scanned.attrs["loop"]
    wanted = [n for n in roots if n is not None]
    mine = dependents(toposort(wanted), [n for n in own if n is not None])

    def kept(n: Node) -> bool:
        return n not in mine and (
            n in loop.arguments or n in loop.new or not ((n.op.elementwise and n.op.name not in KEPT) or n.op in VIEWS)
        )

    def needs_loop(n: Node) -> bool:
        return any(x in loop.arguments for x in toposort([n]))

    start: dict[Node, Node] = {}
    for n in toposort(wanted, stop=kept):
        if kept(n) and needs_loop(n):
            x = supply(scanned, back, n)
            changes = taken is not None and back.kind(x) > 0
            start[n] = e.where(taken, x, 0) if changes else x  # type: ignore[arg-type]
    new = rewrite(wanted, lambda n: n, start=start)
    return [None if n is None else new[n] for n in roots]


def supply(scanned: Node, back: Recurrence, n: Node) -> Node:
    """A value of the body, as the loop back finds it."""
    loop: Loop = scanned.attrs["loop"]
    states, slices, _ = loop.parts(loop.arguments)
    inputs, steps = scanned.inputs, loop.length
    if n in states:
        return back.slice(before(scan(loop, inputs, trace(states.index(n))), steps, loop.reverse))
    if n in loop.arguments:
        given = inputs[loop.arguments.index(n)]
        return back.slice(given) if n in slices else given
    if n in loop.new:
        return back.slice(after(scan(loop, inputs, trace(loop.new.index(n))), steps, loop.reverse))
    return back.slice(scan(loop, inputs, each(n)))


def part(g: Node, start: Dim, size: Dim) -> Node | None:
    """`size` entries of a gradient from `start` on; None if they are zeros. Gradients of slices are sums of padded ones."""
    if g.op is ADD:
        a, b = (part(x, start, size) for x in g.inputs)
        return b if a is None else a if b is None else a + b
    if g.op is PAD and g.attrs["value"] == 0 and not any(g.attrs["interior"]):
        (x,), low, high = g.inputs, g.attrs["low"], g.attrs["high"]
        if not any((*low[1:], *high[1:])):
            if low[0] == start and x.shape[0] == size:
                return x
            if low[0] == expr.add(start, size) or expr.add(low[0], x.shape[0]) == start:
                return None
    return slice_(g, (start, *(0 for _ in g.shape[1:])), (size, *g.shape[1:]))
