"""Contraction: products of operands at affine indices, summed over the letters that the output lacks.

    spec    := operand (',' operand)? '->' letter*
    operand := position*
    position:= letter | '(' coefficient letter ('+' ...)* '+' offset ')' ('/' divisor)?

    matrix product      ij,jk->ik
    batched product     bij,bjk->bik
    3x3 convolution     n(h+i-1)(w+j-1)c,ijco->nhwo        channels last, padding 1
    windows of pooling  n(2h+i)(2w+j)c->nhwcij

An operand is zero outside its bounds, and where a divisor does not divide. So the gradient of a contraction is a
contraction: solve the operand's positions for one of their letters.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core import expr
from tinyflow.core.dtypes import DType, bfloat16, bool_, float32, float64, int32
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Expr, Index, apply, const
from tinyflow.graph.node import Dim, Node, Shape, make, shape_text
from tinyflow.graph.op import Sample, define
from tinyflow.ops import rules
from tinyflow.ops.rules import both, guard, numeric


class Position(NamedTuple):
    """(sum of coefficient * letter + offset) / divisor"""

    terms: tuple[tuple[str, int], ...]
    offset: Dim = 0
    divisor: int = 1

    @property
    def letter(self) -> str | None:
        """The letter that this position is, if it is one letter alone."""
        plain = (
            len(self.terms) == 1
            and self.terms[0][1] == 1
            and isinstance(self.offset, int)
            and self.offset == 0
            and self.divisor == 1
        )
        return self.terms[0][0] if plain else None

    def __str__(self) -> str:
        if self.letter:
            return self.letter
        inside = "".join(f"{c:+d}".replace("1", "", abs(c) == 1) + a for a, c in self.terms).lstrip("+")
        tail = (
            ""
            if isinstance(self.offset, int) and self.offset == 0
            else f"{self.offset:+d}"
            if isinstance(self.offset, int)
            else f"+{self.offset}"
        )
        return f"({inside}{tail})" + (f"/{self.divisor}" if self.divisor > 1 else "")


class Spec(NamedTuple):
    """What is multiplied where. `sizes` holds the size of every letter."""

    operands: tuple[tuple[Position, ...], ...]
    out: tuple[str, ...]
    sizes: tuple[tuple[str, Dim], ...]
    pairs: bool = False  # whether the elements are pairs of bfloat16, whose products are added up in float32

    @property
    def size(self) -> dict[str, Dim]:
        return dict(self.sizes)

    @property
    def folded(self) -> tuple[str, ...]:
        """The letters summed over, in the order in which they appear."""
        used = dict.fromkeys(a for p in self.operands for x in p for a, _ in x.terms)
        return tuple(a for a in used if a not in self.out)

    @property
    def plain(self) -> bool:
        return all(x.letter for p in self.operands for x in p)

    def __str__(self) -> str:
        return ",".join("".join(map(str, p)) for p in self.operands) + "->" + "".join(self.out)


def contract_shape(*shapes: Shape, spec: Spec) -> Shape:
    size = spec.size
    for shape, positions in zip(shapes, spec.operands, strict=True):
        if len(shape) != len(positions):
            raise ShapeError(
                f"{spec}: an operand of {len(positions)} dimensions is wanted, {shape_text(shape)} has {len(shape)}"
            )
        for n, p in zip(shape, positions, strict=True):
            if p.letter and not rules.same_dim(n, size[p.letter]):
                raise ShapeError(
                    f"{spec}: {p.letter} is {size[p.letter]} and {n} in {' and '.join(map(shape_text, shapes))}"
                )
    return tuple(size[a] for a in spec.out)


# ------------------------------------------------------------------------------------------ meaning and lowering


def contract_np(*xs: Any, spec: Spec) -> Any:
    """einsum, after every operand is laid out by its letters."""
    if spec.pairs:
        first, second = zip(*map(unpaired, xs), strict=True)
        return contract_np(*first, spec=spec._replace(pairs=False)) + contract_np(
            *second, spec=spec._replace(pairs=False)
        )
    size = spec.size
    laid, names = [], []
    for x, positions in zip(xs, spec.operands, strict=True):
        letters = sorted({a for p in positions for a, _ in p.terms})
        laid.append(x if all(p.letter for p in positions) else spread(x, positions, letters, size))
        names.append([p.letter for p in positions] if all(p.letter for p in positions) else letters)
    ids = {a: k for k, a in enumerate(size)}
    arguments = itertools.chain.from_iterable((x, [ids[str(a)] for a in n]) for x, n in zip(laid, names, strict=True))
    return np.einsum(*arguments, [ids[a] for a in spec.out], optimize=True)


def spread(x: Any, positions: Sequence[Position], letters: Sequence[str], size: Mapping[str, Any]) -> Any:
    """x at every value of the letters, zero outside its bounds."""
    grid = dict(zip(letters, np.meshgrid(*(np.arange(size[a]) for a in letters), indexing="ij"), strict=True))
    valid, index = np.array(True), []
    for n, p in zip(x.shape, positions, strict=True):
        at: Any = p.offset
        for a, c in p.terms:
            at = at + c * grid[a]
        at = np.asarray(at)
        inside = (at % p.divisor == 0) & (at >= 0) & (at // p.divisor < n)
        valid = valid & inside
        index.append(np.where(inside, at // p.divisor, 0))
    full = np.broadcast_shapes(*(g.shape for g in grid.values()), ())
    if 0 in x.shape:
        return np.zeros(full, x.dtype)
    return np.where(valid, x[tuple(index)], np.zeros((), x.dtype))


def contract_at(i: Any, *xs: Any, spec: Spec) -> Expr:
    size = spec.size
    value: dict[str, expr.Index_] = dict(zip(spec.out, i, strict=True))
    over = [expr.axis(size[a], a) for a in spec.folded]
    value.update(zip(spec.folded, over, strict=True))
    body = read(xs[0], spec.operands[0], value)
    for x, positions in zip(xs[1:], spec.operands[1:], strict=True):
        body = apply("dot of pairs" if spec.pairs else "mul", body, read(x, positions, value))
    return expr.fold("add", [k for k in over if isinstance(k, Index)], body)


def read(x: Any, positions: Sequence[Position], value: Mapping[str, expr.Index_]) -> Expr:
    """One operand at the letters' values, guarded by its bounds where they could be left."""
    tests, index = [], []
    for n, p in zip(x.shape, positions, strict=True):
        at: expr.Index_ = p.offset
        for a, c in p.terms:
            at = at + value[a] * c
        if p.divisor > 1:
            tests.append(apply("eq", expr.mod(at, p.divisor), 0, dtype=bool_))
        low, high = expr.bounds(at)
        if not p.letter and not expr.at_least(low, 0):
            tests.append(rules.less_equal(const(0), at))
        if not p.letter and not (high is not None and expr.at_least(expr.mul(n, p.divisor) - high, 1)):
            tests.append(rules.less(at, expr.mul(n, p.divisor)))
        index.append(at if p.letter else expr.inside(expr.floordiv(at, p.divisor), n))
    return guard(both(*tests), x(*index), const(0, x.dtype))


