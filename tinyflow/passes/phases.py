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
from tinyflow.ops.movement import concat, expand_dims, pad, permute, reshape, slice_


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
    if node.op is CONTRACT and (apart := whole_steps(node)) is not None:
        return phases(apart) if apart.op is CONTRACT else apart
    found = (
        sparse(node) if node.op is CONTRACT and len(node.inputs) > 1 else None
    )  # sums of windows are cheap as they are
    if found is None:
        return node
    spec: Spec = node.attrs["spec"]
    axis, n, s = spec.out.index(found.row), spec.size[found.row], found.divisor
    assert isinstance(n, int)
    most = -(-n // s)
    parts = []
    for r in range(min(s, n)):
        part = phases(phase(node, found, r))
        short = tuple(most - part.shape[d] if d == axis else 0 for d in range(node.ndim))
        parts.append(expand_dims(pad(part, (0,) * node.ndim, short), axis + 1))
    whole = reshape(concat(parts, axis + 1), (*node.shape[:axis], most * len(parts), *node.shape[axis + 1 :]))
    return at_line(node, slice_(whole, (0,) * node.ndim, node.shape))


def sparse(node: Node) -> Sparse | None:
    """The first such position whose letters are used in no other way."""
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


def phase(node: Node, at: Sparse, r: int) -> Node:
    """The rows r, r + s, r + 2s ... of the result."""
    spec: Spec = node.attrs["spec"]
    size, s = spec.size, at.divisor
    n, taps = size[at.row], size.get(at.tap, 1)
    assert isinstance(n, int) and isinstance(taps, int), "sparse sees to it"
    rows = len(range(r, n, s))
    step = s // math.gcd(at.d, s)
    first = next((i for i in range(min(step, taps)) if (at.c * r + at.d * i + at.offset) % s == 0), None)
    if first is None:
        return zeros(tuple(rows if a == at.row else size[a] for a in spec.out), node.dtype)
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
