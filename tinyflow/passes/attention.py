"""attention: a softmax between two products, and its gradient, become ops that never write the scores down.

    S = contract(q, k) -- steps --> A      t = exp(A - max A)      p = t / sum t      p -- factors, masks --> w      y = contract(w, v)

    dv = contract(w, g)      dw = contract(g, v) -- factors, masks, backwards --> dp      dA = (dp / sum t + sum(-(dp p / sum t))) t
    dA -- steps, backwards --> ds      dq = contract(ds, k)      dk = contract(ds, q)

Looked for around each exponential, whatever the order of axes. Nothing changes where anything in between is used elsewhere
too: a program that asks for the probabilities gets them. The axes of scores are named: i of rows, j of keys, and numbers.

In bfloat16 and float16 sums stand between casts. There gradients are left as they are, unless a causal mask halves the work or
weights are drawn again: probabilities in two bytes, and products of pairs, are sooner than making all scores twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyflow.graph.node import Node, Op, at_line, make, with_inputs
from tinyflow.graph.op import lookup
from tinyflow.ops import attention as ops
from tinyflow.ops.contraction import CONTRACT
from tinyflow.ops.elementwise import broadcast, cast, where
from tinyflow.ops.leaf import constant
from tinyflow.ops.movement import EXPAND, PERMUTE, RESHAPE, expand, permute
from tinyflow.ops.reduction import MAX, SUM, kept_shape
from tinyflow.passes.attention_parts import (
    ADD,
    DIV,
    MUL,
    WHERE,
    Name,
    NoMatch,
    Operand,
    bare,
    is_slope,
    letters,
    need,
    number,
    other,
    score_input,
)
from tinyflow.passes.diagonals import diagonal

EXP, SUB, NEG, EQUAL, CAST = map(lookup, ("exp", "sub", "neg", "equal", "cast"))
WEIGHING = (MUL, DIV, WHERE)  # what dropout is made of
LOW_PAYS = (
    "causal",
    "weigh",
)  # gradients of low types without these are sooner made from probabilities in two bytes, kept
FEW_ROWS = 4  # for fewer queries, keys and values are sooner read where they lie

Making = Callable[[Mapping[Node, Node]], Node]


class Graph(NamedTuple):
    users: Mapping[Node, Sequence[Node]]
    roots: frozenset[Node]
    diagonals: dict[tuple[Node, str], int | None]  # of the masks that were worked out


def attention(roots: Sequence[Node], order: Sequence[Node]) -> dict[Node, Node]:
    """Old node -> new node: every attention is one op, and so is each of its gradients."""
    inside: set[Node] = set()
    made: dict[Node, Making] = {}
    if any(n.op is EXP for n in order):
        users: dict[Node, list[Node]] = {n: [] for n in order}
        for n in order:
            for x in dict.fromkeys(n.inputs):
                users[x].append(n)
        graph = Graph(users, frozenset(roots), {})
        for n in order:
            if n.op is EXP:
                try:
                    found = Search(graph, n)
                except NoMatch:
                    continue
                if not (found.inside | found.made.keys()) & (inside | made.keys()):
                    inside |= found.inside
                    made |= found.made
    new: dict[Node, Node] = {}
    for n in order:
        if n in made:
            new[n] = at_line(n, made[n](new))
        elif n not in inside:
            new[n] = with_inputs(n, tuple([new[x] for x in n.inputs]))
    return new


class Search:
    """What is found around the exponentials t; NoMatch, if that is not all of an attention."""

    def __init__(self, graph: Graph, t: Node) -> None:
        self.graph, self.t = graph, t
        self.inside: set[Node] = {t}  # what goes
        self.made: dict[Node, Making] = {}  # what stays, made anew
        self.way: list[tuple[Node, int]] = []  # the nodes from A down to S, and which input of each is the score
        self.steps: list[tuple[Any, ...]] = []  # what they do, from S up to A
        self.more: list[Node] = []
        self.weighing: list[tuple[Node, int]] = []  # the nodes from p up to w: dropout
        self.v: Operand | None = None
        self.g: Operand | None = None
        self.forward()

    def forward(self) -> None:
        """The result; then its gradients, if there are any."""
        away, users = self.t.inputs[0], self.graph.users
        need(away.op is SUB and self.t.dtype.is_floating)
        scores = away.inputs[0]
        greatest, blind = self.greatest(away.inputs[1])
        p = next((n for n in users[self.t] if n.op is DIV and n.inputs[0] is self.t), None)
        need(p is not None and greatest.inputs[0] is scores)
        assert p is not None
        self.p, self.total = p, p.inputs[1]
        total = self.row_fold(self.total, SUM, blind)
        need(self.unrounded(total.inputs[0]) is self.t and total.attrs["axes"] == greatest.attrs["axes"])
        self.inside |= {away, p}
        self.name_axes(self.down_to_product(scores), *greatest.attrs["axes"])
        slope = self.slope()
        w = self.up_to_weights(slope)
        products = [self.times_scores(n, w, "e") for n in users[w] if n is not slope]
        need(len({"i" in y.names for _, y in products}) == len(products))
        if slope:
            dp = other(slope, MUL, p)
            self.v, self.g = self.gives_scores(self.down_to_slopes(dp) if products else self.down_alone(dp))
        for x, y in products:
            if "i" in y.names:
                need(self.v in (None, x))
                self.v = x
            else:
                need(self.g in (None, x))
                self.g = x
        need(min(*self.sizes("q", "i", "d"), *self.sizes("v", "j", "e")) > 0 and self.sizes("q", "i")[0] >= FEW_ROWS)
        self.read_steps()
        if blind is not None:
            self.steps.append(("safe",))
        if self.weighing:
            self.steps.append(("weigh", len(self.more)))
        if self.t.dtype.is_low and slope:
            need(any(kind in LOW_PAYS for kind, *_ in self.steps))
        for _, y in products:
            if "i" in y.names:
                self.result(y, ("i", "e"), ops.attention)
            else:
                self.result(y, ("j", "e"), partial(ops.attention_grad, "v"))
        if slope:
            self.backward()
        for n in self.inside & users.keys():
            need(n not in self.graph.roots and all(u in self.inside or u in self.made for u in users[n]))

    def slope(self) -> Node | None:
        """dp p, if there is a gradient of the softmax; that is found on the way."""
        sole = [n for n in self.graph.users[self.t] if n.op is MUL]
        if not sole:
            return None
        need(len(sole) == 1)
        self.dA = sole[0]
        inner = other(self.dA, MUL, self.t)
        need(inner.op is ADD)
        first = next((n for n in inner.inputs if n.op is DIV and n.inputs[1] is self.total), None)
        need(first is not None)
        assert first is not None
        folded = self.row_fold(other(inner, ADD, first), SUM)
        minus = self.unrounded(folded.inputs[0])
        need(minus.op is NEG and minus.inputs[0].op is DIV and minus.inputs[0].inputs[1] is self.total)
        found = minus.inputs[0].inputs[0]
        need(other(found, MUL, self.p) is first.inputs[0])
        self.inside |= {self.dA, inner, first, minus, minus.inputs[0], found}
        return found

    def backward(self) -> None:
        """From the gradient of the softmax through that of the steps to dq and dk."""
        users, ds = self.graph.users, self.dA
        for n, score in self.way:
            if n.op is not ADD:
                need(len(users[ds]) == 1 and is_slope(users[ds][0], ds, n, score))
                ds = users[ds][0]
                self.inside.add(ds)
        for n in users[ds]:
            need(n.op is CONTRACT)
            x, dx = self.times_scores(n, ds, "d")
            of = "q" if "i" in dx.names else "k"
            need(x == (self.k if of == "q" else self.q))
            self.result(dx, ("i" if of == "q" else "j", "d"), partial(ops.attention_grad, of))

    # ---------------------------------------------------------------------------------- the parts

    def unrounded(self, x: Node) -> Node:
        """x before casts between a low type and the one it is computed in: sums are cast so, and within the op nothing is rounded."""
        low = self.t.dtype
        while low.is_low and x.op is CAST and {x.dtype, x.inputs[0].dtype} == {low, low.computed}:
            self.inside.add(x)
            x = x.inputs[0]
        return x

    def row_fold(self, x: Node, op: Op, blind: Node | None = None) -> Node:
        """The fold of one axis that x repeats along it; `blind` may be added to it."""
        shape = x.shape
        x = self.unrounded(x)
        if x.op is EXPAND:
            self.inside.add(x)
            x = self.unrounded(x.inputs[0])
        kept = x.shape
        if blind is not None:
            one = next((y for y in x.inputs if y.op is CAST and y.inputs[0] is blind), None)
            need(one is not None)
            self.inside |= {x, one}  # type: ignore[arg-type]
            x = self.unrounded(other(x, ADD, one))  # type: ignore[arg-type]
        if x.op is RESHAPE:
            self.inside.add(x)
            x = self.unrounded(x.inputs[0])
        need(x.op is op and len(x.attrs["axes"]) == 1)
        need(kept == kept_shape(x.inputs[0].shape, x.attrs["axes"]) and shape == x.inputs[0].shape)
        self.inside.add(x)
        return x

    def greatest(self, x: Node) -> tuple[Node, Node | None]:
        """The maxima that x repeats; and where they are -infinity, if x is 0 there."""
        inner = x.inputs[0] if x.op is EXPAND else x
        if inner.op is not WHERE:
            return self.row_fold(x, MAX), None
        blind, nothing, top = inner.inputs
        need(
            number(nothing) == 0 and blind.op is EQUAL and blind.inputs[0] is top and number(blind.inputs[1]) == -np.inf
        )
        self.inside |= {x, inner, blind}
        return self.row_fold(expand(top, x.shape), MAX), blind

    def down_to_product(self, x: Node) -> Node:
        while x.op is not CONTRACT:
            score = score_input(x)
            self.way.append((x, score))
            self.inside.add(x)
            x = x.inputs[score]
        self.inside.add(x)
        return x

    def up_to_weights(self, slope: Node | None) -> Node:
        """w: what p is multiplied by on the way, or where it is 0, are weights of their own."""
        w = self.p
        while True:
            users = [n for n in self.graph.users[w] if n is not slope]
            if all(n.op is CONTRACT for n in users):
                return w
            need(len(users) == 1)
            (n,) = users
            need(n.op in WEIGHING and n.inputs.count(w) == 1)
            at = n.inputs.index(w)
            need(at == 0 if n.op is DIV else n.op is MUL or (at > 0 and number(n.inputs[3 - at]) == 0))
            self.weighing.append((n, at))
            self.inside.add(n)
            w = n

    def down_to_slopes(self, dp: Node) -> Node:
        """dw, from dp."""
        for n, at in self.weighing:
            inner = next((x for x in dp.inputs if is_slope(dp, x, n, at)), None)
            need(inner is not None)
            self.inside.add(dp)
            dp = inner  # type: ignore[assignment]
        return dp

    def down_alone(self, dp: Node) -> Node:
        """dw, from dp; the way tells what the weights would be, if they are not used themselves."""
        while dp.op is not CONTRACT:
            need(dp.op in WEIGHING)
            if dp.op is WHERE:
                at = 1 if number(dp.inputs[2]) == 0 else 2
                need(number(dp.inputs[3 - at]) == 0)
            else:
                at = 0 if dp.op is DIV or dp.inputs[0].op in (*WEIGHING, CONTRACT) else 1
            self.weighing.append((dp, at))
            self.inside.add(dp)
            dp = dp.inputs[at]
        return dp

    def name_axes(self, s: Node, axis: int) -> None:
        """Which operand is q, which k, and what each axis is."""
        (a, b), out = letters(s)
        j = out[axis]
        need((j in a) != (j in b))
        q, k = (b, a) if j in a else (a, b)
        rows, along = [x for x in q if x in out and x not in k], [x for x in q if x not in out]
        need(len(rows) == len(along) == 1)
        name: dict[str, Name] = {x: n for n, x in enumerate(out)} | {j: "j", rows[0]: "i", along[0]: "d"}
        self.axes = tuple(name[x] for x in out)
        self.heads = tuple(x for x in self.axes if isinstance(x, int))
        first = q is a
        self.q = Operand(s.inputs[0 if first else 1], tuple(name[x] for x in q))
        self.k = Operand(s.inputs[1 if first else 0], tuple(name[x] for x in k))
        self.q.order((*self.heads, "i", "d"))
        self.k.order((*self.heads, "j", "d"))

    def times_scores(self, product: Node, scores: Node, along: str) -> tuple[Operand, Operand]:
        """(the other operand, the result) of a product with something of the scores' shape, over i or j."""
        specs, out = letters(product)
        at = product.inputs.index(scores)
        need(product.inputs[1 - at] is not scores)
        name = dict(zip(specs[at], self.axes, strict=True))
        rest = [x for x in specs[1 - at] if x not in name]
        need(len(rest) == 1)
        name[rest[0]] = along
        x = Operand(product.inputs[1 - at], tuple(name[a] for a in specs[1 - at]))
        y = Operand(product, tuple(name[a] for a in out))
        over = "j" if "i" in y.names else "i"
        x.order((*self.heads, over, along))
        y.order((*self.heads, "i" if over == "j" else "j", along))
        return x, y

    def gives_scores(self, dw: Node) -> tuple[Operand, Operand]:
        """v and g, of dw = g v^T."""
        need(dw.op is CONTRACT)
        self.inside.add(dw)
        specs, out = letters(dw)
        name = dict(zip(out, self.axes, strict=True))
        operands = [Operand(x, tuple(name.get(a, "e") for a in spec)) for x, spec in zip(dw.inputs, specs, strict=True)]
        v, g = operands if "j" in operands[0].names else operands[::-1]
        v.order((*self.heads, "j", "e"))
        g.order((*self.heads, "i", "e"))
        return v, g

    def sizes(self, of: str, *names: Name) -> list[int]:
        x: Operand | None = getattr(self, of)
        if x is None:
            raise NoMatch
        found = [x.node.shape[x.names.index(n)] for n in names]
        need(all(isinstance(n, int) for n in found))
        return found  # type: ignore[return-value]

    # ---------------------------------------------------------------------------------- what takes their place

    def read_steps(self) -> None:
        for n, score in reversed(self.way):
            other = n.inputs[1 - score] if n.op is not WHERE else n.inputs[0]
            value = number(n.inputs[3 - score if n.op is WHERE else 1 - score])
            kind = n.op.name if n.op is not WHERE else "where" if score == 1 else "unless"
            c = self.diagonal(other, kind) if kind == "add" or value == -np.inf else None
            if c is not None:
                self.steps.append(("causal", c))
            elif n.op in (MUL, DIV):
                self.steps.append((kind, value))
            else:
                self.more.append(other)
                self.steps.append((kind, len(self.more) - 1, *([value] if n.op is WHERE else [])))

    def diagonal(self, mask: Node, kind: str) -> int | None:
        """c, if the mask lets row i see the keys up to i + c and no others."""
        if self.axes[-2:] != ("i", "j") or any(s[0] == "causal" for s in self.steps):
            return None
        while mask.op is EXPAND:
            mask = mask.inputs[0]
        if mask.shape[-2:] != (*self.sizes("q", "i"), *self.sizes("k", "j")):
            return None
        known = self.graph.diagonals
        if (mask, kind) not in known:
            known[mask, kind] = diagonal(mask, kind)
        return known[mask, kind]

    def result(self, y: Operand, names: tuple[str, str], op: Callable[..., Node]) -> None:
        """Makes y anew, in the order of axes of its user, where that only turns it."""
        axes: tuple[Name, ...] = (*self.heads, *names)
        order = tuple(axes.index(x) for x in y.names)
        then: list[Node] = []
        at, last = y.node, y.node
        while at not in self.graph.roots and len(self.graph.users[at]) == 1:
            at = self.graph.users[at][0]
            if at.op is PERMUTE:
                last = at
            elif not (at.op in (MUL, DIV) and number(at.inputs[1]) is not None):
                break
            then.append(at)
        then = then[: then.index(last) + 1] if last is not y.node else []
        self.inside.update([y.node, *then[:-1]] if then else [])
        for n in then:
            if n.op is PERMUTE:
                order = tuple(order[d] for d in n.attrs["order"])
        factors = [(n.op, number(n.inputs[1])) for n in then if n.op is not PERMUTE]

        grad = op is not ops.attention
        inside = {"times": float(factors[0][1])} if grad and [f[0] for f in factors] == [MUL] else {}

        def made(new: Mapping[Node, Node]) -> Node:
            z = op(*self.operands(new, grad), steps=tuple(self.steps), order=order, **inside)
            for kind, value in () if inside else factors:
                z = make(kind, z, expand(constant(value, z.dtype), z.shape))
            return z

        self.made[last] = made

    def operands(self, new: Mapping[Node, Node], grad: bool) -> list[Node]:
        """In the order of axes that the ops take."""
        assert self.v is not None
        wanted = [(self.q, "i", "d"), (self.k, "j", "d"), (self.v, "j", "e")]
        if grad:
            assert self.g is not None
            wanted.append((self.g, "i", "e"))
        wanted += [(Operand(x, self.axes), "i", "j") for x in self.more]
        found = [(new[x.node], x.order((*self.heads, *names))) for x, *names in wanted]
        if self.weighing:
            found.append((self.weight(new), Operand(self.p, self.axes).order((*self.heads, "i", "j"))))
        return [permute(x, order) for x, order in found]

    def weight(self, new: Mapping[Node, Node]) -> Node:
        """What p is multiplied by: one number, as far as that goes; not rounded to a low type on the way."""
        dtype = self.p.dtype.computed
        x = constant(1.0, dtype)
        for n, at in sorted(self.weighing, key=lambda step: bare(step[0].inputs[1 - step[1]]).shape != ()):
            if n.op is WHERE:
                x = at_line(n, where(new[n.inputs[0]], *((x, 0.0) if at == 1 else (0.0, x))))
            else:
                x = at_line(n, make(n.op, *broadcast(x, cast(new[bare(n.inputs[1 - at])], dtype))))
        return expand(x, self.p.shape)


__all__ = ["attention"]
