"""phases: a contraction that reads every s-th place, as s contractions that read every place.

The gradient of a convolution with stride s reads (h + p - i) / s where that is a whole number and zero elsewhere, so
all but one in s of its products are with zero. For the rows h = s*q + r of one r, only the taps i = i0 + s*k are met:

    (h + p - i) / s  =  q - k + (r + p - i0) / s

so each r is a contraction of its own with part of the filter, and the results are put together again.

Where the filter is as long as its step, h = s*k + i for one k and one i: the position is k, and h is two letters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tinyflow.graph.node import Node, at_line, make
from tinyflow.ops.contraction import CONTRACT, Position, Spec
from tinyflow.ops.functions import zeros
from tinyflow.ops.movement import concat, expand_dims, permute, reshape, slice_


class Sparse(NamedTuple):
    """A position (c*row + d*tap + offset) / divisor: `row` is kept in the result, `tap` is summed over."""

    operand: int
    axis: int
    row: str
    c: int
    tap: str
    d: int
    offset: int
    divisor: int


def phases(node: Node) -> Node:
    if node.op is not CONTRACT:
        return node
    if (apart := whole_steps(node)) is not None:
        return phases(apart)
    parts, steps = [node], []  # of all axes, those of the last one fastest
    while len(node.inputs) > 1 and (found := next(filter(None, map(sparse, parts)), None)):  # sums of windows are cheap
        steps.append(found)
        axis, rows = node.attrs["spec"].out.index(found.row), sized(node, found)
        parts = [phase(x, found, axis, r) for x in parts for r in range(min(found.divisor, rows))]
    return at_line(node, together(node, parts, steps)) if steps else node


def together(node: Node, parts: Sequence[Node], steps: Sequence[Sparse]) -> Node:
    """The result of its parts. They come beside each other before the last axis, where each is stored in whole lines, and are
    then seen where they belong."""
    axes = [node.attrs["spec"].out.index(at.row) for at in steps]
    counts = [min(at.divisor, sized(node, at)) for at in steps]
    shape, end = parts[0].shape, node.ndim - (node.ndim - 1 not in axes)
    beside = concat([expand_dims(x, end) for x in parts], end)
    order, wide = list(range(end)), list(shape)
    for k, (axis, count) in enumerate(zip(axes, counts, strict=True)):
        order.insert(order.index(axis) + 1, end + k)
        wide[axis] = wide[axis] * count
    order += range(end + len(counts), node.ndim + len(counts))
    whole = permute(reshape(beside, (*shape[:end], *counts, *shape[end:])), order)
    return slice_(reshape(whole, tuple(wide)), (0,) * node.ndim, node.shape)


def sized(node: Node, at: Sparse) -> int:
    n = node.attrs["spec"].size[at.row]
    assert isinstance(n, int), "sparse sees to it"
    return n


def sparse(node: Node) -> Sparse | None:
    """The first such position whose letters are used in no other way."""
    if node.op is not CONTRACT:
        return None
    spec: Spec = node.attrs["spec"]
    for k, positions in enumerate(spec.operands):
        for axis, p in enumerate(positions):
            row = [(a, c) for a, c in p.terms if a in spec.out]
            tap = [(a, c) for a, c in p.terms if a not in spec.out]
            if p.divisor == 1 or len(row) != 1 or len(tap) > 1 or not isinstance(p.offset, int):
                continue
            (a, c), (i, d) = row[0], tap[0] if tap else ("", 0)
            others = [q for j, x in enumerate(spec.operands) for e, q in enumerate(x) if (j, e) != (k, axis)]
            known = isinstance(spec.size[a], int) and spec.size[a] != 0 and isinstance(spec.size.get(i, 1), int)
            plain = not any(uses(q, a) for q in others) and all(q.letter == i for q in others if uses(q, i))
            if abs(c) == 1 and known and plain:
                return Sparse(k, axis, a, c, i, d, p.offset, p.divisor)
    return None


def whole_steps(node: Node) -> Node | None:
    """The contraction with two letters for one, where a position is (h - i) / s and i has s values."""
    spec: Spec = node.attrs["spec"]
    size = spec.size
    for places in spec.operands:
        for p in places:
            letters = {c: a for a, c in p.terms}
            if p.divisor == 1 or p.offset != 0 or set(letters) != {1, -1} or len(p.terms) != 2:
                continue
            h, i, s = letters[1], letters[-1], p.divisor
            n, others = size[h], [q for x in spec.operands for q in x if q is not p]
            plain = all(q.letter in (h, i) for q in others if uses(q, h) or uses(q, i))
            if size[i] == s and isinstance(n, int) and n and n % s == 0 and plain:
                return two_letters(node, p, h, i, n // s)
    return None


def two_letters(node: Node, p: Position, h: str, i: str, n: int) -> Node:
    """h as s*k + i. In the result the places i come before the last axis, and are then moved to where they belong."""
    spec: Spec = node.attrs["spec"]
    k, s = next(a for a in map(chr, range(0x3B1, 0x3C9)) if a not in spec.size), p.divisor
    inputs, operands = [], []
    for x, places in zip(node.inputs, spec.operands, strict=True):
        shape = [m for q, d in zip(places, x.shape, strict=True) for m in ((n, s) if q.letter == h else (d,))]
        inputs.append(reshape(x, tuple(shape)))
        each = [(k, i) if q.letter == h else (k,) if q is p else q for q in places]
        operands.append(tuple(q for e in each for q in ([e] if isinstance(e, Position) else map(letter, e))))
    sizes = tuple((k, n) if a == h else (a, m) for a, m in spec.sizes)
    if h not in spec.out:
        return at_line(node, make(CONTRACT, *inputs, spec=Spec(tuple(operands), spec.out, sizes)))
    out = [k if a == h else a for a in spec.out]
    at = max(len(out) - 1, out.index(k) + 1)
    result = phases(
        at_line(node, make(CONTRACT, *inputs, spec=Spec(tuple(operands), (*out[:at], i, *out[at:]), sizes)))
    )
    order = [d for d in range(len(out) + 1) if d != at]
    order.insert(out.index(k) + 1, at)
    return at_line(node, reshape(permute(result, order), node.shape))


def letter(a: str) -> Position:
    return Position(((a, 1),))


def uses(p: Position, letter: str) -> bool:
    return any(a == letter for a, _ in p.terms)


def phase(node: Node, at: Sparse, axis: int, r: int) -> Node:
    """The rows r, r + s, r + 2s ... of an axis of the result, of all phases as many: nobody looks at those past its end."""
    rows, s = -(-node.shape[axis] // at.divisor), at.divisor
    nothing = zeros((*node.shape[:axis], rows, *node.shape[axis + 1 :]), node.dtype)
    if node.op is not CONTRACT:
        return nothing
    spec: Spec = node.attrs["spec"]
    taps = spec.size.get(at.tap, 1)
    assert isinstance(taps, int), "sparse sees to it"
    step = s // math.gcd(at.d, s)
    first = next((i for i in range(min(step, taps)) if (at.c * r + at.d * i + at.offset) % s == 0), None)
    if first is None:
        return nothing
    count = len(range(first, taps, step))
    terms = ((at.row, at.c), *([(at.tap, at.d * step // s)] if at.tap else []))
    dense = Position(terms, (at.c * r + at.d * first + at.offset) // s)
    operands = [list(positions) for positions in spec.operands]
    operands[at.operand][at.axis] = dense
    inputs = [taken(x, p, at.tap, first, count, step) for x, p in zip(node.inputs, spec.operands, strict=True)]
    new = {at.row: rows, at.tap: count}
    sizes = tuple((a, new.get(a, n)) for a, n in spec.sizes)
    return at_line(node, make(CONTRACT, *inputs, spec=Spec(tuple(map(tuple, operands)), spec.out, sizes)))


def taken(x: Node, positions: Sequence[Position], tap: str, first: int, count: int, step: int) -> Node:
    """An operand at the taps that are met."""
    axes = [p.letter == tap for p in positions]
    return slice_(
        x,
        tuple(first if a else 0 for a in axes),
        tuple(count if a else n for a, n in zip(axes, x.shape, strict=True)),
        tuple(step if a else 1 for a in axes),
    )
