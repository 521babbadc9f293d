"""Operators, comparisons and truth of values of a trace."""

from __future__ import annotations

import ast
import enum
import operator
from collections.abc import Callable
from typing import Any

from tinyflow.jit import sources as s
from tinyflow.jit.attributes import get_item, items_made, iterate, same_object
from tinyflow.jit.record import call_tensors, scalar_operand
from tinyflow.jit.sources import Guard
from tinyflow.jit.trace import Trace
from tinyflow.jit.values import Cut, Iterated, Known, Made, Sym, Tens, Value

# fmt: off
#              of values            of tensors       sign       in place
OPERATORS: dict[type, tuple[Callable[..., Any], str, str, Callable[..., Any]]] = {
    ast.Add:      (operator.add,      "add",           "+",   operator.iadd),
    ast.Sub:      (operator.sub,      "sub",           "-",   operator.isub),
    ast.Mult:     (operator.mul,      "mul",           "*",   operator.imul),
    ast.Div:      (operator.truediv,  "div",           "/",   operator.itruediv),
    ast.FloorDiv: (operator.floordiv, "floor_divide",  "//",  operator.ifloordiv),
    ast.Mod:      (operator.mod,      "remainder",     "%",   operator.imod),
    ast.Pow:      (operator.pow,      "",              "**",  operator.ipow),
    ast.MatMult:  (operator.matmul,   "",              "",    operator.imatmul),
    ast.BitAnd:   (operator.and_,     "",              "&",   operator.iand),
    ast.BitOr:    (operator.or_,      "",              "|",   operator.ior),
    ast.BitXor:   (operator.xor,      "",              "^",   operator.ixor),
    ast.LShift:   (operator.lshift,   "",              "<<",  operator.ilshift),
    ast.RShift:   (operator.rshift,   "",              ">>",  operator.irshift),
    ast.Eq:       (operator.eq,       "eq",            "==",  operator.eq),
    ast.NotEq:    (operator.ne,       "ne",            "!=",  operator.ne),
    ast.Lt:       (operator.lt,       "lt",            "<",   operator.lt),
    ast.LtE:      (operator.le,       "le",            "<=",  operator.le),
    ast.Gt:       (operator.gt,       "gt",            ">",   operator.gt),
    ast.GtE:      (operator.ge,       "ge",            ">=",  operator.ge),
}
UNARY: dict[type, tuple[Callable[..., Any], str]] = {
    ast.USub: (operator.neg, "-"), ast.UAdd: (operator.pos, "+"), ast.Invert: (operator.invert, "~"),
}
# fmt: on


def operate(t: Trace, op: type, a: Value, b: Value, in_place: bool = False) -> Value:
    """a op b, for any two values."""
    plain, named, sign, mutate = OPERATORS[op]
    if isinstance(a, Tens) or isinstance(b, Tens):
        if isinstance(a, Sym) or isinstance(b, Sym):
            if named and not in_place:
                return call_tensors(t, named, [scalar_operand(t, x, a if x is b else b) for x in (a, b)])
            if named and isinstance(a, Tens):
                return call_tensors(t, f"{named}_", [a, scalar_operand(t, b, a)])
        return call_tensors(t, mutate if in_place else plain, [a, b])
    if isinstance(a, Sym) or isinstance(b, Sym):
        return symbolic(t, plain, sign, a, b)
    if isinstance(a, Made) or isinstance(b, Made):
        return joined(t, op, a, b, in_place)
    x, y = t.concrete(a), t.concrete(b)
    if not (is_plain(x) and is_plain(y)):
        raise Cut(f"{type(x).__name__} {sign} {type(y).__name__} is left to Python")
    return Known(plain(x, y))


PLAIN = (int, float, bool, str, bytes, complex, type(None), tuple, type(Ellipsis))


def is_plain(x: Any) -> bool:
    """Whether operators on it are Python's own, without effects."""
    return type(x) in PLAIN or type(x).__module__.startswith("tinyflow.") or isinstance(x, type | enum.Enum)


def symbolic(t: Trace, plain: Callable[..., Any], sign: str, a: Value, b: Value) -> Value:
    """A number made of varying numbers: computed by Python at each call."""
    raws, parts, dims = [], [], []
    for x in (a, b):
        if isinstance(x, Sym):
            raws.append(x.raw)
            parts.append(x.expression)
            dims.append(x.dim)
        else:
            raw = t.concrete(x)
            if type(raw) not in (int, float, bool):
                return Known(plain(t.concrete(a), t.concrete(b)))
            raws.append(raw)
            parts.append(("const", raw))
            dims.append(raw if type(raw) is int else None)
    volatile = any(isinstance(x, Sym) and x.volatile for x in (a, b))
    raw = plain(*raws)
    dim = plain(*dims) if sign in ("+", "-", "*", "//", "%") and None not in dims else None
    if type(raw) not in (int, float, bool):
        return Known(plain(t.concrete(a), t.concrete(b)))
    return Sym(("op", sign, *parts), raw, volatile, dim)


