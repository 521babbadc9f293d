"""Scalar expressions: the language of indices, of symbolic dimensions, and of the value at one index of a tensor.

    dim   := int | Dim(name)                                    a size known only when a program runs
    index := int | Dim | Counter(name, extent) | Index(name, extent) | Poly(terms) | Apply(fn, index*)   of type int64
    terms := ((atom*, coefficient)*)                            a sum of products, in one canonical order
    expr  := Const(value) | Load(buffer, index) | Apply(fn, expr*) | Fold(fn, over*, expr) | index

Equal expressions are one object, so `is` compares them. Arithmetic on indices gives the canonical form at once:
(i*28 + j) // 28 is i when j < 28, and 28*(e // 28) + e % 28 is e. A result without atoms is a plain int.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar
from weakref import WeakSet

from tinyflow.core.dtypes import DType, int64
from tinyflow.core.interned import Interned

Terms: TypeAlias = "tuple[tuple[tuple[Expr, ...], int], ...]"
_interned: Interned[Expr] = Interned()
_order = itertools.count()


class Expr:
    """A scalar expression. Build with the functions and operators below, never with the classes."""

    __slots__ = ("__weakref__", "dtype", "serial")
    dtype: DType
    serial: int  # creation order: the canonical order of atoms in a Poly

    def __add__(self, other: Index_) -> Index_:
        return add(self, other)

    def __radd__(self, other: Index_) -> Index_:
        return add(other, self)

    def __sub__(self, other: Index_) -> Index_:
        return add(self, mul(other, -1))

    def __rsub__(self, other: Index_) -> Index_:
        return add(other, mul(self, -1))

    def __mul__(self, other: Index_) -> Index_:
        return mul(self, other)

    def __rmul__(self, other: Index_) -> Index_:
        return mul(other, self)

    def __neg__(self) -> Index_:
        return mul(self, -1)

    def __floordiv__(self, other: Index_) -> Index_:
        return floordiv(self, other)

    def __mod__(self, other: Index_) -> Index_:
        return mod(self, other)

    def __repr__(self) -> str:
        return show(self)


class Const(Expr):
    __slots__ = ("value",)
    value: float | int | bool


class Dim(Expr):
    __slots__ = ("name",)
    name: str


class Counter(Dim):
    """The steps that a loop of the program has done: a kernel sees it as a size that does not change while it runs."""

    __slots__ = ("extent",)
    extent: Index_


class Index(Expr):
    __slots__ = ("extent", "name")
    name: str
    extent: Index_


class Poly(Expr):
    __slots__ = ("terms",)
    terms: Terms


class Load(Expr):
    """The element at a flat offset of a buffer; `buffer` is whatever owns it (a node), row-major and dense."""

    __slots__ = ("buffer", "offset")
    buffer: Any
    offset: Index_


class Apply(Expr):
    __slots__ = ("args", "fn")
    fn: str
    args: tuple[Expr, ...]


class Fold(Expr):
    """fn folded over the values of `body` at all values of the indices `over`."""

    __slots__ = ("body", "fn", "over")
    fn: str
    over: tuple[Index, ...]
    body: Expr


Index_: TypeAlias = "int | Expr"


E = TypeVar("E", bound=Expr)


def _intern(cls: type[E], dtype: DType, key: tuple[Any, ...], **fields: Any) -> E:
    whole = cls, dtype, key
    found: E | None = _interned.get(whole)  # type: ignore[assignment]
    if found is None:
        found = cls.__new__(cls)
        found.dtype, found.serial = dtype, next(_order)
        for name, value in fields.items():
            setattr(found, name, value)
        found = _interned.keep(whole, found)  # type: ignore[assignment]
    return found


# ------------------------------------------------------------------------------------------ building


def const(value: float | int | bool, dtype: DType = int64) -> Expr:
    dtype = dtype.computed
    value = bool(value) if dtype.kind == "b" else float(value) if dtype.kind == "f" else int(value)
    return _intern(Const, dtype, (repr(value),), value=value)  # repr tells 0.0 from -0.0, and NaN equals itself


def dim(name: str) -> Expr:
    return _intern(Dim, int64, (name,), name=name)


def fresh_dim(hint: str = "n") -> Expr:
    return dim(f"{hint}{next(_order)}")


def counter(extent: Index_, hint: str = "t") -> Counter:
    """The counter of a new loop, 0 <= counter < extent."""
    return _intern(Counter, int64, (next(_order),), name=hint, extent=extent)


FOUND: WeakSet[Expr] = WeakSet()  # sizes that only data can tell: how many elements are not zero


def found_dim(name: str) -> Expr:
    """A size that an op finds out while the program runs."""
    found = dim(name)
    FOUND.add(found)
    return found


def is_found(e: Any) -> bool:
    """Whether a size depends on data."""
    return isinstance(e, Expr) and any(a in FOUND for a in walk(e))


def index(extent: Index_, hint: str = "i") -> Index:
    """A new loop index, 0 <= index < extent."""
    return _intern(Index, int64, (next(_order),), name=hint, extent=extent)


def axis(extent: Index_, hint: str = "i") -> Index_:
    """The index of an axis: a new one, or 0 where there is nothing to choose."""
    return 0 if extent == 1 else index(extent, hint)


def load(buffer: Any, offset: Index_, dtype: DType) -> Expr:
    stored = _intern(Load, dtype, (buffer, offset), buffer=buffer, offset=offset)
    return apply("widen", stored, dtype=dtype.computed) if dtype.is_low else stored


def from_buffer(buffer: Any, e: Load) -> Expr:
    """The same element of another buffer."""
    return _intern(Load, e.dtype, (buffer, e.offset), buffer=buffer, offset=e.offset)


def apply(fn: str, *args: Expr | int, dtype: DType | None = None) -> Expr:
    wrapped = tuple(const(a) if isinstance(a, int) else a for a in args)
    return _intern(Apply, (dtype or wrapped[0].dtype).computed, (fn, *wrapped), fn=fn, args=wrapped)


def fold(fn: str, over: Iterable[Index], body: Expr, dtype: DType | None = None) -> Expr:
    over = tuple(over)
    return (
        _intern(Fold, (dtype or body.dtype).computed, (fn, over, body), fn=fn, over=over, body=body) if over else body
    )


def parts(e: Expr) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """The function and its arguments that make an expression of sizes, in any process; None of others."""
    if type(e) is Dim:
        return dim, (e.name,)
    if isinstance(e, Const):
        return const, (e.value, e.dtype)
    if isinstance(e, Poly):
        return sum_of, (e.terms,)
    if isinstance(e, Apply):
        return applied, (e.fn, e.args, e.dtype)
    return None


def sum_of(terms: Terms) -> Index_:
    return from_terms(dict(terms))


def applied(fn: str, args: tuple[Expr, ...], dtype: DType) -> Expr:
    return apply(fn, *args, dtype=dtype)


# ------------------------------------------------------------------------------- index arithmetic: polynomials


def terms_of(e: Index_) -> Terms:
    if isinstance(e, int):
        return (((), e),) if e else ()
    if isinstance(e, Poly):
        return e.terms
    if isinstance(e, Const):
        return (((), int(e.value)),) if e.value else ()
    return (((e,), 1),)


def from_terms(terms: Mapping[tuple[Expr, ...], int]) -> Index_:
    kept = _join_divmod({m: c for m, c in terms.items() if c})
    if not kept:
        return 0
    if len(kept) == 1:
        ((monomial, c),) = kept.items()
        if not monomial:
            return c
        if c == 1 and len(monomial) == 1:
            return monomial[0]
    ordered = tuple(sorted(kept.items(), key=lambda t: tuple(a.serial for a in t[0])))
    return _intern(Poly, int64, ordered, terms=ordered)


def _join_divmod(terms: dict[tuple[Expr, ...], int]) -> dict[tuple[Expr, ...], int]:
    """k*c*(a // c) + k*(a % c) is k*a: flattening an index that was split gives it back."""
    for monomial, k in terms.items():
        for at, atom in enumerate(monomial):
            if not (isinstance(atom, Apply) and atom.fn == "imod"):
                continue
            a, c = (_unwrap(x) for x in atom.args)
            rest = from_terms({monomial[:at] + monomial[at + 1 :]: k})
            whole = terms_of(mul(mul(rest, c), floordiv(a, c)))
            if whole and all(terms.get(m) == kk for m, kk in whole):
                left = {m: kk for m, kk in terms.items() if m != monomial and m not in dict(whole)}
                for m, kk in terms_of(mul(rest, a)):
                    left[m] = left.get(m, 0) + kk
                return _join_divmod({m: kk for m, kk in left.items() if kk})
    return terms


def _unwrap(e: Index_) -> Index_:
    return int(e.value) if isinstance(e, Const) else e


def add(a: Index_, b: Index_) -> Index_:
    if isinstance(a, int):
        if isinstance(b, int):
            return a + b
        if not a:
            return b
    elif b == 0:
        return a
    total = dict(terms_of(a))
    for monomial, c in terms_of(b):
        total[monomial] = total.get(monomial, 0) + c
    return from_terms(total)


def mul(a: Index_, b: Index_) -> Index_:
    if isinstance(a, int):
        if isinstance(b, int):
            return a * b
        if a == 1:
            return b
    elif b == 1:
        return a
    total: dict[tuple[Expr, ...], int] = {}
    for (m1, c1), (m2, c2) in itertools.product(terms_of(a), terms_of(b)):
        monomial = tuple(sorted(m1 + m2, key=lambda x: x.serial))
        total[monomial] = total.get(monomial, 0) + c1 * c2
    return from_terms(total)


def product(dims: Iterable[Index_]) -> Index_:
    total: Index_ = 1
    for d in dims:
        total = total * d if type(total) is int and type(d) is int else mul(total, d)
    return total


def _over(monomial: tuple[Expr, ...], c: int, divisor: Terms) -> tuple[tuple[Expr, ...], int] | None:
    """One term divided by a one-term divisor, if it divides."""
    if len(divisor) != 1 or c % divisor[0][1]:
        return None
    left = list(monomial)
    for atom in divisor[0][0]:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left), c // divisor[0][1]


