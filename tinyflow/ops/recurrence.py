"""Recurrence: writes a loop down. What need not be done step by step is taken out of it.

    r = Recurrence(length)
    h, x = r.state(start), r.slice(xs)              the state before a step, and one step of a sequence
    r.close([tanh(x @ W + h @ U)])                  the state after it, made of them and of anything from outside
    ys, last = r.results([r.each(r.new[0]), r.final(0)])

A product of slices and of what does not change is one product for all steps, before the loop (x @ W above). One that
no state needs is one product after it. The sum of a product over all steps is one product over steps and all, after it:
so the gradient of a weight is not added up step by step.
"""

from __future__ import annotations

import functools
import itertools
import string
from collections.abc import Callable, Iterable, Mapping, Sequence

from tinyflow.core import expr
from tinyflow.core.errors import GraphError, ShapeError
from tinyflow.graph.node import Dim, Node, make, rewrite, toposort, with_inputs
from tinyflow.graph.op import lookup
from tinyflow.ops import elementwise as e
from tinyflow.ops import scan
from tinyflow.ops.contraction import CONTRACT, Position, Spec
from tinyflow.ops.indexing import GATHER
from tinyflow.ops.leaf import placeholder, size
from tinyflow.ops.movement import CONCAT, EXPAND, PAD, PERMUTE, RESHAPE, SLICE, concat, expand, reshape, slice_
from tinyflow.ops.reduction import SUM, sum_
from tinyflow.ops.scan import Loop, Result, argument

Lifted = tuple[Node, bool]  # a node, and whether it has all steps as its first axis
ADD, SUB, NEG, MUL = map(lookup, ("add", "sub", "neg", "mul"))
REDUCTIONS = tuple(map(lookup, ("sum", "prod", "max", "min", "argmax", "argmin")))


# ------------------------------------------------------------------------------------------ all steps at once


def lift(n: Node, xs: Sequence[Lifted], steps: Dim) -> Node | None:
    """The values of a node at all steps, (steps, ...), of those of its operands; None where there is no op for it."""
    if n.op is CONTRACT:
        return product_of_all(n, xs, steps)
    if n.op is GATHER:
        (x, varies), (index, _) = xs
        return None if varies or n.attrs["batch"] else make(GATHER, x, index, batch=0)
    if not (n.op.elementwise or n.op in LIFTS or n.op in REDUCTIONS):
        return None
    wide = [x if varies else expand(x, (steps, *x.shape)) for x, varies in xs]
    if n.op.elementwise:
        return make(n.op, *wide, **n.attrs)
    if n.op in REDUCTIONS:
        return make(n.op, *wide, axes=tuple(d + 1 for d in n.attrs["axes"]))
    return LIFTS[n.op](n, wide, steps)


def expand_all(n: Node, xs: Sequence[Node], steps: Dim) -> Node:
    (x,), shape = xs, n.attrs["shape"]
    return expand(reshape(x, (steps, *(1,) * (len(shape) + 1 - x.ndim), *x.shape[1:])), (steps, *shape))


def slice_all(n: Node, xs: Sequence[Node], steps: Dim) -> Node:
    a = n.attrs
    return slice_(xs[0], (0, *a["begin"]), (steps, *a["size"]), (1, *a["step"]))


def pad_all(n: Node, xs: Sequence[Node], steps: Dim) -> Node:
    low, high, inner = ((0, *n.attrs[k]) for k in ("low", "high", "interior"))
    return make(PAD, xs[0], low=low, high=high, interior=inner, value=n.attrs["value"])


LIFTS: Mapping[object, Callable[[Node, Sequence[Node], Dim], Node]] = {
    EXPAND: expand_all,
    RESHAPE: lambda n, xs, steps: reshape(xs[0], (steps, *n.shape)),
    PERMUTE: lambda n, xs, steps: make(PERMUTE, xs[0], order=(0, *(d + 1 for d in n.attrs["order"]))),
    SLICE: slice_all,
    PAD: pad_all,
    CONCAT: lambda n, xs, steps: concat(xs, n.attrs["axis"] + 1),
}


def product_of_all(n: Node, xs: Sequence[Lifted], steps: Dim) -> Node:
    """The steps are a letter more, in front; or, where they can, they are rows of one product."""
    spec: Spec = n.attrs["spec"]
    first = spec.out[0] if spec.out else None
    if all(starts_with(p, first) if varies else not has(p, first) for (_, varies), p in zip(xs, spec.operands, strict=True)):  # fmt: skip
        rows = [folded(x) if varies else x for x, varies in xs]
        y = make(CONTRACT, *rows, spec=longer(spec, first, steps))  # type: ignore[arg-type]
        return reshape(y, (steps, *n.shape))
    return along_time(spec, xs, steps, summed=False)