# ------------------------------------------------------------------------------------------ gradient


def contract_grad(g: Node, y: Node, *xs: Node, spec: Spec) -> tuple[Callable[[], Node], ...]:
    """Each made only if it is wanted."""
    return tuple(partial(operand_grad, g, xs, spec, k) for k in range(len(xs)))


def operand_grad(g: Node, xs: Sequence[Node], spec: Spec, k: int) -> Node:
    """Operand k's positions become the output's letters, and one letter of each is solved for."""
    size = spec.size
    names = (
        a
        for a in itertools.chain(string.ascii_lowercase, string.ascii_uppercase, map(chr, range(0x3B1, 0x3C9)))
        if a not in size
    )
    solved: dict[str, Position] = {}
    out: list[str] = []
    for n, p in zip(xs[k].shape, spec.operands[k], strict=True):
        if p.letter and p.letter not in out:
            out.append(p.letter)
            continue
        name = next(names)
        size[name] = n
        letter, c = next(((a, c) for a, c in p.terms if a in spec.out and a not in solved and a not in out), p.terms[0])
        sign = 1 if c > 0 else -1
        others = tuple((a, -b * sign) for a, b in p.terms if a != letter)
        solved[letter] = Position(((name, p.divisor * sign), *others), expr.mul(p.offset, -sign), abs(c))
        out.append(name)
    places = [tuple(place(Position(((a, 1),)), solved) for a in spec.out)]
    places += [tuple(place(p, solved) for p in spec.operands[j]) for j in range(len(xs)) if j != k]
    nodes = [g, *(x for j, x in enumerate(xs) if j != k)]
    used = {a for positions in places for p in positions for a, _ in p.terms} | set(out)
    dx = make(
        CONTRACT, *nodes, spec=Spec(tuple(places), tuple(out), tuple((a, n) for a, n in size.items() if a in used))
    )
    lost = [a for a in out if not any(a == b for positions in places for p in positions for b, _ in p.terms)]
    assert not lost, f"{spec}: the gradient of operand {k} does not depend on {lost}"
    return dx