def _divide(a: Index_, c: Index_) -> tuple[Index_, Index_]:
    """(q, r) with a = q*c + r, as much in q as can be told."""
    if a is c:
        return 1, 0
    divisor = terms_of(c)
    q: dict[tuple[Expr, ...], int] = {}
    r: dict[tuple[Expr, ...], int] = {}
    for monomial, k in terms_of(a):
        if not monomial and isinstance(c, int):
            q[()], r[()] = q.get((), 0) + k // c, k % c
            continue
        part = _over(monomial, k, divisor)
        if part is None:
            r[monomial] = k
        else:
            q[part[0]] = q.get(part[0], 0) + part[1]
    return from_terms(q), from_terms(r)


def floordiv(a: Index_, c: Index_) -> Index_:
    if isinstance(a, int) and isinstance(c, int):
        return a // c
    if c == 1:
        return a
    q, r = _divide(a, c)
    if within(r, c):
        return q
    coarse, _, g = _by_steps(r, c)
    if g > 1:
        return add(q, floordiv(coarse, floordiv(c, g)))
    if isinstance(r, Apply) and r.fn == "idiv":
        return add(q, floordiv(_unwrap(r.args[0]), mul(c, _unwrap(r.args[1]))))
    return add(q, apply("idiv", as_expr(r), as_expr(c)))