def sum_of_all(spec: Spec, xs: Sequence[Lifted], steps: Dim) -> Node:
    """A product of operands that all have steps, summed over them."""
    first = spec.operands[0][0].letter if spec.operands[0] else None
    if first and first not in spec.out and all(starts_with(p, first) for p in spec.operands):
        return make(CONTRACT, *(folded(x) for x, _ in xs), spec=longer(spec, first, steps))
    return along_time(spec, xs, steps, summed=True)


def along_time(spec: Spec, xs: Sequence[Lifted], steps: Dim, summed: bool) -> Node:
    t = next(a for a in itertools.chain(string.ascii_letters, map(chr, range(0x3B1, 0x3C9))) if a not in spec.size)
    time = Position(((t, 1),))
    places = tuple((time, *p) if varies else p for (_, varies), p in zip(xs, spec.operands, strict=True))
    out = spec.out if summed else (t, *spec.out)
    return make(CONTRACT, *(x for x, _ in xs), spec=Spec(places, out, ((t, steps), *spec.sizes)))


def starts_with(places: Sequence[Position], letter: str | None) -> bool:
    """Whether an operand's first axis, and no other, is the letter."""
    return bool(places) and letter is not None and places[0].letter == letter and not has(places[1:], letter)


def has(places: Sequence[Position], letter: str | None) -> bool:
    return any(a == letter for p in places for a, _ in p.terms)


def folded(x: Node) -> Node:
    """The first two axes as one."""
    return reshape(x, (expr.mul(x.shape[0], x.shape[1]), *x.shape[2:]))


def longer(spec: Spec, letter: str, steps: Dim) -> Spec:
    return spec._replace(sizes=tuple((a, expr.mul(n, steps) if a == letter else n) for a, n in spec.sizes))


# ------------------------------------------------------------------------------------------ traces

UNBOUNDED = 1 << 62  # the length of a loop of which nobody knows how many steps it takes at most


def check_bounded(steps: Dim) -> None:
    if steps == UNBOUNDED:
        raise GraphError(
            "what a loop leaves at every step, as its gradient needs it, can be kept only if the greatest number of steps "
            "is known: give the loop one (maximum_iterations)"
        )


def before(trace: Node, steps: Dim, reverse: bool) -> Node:
    """A state before every step, of its trace."""
    return cut(trace, 1 if reverse else 0, steps)


def after(trace: Node, steps: Dim, reverse: bool) -> Node:
    return cut(trace, 0 if reverse else 1, steps)


def cut(trace: Node, start: Dim, steps: Dim) -> Node:
    rest = trace.shape[1:]
    return slice_(trace, (start, *(0 for _ in rest)), (steps, *rest))


# ------------------------------------------------------------------------------------------ writing a loop