def joined(t: Trace, op: type, a: Value, b: Value, in_place: bool) -> Value:
    """Lists and tuples: a + b, a * n, comparison; dicts: a | b."""
    if op is ast.Add:
        kind = list if is_list(a) and is_list(b) else tuple if not is_list(a) and not is_list(b) else None
        if kind is None:
            raise Cut("adds a list and something else")
        if in_place and kind is list:
            if not isinstance(a, Made):
                raise Cut("changes a list that was there before")
            a.raw.extend(iterate(t, b))
            return a
        return Made(kind([*iterate(t, a), *iterate(t, b)]))
    if op is ast.Mult:
        many, count = (a, b) if isinstance(a, Made) else (b, a)
        n = t.concrete(count)
        if in_place or type(n) is not int or type(many.raw) not in (list, tuple):  # type: ignore[attr-defined]
            raise Cut("repeats a container")
        return Made(type(many.raw)(list(many.raw) * n))  # type: ignore[attr-defined]
    if op is ast.BitOr and all(isinstance(v, Made | Known) and isinstance(v.raw, dict) for v in (a, b)):
        both = {k.raw: get_item(t, v, k) for v in (a, b) for k in iterate(t, v)}  # type: ignore[attr-defined]
        if not in_place:
            return Made(both)
        if not isinstance(a, Made):
            raise Cut("changes a dict that was there before")
        a.raw.update(both)
        return a
    return Known(OPERATORS[op][0](t.concrete(a), t.concrete(b)))


def is_list(v: Value) -> bool:
    if not isinstance(v, Known | Made) or type(v.raw) not in (list, tuple):
        raise Cut("adds a container and something else")
    return type(v.raw) is list


def operate_one(t: Trace, op: type, v: Value) -> Value:
    """op v"""
    if op is ast.Not:
        if isinstance(v, Sym):
            return Sym(("op", "not ", v.expression), not v.raw, v.volatile)
        return Known(not truth(t, v))
    plain, sign = UNARY[op]
    if isinstance(v, Tens):
        return call_tensors(t, plain, [v])
    if isinstance(v, Sym):
        return Sym(
            ("op", sign, v.expression), plain(v.raw), v.volatile, -v.dim if v.dim is not None and sign == "-" else None
        )
    x = t.concrete(v)
    if not is_plain(x):
        raise Cut(f"{sign}{type(x).__name__} is left to Python")
    return Known(plain(x))


def truth(t: Trace, v: Value) -> bool:
    """Whether Python would take the branch."""
    if isinstance(v, Tens):
        raise needs_value("branches on a tensor's value")
    if isinstance(v, Sym):
        if v.volatile:
            raise Cut(f"branches on {s.words_of(v.expression)}, which is known only when the program runs")
        t.guard(s.holds(v.expression, bool(v.raw)))
        return bool(v.raw)
    if isinstance(v, Made):
        return type(v.raw) is Iterated or bool(items_made(v.raw))
    if isinstance(v, Known) and v.source is not None and not is_plain(v.raw):
        return truth_of_object(t, v)
    return bool(t.concrete(v)) if isinstance(v, Known) else True


def truth_of_object(t: Trace, v: Known) -> bool:
    assert v.source is not None
    if type(v.raw) in (list, dict):
        t.guard(s.has_type(v.source, type(v.raw)), s.has_length(v.source, len(v.raw)))
        return bool(v.raw)
    if hasattr(type(v.raw), "__bool__") or hasattr(type(v.raw), "__len__"):
        raise Cut(f"asks a {type(v.raw).__name__} whether it is true")
    t.guard(s.has_type(v.source, type(v.raw)))
    return True


def needs_value(reason: str) -> Cut:
    c = Cut(reason)
    c.value = True
    return c


def compare_one(t: Trace, op: ast.cmpop, a: Value, b: Value) -> Value:
    if isinstance(op, ast.Is | ast.IsNot):
        return Known(same_object(t, a, b) == isinstance(op, ast.Is))
    if isinstance(op, ast.In | ast.NotIn):
        return Known(contains(t, b, a) == isinstance(op, ast.In))
    return operate(t, type(op), a, b)


def contains(t: Trace, container: Value, item: Value) -> bool:
    if isinstance(container, Known) and container.source is not None and type(container.raw) in (dict, set, frozenset):
        key = t.concrete(item)
        found = key in container.raw
        sign = "in" if found else "not in"
        t.guard(s.has_type(container.source, type(container.raw)))
        t.guard(
            Guard(
                "contains",
                f"{{a}} {sign} {{0}}",
                (container.source,),
                (key,),
                f"{key!r} {sign} {container.source.words}",
            )
        )
        return found
    if isinstance(container, Made | Known) and type(container.raw) in (list, tuple, dict, str, set, range, frozenset):
        raw = t.concrete(container) if not isinstance(container.raw, dict) else container.raw
        return t.concrete(item) in raw
    raise Cut("looks for something in a container that only Python knows")