def mod(a: Index_, c: Index_) -> Index_:
    if isinstance(a, int) and isinstance(c, int):
        return a % c
    if c == 1:
        return 0
    r = _divide(a, c)[1]
    if within(r, c):
        return r
    coarse, fine, g = _by_steps(r, c)
    if g > 1:
        return add(mul(g, mod(coarse, floordiv(c, g))), fine)
    return apply("imod", as_expr(r), as_expr(c))


def _by_steps(a: Index_, c: Index_) -> tuple[Index_, Index_, int]:
    """(x, y, g) with a = g*x + y and 0 <= y < g, g a divisor of c: so a // c is x // (c // g). g is 1 where there is none."""
    if isinstance(c, int):
        terms = terms_of(a)
        for g in sorted({math.gcd(k, c) for _, k in terms} - {1}, reverse=True):
            fine = from_terms({m: k for m, k in terms if k % g})
            if g < c and within(fine, g):
                return from_terms({m: k // g for m, k in terms if k % g == 0}), fine, g
    return a, 0, 1


def as_expr(e: Index_) -> Expr:
    """An index as an expression, numbers too."""
    return const(e) if isinstance(e, int) else e


def bounds(e: Index_) -> tuple[Index_ | None, Index_ | None]:
    """The least and the greatest value of an index expression; None where it cannot be told."""
    low: Index_ | None = 0
    high: Index_ | None = 0
    for monomial, c in terms_of(e):
        lo, hi = _bounds_of_product(monomial)
        if c < 0:
            lo, hi = hi, lo
        low = None if low is None or lo is None else add(low, mul(lo, c))
        high = None if high is None or hi is None else add(high, mul(hi, c))
    return low, high


def _bounds_of_product(monomial: tuple[Expr, ...]) -> tuple[Index_ | None, Index_ | None]:
    """All atoms are non-negative or unknown; a dimension stands for itself."""
    low: Index_ | None = 1
    high: Index_ | None = 1
    for atom in monomial:
        lo: Index_ | None = None
        hi: Index_ | None = None
        if isinstance(atom, Index | Counter):
            lo, hi = 0, add(atom.extent, -1)
        elif isinstance(atom, Dim):
            lo = hi = atom
        elif isinstance(atom, Apply) and atom.fn in ("imod", "inside"):
            lo, hi = 0, add(_unwrap(atom.args[1]), -1)
        elif isinstance(atom, Apply) and atom.fn == "idiv" and isinstance(atom.args[1], Const):
            lo, hi = (None if b is None else floordiv(b, _unwrap(atom.args[1])) for b in bounds(atom.args[0]))
        low = None if low is None or lo is None else mul(low, lo)
        high = None if high is None or hi is None else mul(high, hi)
    return low, high


def at_least(e: Index_ | None, least: int) -> bool:
    """Whether e >= least is certain, dimensions being at least 1 (a loop over none runs no body)."""
    if e is None or isinstance(e, int):
        return e is not None and e >= least
    terms = terms_of(e)
    known = all(c > 0 and all(isinstance(a, Dim) for a in m) for m, c in terms if m)
    return known and sum(c for _, c in terms) >= least


def within(e: Index_, size: Index_) -> bool:
    """Whether 0 <= e < size is certain."""
    low, high = bounds(e)
    return at_least(low, 0) and high is not None and at_least(add(size, mul(high, -1)), 1)


# ------------------------------------------------------------------------------------------ walking


def children(e: Expr) -> tuple[Expr, ...]:
    if isinstance(e, Apply):
        return e.args
    if isinstance(e, Fold):
        return (e.body,)
    if isinstance(e, Load):
        return () if isinstance(e.offset, int) else (e.offset,)
    if isinstance(e, Poly):
        return tuple(dict.fromkeys(a for m, _ in e.terms for a in m))
    return ()


def walk(*roots: Index_) -> list[Expr]:
    """Every expression below the roots, each once, operands first."""
    order: dict[Expr, None] = {}
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(roots) if isinstance(r, Expr)]
    while stack:
        e, done = stack.pop()
        if done:
            order[e] = None
        elif e not in order:
            stack.append((e, True))
            stack.extend((c, False) for c in children(e) if c not in order)
    return list(order)


def inside(e: Index_, size: Index_) -> Index_:
    """An index that is known to be in range where it is used, though its form does not show it."""
    return e if within(e, size) else apply("inside", as_expr(e), as_expr(size))


def opened(e: Index_) -> Index_:
    """An expression that needs no more to know which of its indices are in range."""
    if isinstance(e, int) or not any(isinstance(x, Apply) and x.fn == "inside" for x in walk(e)):
        return e
    new: dict[Expr, Index_] = {}
    for x in walk(e):
        known = isinstance(x, Apply) and x.fn == "inside"
        new[x] = new[x.args[0]] if known else rebuild(x, new.__getitem__)  # type: ignore[attr-defined]
    return new[e]


def rebuild(e: Expr, f: Callable[[Expr], Index_]) -> Index_:
    """e with f applied to its operands."""
    if isinstance(e, Apply):
        args = [f(a) for a in e.args]
        if e.fn in INDEX_FUNCTIONS:
            return INDEX_FUNCTIONS[e.fn](_unwrap(args[0]), _unwrap(args[1]))
        return apply(e.fn, *args, dtype=e.dtype)
    if isinstance(e, Poly):
        total: Index_ = 0
        for monomial, c in e.terms:
            total = add(total, mul(c, product(_unwrap(f(a)) for a in monomial)))
        return total
    if isinstance(e, Load):  # as it is stored: what widens it is rebuilt around it
        offset = e.offset if isinstance(e.offset, int) else f(e.offset)
        return _intern(Load, e.dtype, (e.buffer, offset), buffer=e.buffer, offset=offset)
    if isinstance(e, Fold):
        return fold(e.fn, e.over, as_expr(f(e.body)), e.dtype)
    return e


def substitute(e: Index_, values: Mapping[Any, Index_]) -> Index_:
    """e with atoms replaced."""
    if isinstance(e, int):
        return e
    new: dict[Expr, Index_] = {}
    for x in walk(e):
        new[x] = values[x] if x in values else rebuild(x, new.__getitem__)
    return new[e]


def evaluate(e: Index_, values: Mapping[Any, int]) -> int:
    """The number a dimension expression stands for."""
    if isinstance(e, int):
        return e
    got = substitute(e, values)
    if isinstance(got, Const):
        return int(got.value)
    if isinstance(got, int):
        return got
    raise KeyError(f"the size {e} is not known; known are {', '.join(map(str, values)) or 'none'}")


def maximum(a: Index_, b: Index_) -> Index_:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return apply("imax", as_expr(a), as_expr(b))


def minimum(a: Index_, b: Index_) -> Index_:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return apply("imin", as_expr(a), as_expr(b))


INDEX_FUNCTIONS = {"idiv": floordiv, "imod": mod, "imax": maximum, "imin": minimum}


def show(e: Index_) -> str:
    if isinstance(e, int):
        return str(e)
    if isinstance(e, Const):
        return f"{e.value:g}" if isinstance(e.value, float) and math.isfinite(e.value) else str(e.value)
    if isinstance(e, Dim | Index):
        return e.name
    if isinstance(e, Poly):
        parts = (
            ("-" if c == -1 and m else "") + "*".join([*([] if c in (1, -1) and m else [str(c)]), *map(show, m)])
            for m, c in e.terms
        )
        return "(" + " + ".join(parts).replace("+ -", "- ") + ")"
    if isinstance(e, Load):
        return f"{getattr(e.buffer, 'label', e.buffer)}[{bare(show(e.offset))}]"
    if isinstance(e, Fold):
        return f"{FOLD_NAMES.get(e.fn, e.fn)}({', '.join(f'{k.name}<{show(k.extent)}' for k in e.over)}: {bare(show(e.body))})"
    assert isinstance(e, Apply)
    operands = [show(a) for a in e.args]
    if e.fn in INFIX:
        return f"({operands[0]} {INFIX[e.fn]} {operands[1]})"
    if e.fn in ("neg", "not"):
        return f"{'-' if e.fn == 'neg' else 'not '}{operands[0]}"
    return f"{e.dtype.name if e.fn == 'cast' else e.fn}({', '.join(map(bare, operands))})"


FOLD_NAMES = {"add": "sum", "mul": "product"}
INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "eq": "==", "ne": "!=", "and": "and", "or": "or",
    "idiv": "//", "imod": "%",
}  # fmt: skip


def bare(text: str) -> str:
    """A text without the brackets around all of it."""
    depth = 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and k < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") else text