class Recurrence:
    """A loop in the making."""

    def __init__(self, length: Dim, reverse: bool = False) -> None:
        self.length, self.reverse = length, reverse
        self.states: dict[Node, Node] = {}  # the argument of the body, and what it is before the first step
        self.slices: dict[Node, Node] = {}  # the argument, and the whole sequence
        self.new: list[Node] = []
        self.going: Node | None = None
        self.counter: Node | None = None
        self.wanted: dict[Result, Node] = {}  # results, and what stands for them until the loop is written
        self.kinds: dict[Node, int] = {}  # 0: does not change; 1: made of slices; 2: of states too
        self.taken_out: dict[Node, Node] = {}
        self.lifted: dict[Node, Node | None] = {}

    def state(self, start: Node) -> Node:
        n = placeholder(start.dtype, start.shape, "state")
        self.states[n], self.kinds[n] = start, 2
        return n

    def slice(self, sequence: Node) -> Node:
        for n, whole in self.slices.items():
            if whole is sequence:
                return n
        if not sequence.ndim:
            raise ShapeError("a loop goes over the first axis of a sequence; a scalar has none")
        n = placeholder(sequence.dtype, sequence.shape[1:], "slice")
        self.slices[n], self.kinds[n] = sequence, 1
        return n

    def count(self) -> Node:
        """How many steps have been done before this one, as a state of its own."""
        if self.counter is None:
            self.counter = self.state(size(0))
        return self.counter

    def close(self, new: Sequence[Node], going: Node | None = None) -> None:
        """What the states are after a step; and whether there is to be one, of the states before it."""
        if going is not None or self.counter is not None:
            new = [*new, self.count() + 1]
        if len(new) != len(self.states):
            raise GraphError(f"a loop of {len(self.states)} states was closed with {len(new)} new ones")
        self.new = self.without_products([*new, *([going] if going is not None else [])])
        self.going = self.new.pop() if going is not None else None
        self.needed = set(toposort(self.new, stop=lambda n: self.kind(n) < 2))

    # -------------------------------------------------------------------------------------- results

    def final(self, k: int) -> Node:
        return self.stand_in(scan.final(k), self.new[k].dtype, list(self.states)[k].shape)

    def trace(self, k: int) -> Node:
        check_bounded(self.length)
        return self.stand_in(scan.trace(k), self.new[k].dtype, (self.length + 1, *list(self.states)[k].shape))

    def each(self, n: Node) -> Node:
        """The values of a node of the body at all steps, in the order of time."""
        check_bounded(self.length)
        (n,) = self.without_products([n])
        if self.kind(n) == 0:
            return expand(n, (self.length, *n.shape))
        if self.kind(n) == 1 and (whole := self.of_sequences(n)) is not None:
            return whole
        if n in self.new:
            return after(self.trace(self.new.index(n)), self.length, self.reverse)
        if n in self.states:
            return before(self.trace(list(self.states).index(n)), self.length, self.reverse)
        return self.sunk(n) or self.stand_in(scan.each(n), n.dtype, (self.length, *n.shape))

    def total(self, n: Node) -> Node:
        """The sum of a node of the body over all steps."""
        (n,) = self.without_products([n])
        if self.kind(n) == 0:
            return n * e.broadcast(n, size(self.length, n.dtype))[1]
        if n.op is CONTRACT:
            xs = [(x, self.kind(x) > 0) for x in n.inputs]
            if all(varies for _, varies in xs):
                return sum_of_all(n.attrs["spec"], [(self.each(x), True) for x, _ in xs], self.length)
            if sum(varies for _, varies in xs) == 1:
                return with_inputs(n, tuple(self.total(x) if varies else x for x, varies in xs))
        if n.op in (ADD, SUB, NEG, RESHAPE, PERMUTE, EXPAND, SLICE, CONCAT) or (n.op is PAD and not n.attrs["value"]):
            return with_inputs(n, tuple(map(self.total, n.inputs)))
        if n.op is MUL and (fixed := [x for x in n.inputs if self.kind(x) == 0]):
            return self.total(next(x for x in n.inputs if self.kind(x))) * fixed[0]
        if n.op is SUM:
            return sum_(self.each(n.inputs[0]), (0, *(d + 1 for d in n.attrs["axes"])))
        if self.kind(n) == 1 and (whole := self.of_sequences(n)) is not None:
            return sum_(whole, 0)
        so_far = self.state(expand(size(0, n.dtype), n.shape))
        self.new.append(so_far + n)
        return self.final(len(self.new) - 1)

    def stand_in(self, result: Result, dtype: object, shape: Sequence[Dim]) -> Node:
        if result not in self.wanted:
            self.wanted[result] = placeholder(dtype, tuple(shape), "result")  # type: ignore[arg-type]
        return self.wanted[result]

    def results(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes, made of final, trace and each, with the loop in them."""
        below = set(toposort(nodes))
        wanted = {r: n for r, n in self.wanted.items() if n in below}
        roots = [*self.new, *(r.node for r in wanted if r.node is not None)]
        roots += [] if self.going is None else [self.going]
        order = toposort(roots, stop=self.is_outside)
        slices = [n for n in self.slices if n in set(order)]
        captures = [n for n in order if self.is_outside(n) and has_leaves(n)]
        given = [*self.states, *slices, *captures]
        inputs = [*self.states.values(), *(self.slices[n] for n in slices), *captures]
        arguments = {n: argument(k, n) for k, n in enumerate(given)}
        if any(n.op.name in ("assign", "group") for n in order):
            raise GraphError(
                "a variable is assigned to in the body of a loop; make it a state, and assign the last one"
            )
        body = rewrite(roots, lambda n: n, start=arguments)
        going = None if self.going is None else body[self.going]
        new = tuple(body[n] for n in self.new)
        loop = Loop(tuple(arguments.values()), new, len(slices), self.length, self.reverse, going)
        asked = {n: r if r.node is None else scan.each(body[r.node]) for r, n in wanted.items()}
        start = {n: scan.scan(loop, inputs, r) for n, r in asked.items()}
        done = rewrite(nodes, lambda n: n, start=start)
        return [done[n] for n in nodes]

    # -------------------------------------------------------------------------------------- out of the loop

    def kind(self, n: Node) -> int:
        if n not in self.kinds:
            for m in toposort([n], stop=self.kinds.__contains__):
                if m not in self.kinds:
                    self.kinds[m] = max((self.kinds[x] for x in m.inputs), default=0)
        return self.kinds[n]

    def is_outside(self, n: Node) -> bool:
        """Whether a node is made outside of the loop. What is only stretched is stretched inside."""
        return self.kind(n) == 0 and n.op is not EXPAND

    def without_products(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes with the products of slices taken before the loop."""
        done = self.taken_out
        for n in toposort(nodes, stop=lambda n: n in done or self.kind(n) == 0):
            if n not in done:
                done[n] = self.product_before(with_inputs(n, tuple(done[x] for x in n.inputs))) if self.kind(n) else n
        return [done[n] for n in nodes]

    def product_before(self, n: Node) -> Node:
        if n.op is not CONTRACT:
            return n
        n = self.parted(n)
        if n.op is CONTRACT and self.kind(n) == 1 and (whole := self.of_sequences(n)) is not None:
            return self.slice(whole)
        return n

    def parted(self, n: Node) -> Node:
        """[x, h] @ W as x @ W' + h @ W'', where one changes with the states and the other does not."""
        spec: Spec = n.attrs["spec"]
        for k, (x, places) in enumerate(zip(n.inputs, spec.operands, strict=True)):
            letter = places[x.attrs["axis"]].letter if x.op is CONCAT else None
            if letter in spec.folded and spec.plain and len({self.kind(part) for part in x.inputs}) > 1:
                lengths = [part.shape[x.attrs["axis"]] for part in x.inputs]
                starts: Iterable[Dim] = itertools.accumulate([0, *lengths], expr.add)
                products = []
                for part, start, length in zip(x.inputs, starts, lengths, strict=False):
                    sizes = tuple((a, length if a == letter else m) for a, m in spec.sizes)
                    xs = [part if j == k else cut_letter(y, spec.operands[j], letter, start, length) for j, y in enumerate(n.inputs)]  # fmt: skip
                    products.append(self.product_before(make(CONTRACT, *xs, spec=spec._replace(sizes=sizes))))
                return functools.reduce(e.add, products)
        return n

    def of_sequences(self, n: Node) -> Node | None:
        """The values of a node that is made of slices, at all steps, by ops outside of the loop."""
        if n not in self.lifted:
            for m in toposort([n], stop=lambda m: m in self.slices or m in self.lifted or self.kind(m) == 0):
                if m in self.slices:
                    self.lifted[m] = self.slices[m]
                elif m not in self.lifted and self.kind(m):
                    xs = [(self.lifted[x], True) if self.kind(x) else (x, False) for x in m.inputs]
                    known = [(x, varies) for x, varies in xs if x is not None]
                    self.lifted[m] = lift(m, known, self.length) if len(known) == len(xs) else None
        return self.lifted[n]

    def sunk(self, n: Node) -> Node | None:
        """A node that no state needs, by ops after the loop, if a product can be put off so."""
        region = toposort([n], stop=lambda m: m in self.needed or self.kind(m) < 2 or m in self.states)
        inside = [m for m in region if not (m in self.needed or self.kind(m) < 2 or m in self.states)]
        if not any(m.op is CONTRACT for m in inside):
            return None
        whole: dict[Node, Node] = {}
        for m in inside:
            xs = [
                (x, False) if self.kind(x) == 0 else (whole[x] if x in whole else self.each(x), True) for x in m.inputs
            ]
            made = lift(m, xs, self.length)
            if made is None:
                return None
            whole[m] = made
        return whole[n]


def cut_letter(x: Node, places: Sequence[Position], letter: str | None, start: Dim, length: Dim) -> Node:
    mine = [p.letter == letter for p in places]
    begin = tuple(start if m else 0 for m in mine)
    return slice_(x, begin, tuple(length if m else n for m, n in zip(mine, x.shape, strict=True)))


def has_leaves(n: Node) -> bool:
    """Whether a node is made of anything from outside; a number need not be handed in."""
    return any(m.op.kind == "leaf" for m in toposort([n]))


__all__ = ["UNBOUNDED", "Recurrence", "after", "before", "check_bounded"]