def place(p: Position, solved: Mapping[str, Position]) -> Position:
    """A position in which solved letters are replaced."""
    if not any(a in solved for a, _ in p.terms):
        return p
    if p.letter:
        return solved[p.letter]
    raise ShapeError(f"the gradient through position {p} is not an affine contraction")


S = Position


def letters(text: str) -> tuple[Position, ...]:
    return tuple(Position(((a, 1),)) for a in text)


def plain_spec(text: str, *shapes: Shape) -> Spec:
    """A spec of single letters, its sizes read off the operands' shapes."""
    left, out = text.split("->")
    size: dict[str, Dim] = {}
    for names, shape in zip(left.split(","), shapes, strict=True):
        if len(names) != len(shape):
            raise ShapeError(f"{text}: {names} wants {len(names)} dimensions, {shape_text(shape)} has {len(shape)}")
        for a, n in zip(names, shape, strict=True):
            if not rules.same_dim(size.setdefault(a, n), n):
                raise ShapeError(f"{text}: {a} is {size[a]} and {n} in {' and '.join(map(shape_text, shapes))}")
            if isinstance(n, int):
                size[a] = n
    return Spec(tuple(map(letters, left.split(","))), tuple(out), tuple(size.items()))


_conv = Spec(((S((("n", 1),)), S((("h", 2), ("i", 1)), -1), S((("w", 1), ("j", 2)), -1), S((("c", 1),))), letters("ijco")), tuple("nhwo"),
             (("n", 2), ("h", 4), ("w", 5), ("i", 3), ("j", 2), ("c", 3), ("o", 17)))  # fmt: skip
_pool = Spec(((S((("n", 1),)), S((("h", 2), ("i", 1))), S((("w", 2), ("j", 1))), S((("c", 1),))),), tuple("nhwcij"),
             (("n", 2), ("h", 3), ("w", 2), ("c", 5), ("i", 2), ("j", 2)))  # fmt: skip


def _plain(text: str, *shapes: Shape, dtype: Any = float32) -> Sample:
    return Sample(tuple((s, dtype, -1, 1) for s in shapes), {"spec": plain_spec(text, *shapes)})


def paired_np(x: Any, axis: int) -> Any:
    """x as it is computed with holds bfloat16 values: their bits are the upper half."""
    bits = np.ascontiguousarray(np.moveaxis(x, axis, -1)).view(np.uint32) >> 16
    words = bits[..., ::2] | (bits[..., 1::2] << 16)
    return np.moveaxis(words.astype(np.uint32).view(np.float32), -1, axis)


def unpaired(x: Any) -> tuple[Any, Any]:
    words = np.ascontiguousarray(x).view(np.uint32)
    return (words << 16).view(np.float32), (words & 0xFFFF0000).view(np.float32)


def paired_shape(s: Shape, axis: int) -> Shape:
    n = s[axis]
    if not isinstance(n, int) or n % 2:
        raise ShapeError(f"{n} elements along axis {axis} of {shape_text(s)} are no pairs")
    return (*s[:axis], n // 2, *s[axis + 1 :])


def paired_at(i: Any, x: Any, axis: int) -> Expr:
    """Two neighbours; where they lie side by side in memory, they are one word there."""
    a, b = (x(*i[:axis], expr.add(expr.mul(i[axis], 2), k), *i[axis + 1 :]) for k in (0, 1))
    stored = [e.args[0] for e in (a, b) if isinstance(e, expr.Apply) and e.fn == "widen"]
    if len(stored) == 2 and all(isinstance(e, expr.Load) for e in stored):
        first, second = stored
        even = all(c % 2 == 0 for _, c in expr.terms_of(first.offset))  # type: ignore[attr-defined]
        if even and first.buffer is second.buffer and expr.add(first.offset, 1) == second.offset:  # type: ignore[attr-defined]
            return expr.load(first.buffer, expr.floordiv(first.offset, 2), float32)  # type: ignore[attr-defined]
    return apply("pair", a, b)


def paired_type(x: DType, axis: int) -> DType:
    if x is not bfloat16:
        raise ShapeError(f"pairs are of bfloat16, not {x}")
    return float32


PAIRS = define("pairs", numpy=paired_np, shape=paired_shape, dtype=paired_type, at=paired_at, grad=None, samples=())
CONTRACT = define(
    "contract", numpy=contract_np, shape=contract_shape, dtype=numeric, at=contract_at, grad=contract_grad,
    samples=(
        _plain("ij,jk->ik", (3, 4), (4, 5)), _plain("ij,jk->ik", (33, 70), (70, 47)), _plain("ij,kj->ik", (17, 16), (15, 16)),
        _plain("ji,jk->ik", (100, 784), (100, 10)), _plain("ij,jk->ik", (1, 7), (7, 1)), _plain("ij,jk->ik", (0, 3), (3, 2)),
        _plain("ij,jk->ik", (2, 0), (0, 3)), _plain("bij,bjk->bik", (3, 5, 7), (3, 7, 33), dtype=float64), _plain("ij,j->i", (5, 1023), (1023,)),
        _plain("ij,jk->ik", (6, 5), (5, 4), dtype=int32), _plain("i,i->", (70,), (70,)), _plain("i,j->ij", (20,), (33,)),
        _plain("bhqd,bhkd->bhqk", (2, 3, 9, 16), (2, 3, 17, 16)), _plain("ij,jk->ki", (19, 4), (4, 21)), _plain("ij,jk->ik", (5, 600), (600, 40)),
        Sample((((2, 8, 6, 3), float32, -1, 1), ((3, 2, 3, 17), float32, -1, 1)), {"spec": _conv}),
        Sample((((2, 6, 4, 5), float32, -1, 1),), {"spec": _pool}),
    ),
)  # fmt: skip


# ------------------------------------------------------------------------------------------ functions


def einsum(text: str, *xs: Node) -> Node:
    """Einstein's summation: einsum("bij,bjk->bik", a, b). One or two operands; letters absent on the right are summed over."""
    if "->" not in text:
        count = [a for a in text if a.isalpha()]
        text += "->" + "".join(sorted(a for a in set(count) if count.count(a) == 1))
    left, out = text.replace(" ", "").split("->")
    terms = left.split(",")
    alone = [[d for d, a in enumerate(t) if a not in out and sum(u.count(a) for u in terms) == 1] for t in terms]
    if any(alone):  # summed beforehand: a contraction's gradient has no way back to a letter of one operand only
        from tinyflow.ops.reduction import sum_

        plain_spec(f"{left}->{out}", *(x.shape for x in xs))
        xs = tuple(sum_(x, axes) if axes else x for x, axes in zip(xs, alone, strict=True))
        left = ",".join(
            "".join(a for d, a in enumerate(t) if d not in axes) for t, axes in zip(terms, alone, strict=True)
        )
    return make(CONTRACT, *xs, spec=plain_spec(f"{left}->{out}", *(x.shape for x in xs)))


def matmul(a: Node, b: Node, transpose_a: bool = False, transpose_b: bool = False) -> Node:
    """The matrix product of the last two axes; axes in front broadcast, a vector counts as a matrix of one row or column.

    (..., m, k) @ (..., k, n) -> (..., m, n)
    """
    from tinyflow.ops.movement import expand, reshape

    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(
            f"matmul({a.dtype} {shape_text(a.shape)}, {b.dtype} {shape_text(b.shape)}): scalars have no product; use *"
        )
    vector_a, vector_b = a.ndim == 1, b.ndim == 1
    a = reshape(a, (1, *a.shape)) if vector_a else a
    b = reshape(b, (*b.shape, 1)) if vector_b else b
    k_a, k_b = a.shape[-2 if transpose_a else -1], b.shape[-1 if transpose_b else -2]
    if not rules.same_dim(k_a, k_b):
        raise ShapeError(f"matmul({a.dtype} {shape_text(a.shape)}, {b.dtype} {shape_text(b.shape)}): the inner sizes {k_a} and {k_b} differ; transpose an operand, or mend its shape")  # fmt: skip
    lead = rules.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if lead and b.ndim == 2 and not transpose_a:  # one matrix for all: the axes in front are rows
        rows = reshape(a, (expr.product(a.shape[:-1]), k_a))
        y = make(CONTRACT, rows, b, spec=plain_spec("ij,kj->ik" if transpose_b else "ij,jk->ik", rows.shape, b.shape))
        y = reshape(y, (*a.shape[:-1], y.shape[-1]))
    else:
        batch = string.ascii_uppercase[: len(lead)]
        a, b = expand(a, (*lead, *a.shape[-2:])), expand(b, (*lead, *b.shape[-2:]))
        text = f"{batch}{'ji' if transpose_a else 'ij'},{batch}{'kj' if transpose_b else 'jk'}->{batch}ik"
        y = make(CONTRACT, a, b, spec=plain_spec(text, a.shape, b.shape))
    if vector_a or vector_b:
        y = reshape(
            y, (*y.shape[: y.ndim - 2], *(() if vector_a else (y.shape[-2],)), *(() if vector_b else (y.shape[-1],)))
        )
    return y


def windows(
    x: Node, size: Sequence[int], stride: Sequence[int], low: Sequence[Dim], out: Sequence[Dim], dilation: Sequence[int]
) -> Node:
    """The windows of an image: (n, *spatial, c) -> (n, *out, c, *size), zero outside the image."""
    rank = len(size)
    o, k = "hwd"[:rank], "ijk"[:rank]
    places = tuple(Position(((o[d], stride[d]), (k[d], dilation[d])), expr.mul(low[d], -1)) for d in range(rank))
    sizes = (("n", x.shape[0]), *zip(o, out, strict=True), ("c", x.shape[-1]), *zip(k, size, strict=True))
    return make(CONTRACT, x, spec=Spec(((S((("n", 1),)), *places, S((("c", 1),))),), ("n", *o, "c", *k), sizes))


def convolution(
    x: Node,
    w: Node,
    stride: Sequence[int],
    low: Sequence[Dim],
    out: Sequence[Dim],
    dilation: Sequence[int],
    groups: int = 1,
) -> Node:
    """Cross-correlation, channels last: x (n, *spatial, c), w (*kernel, c/groups, o) -> (n, *out, o).

    y[n, h, o] = sum over i, c of x[n, stride*h + dilation*i - low, c] * w[i, c, o]
    """
    from tinyflow.ops.movement import reshape

    rank = w.ndim - 2
    channels, filters = w.shape[-2], w.shape[-1]
    if not rules.same_dim(x.shape[-1], expr.mul(channels, groups)):
        raise ShapeError(f"convolution({x.dtype} {shape_text(x.shape)}, {w.dtype} {shape_text(w.shape)}): the image has {x.shape[-1]} channels, the filters take {expr.mul(channels, groups)}")  # fmt: skip
    o, k = "hwd"[:rank], "ijk"[:rank]
    places = tuple(Position(((o[d], stride[d]), (k[d], dilation[d])), expr.mul(low[d], -1)) for d in range(rank))
    sizes: list[tuple[str, Dim]] = [
        ("n", x.shape[0]),
        *zip(o, out, strict=True),
        *zip(k, w.shape[:rank], strict=True),
        ("c", channels),
    ]
    if groups == 1:
        spec = Spec(
            ((S((("n", 1),)), *places, S((("c", 1),))), letters(f"{k}co")), ("n", *o, "o"), (*sizes, ("o", filters))
        )
        return make(CONTRACT, x, w, spec=spec)
    each = expr.floordiv(filters, groups)
    x, w = reshape(x, (*x.shape[:-1], groups, channels)), reshape(w, (*w.shape[:-1], groups, each))
    spec = Spec(
        ((S((("n", 1),)), *places, S((("g", 1),)), S((("c", 1),))), letters(f"{k}cgo")),
        ("n", *o, "g", "o"),
        (*sizes, ("g", groups), ("o", each)),
    )
    y = make(CONTRACT, x, w, spec=spec)
    return reshape(y, (*y.shape[:-2], filters))


__all__ = ["CONTRACT", "Index", "Position", "Spec", "convolution", "einsum", "float64", "int32", "matmul", "windows"]
