"""Expressions, one rule for each kind of syntax.

evaluate(trace, frame, syntax) -> value
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable
from typing import Any

from tinyflow.jit import sources as s
from tinyflow.jit.attributes import get_attribute, get_item, items_made, iterate, same_object
from tinyflow.jit.calls import call, call_tensors, scalar_operand
from tinyflow.jit.sources import Guard, Source
from tinyflow.jit.trace import Frame, Trace
from tinyflow.jit.values import NONE, Closure, Cut, Iterated, Known, Live, Made, Method, Sym, Tens, Value

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


def evaluate(t: Trace, f: Frame, node: ast.AST) -> Value:
    """The value of an expression. Where it cannot be had, the cut remembers the expression of the outermost function."""
    t.step(f, node)
    rule = EXPRESSIONS.get(type(node))
    try:
        if rule is None:
            raise Cut(f"{type(node).__name__.lower()} is left to Python")
        return rule(t, f, node)
    except Cut as c:
        c.line = c.line or getattr(node, "lineno", 0)
        if f.top and c.at is None:
            c.at, c.value = node, False
        raise
    except RecursionError:
        raise
    except Exception as e:
        c = Cut(f"raises {type(e).__name__}: {e}", getattr(node, "lineno", 0))
        c.at = node if f.top else None
        raise c from None


# ------------------------------------------------------------------------------------------ names


def name(t: Trace, f: Frame, node: ast.Name) -> Value:
    return look_up(t, f, node.id)


def look_up(t: Trace, f: Frame, name: str) -> Value:
    frame: Frame | None = f
    while frame is not None:
        if name in frame.names:
            v = frame.names[name]
            if isinstance(v, Live):
                v = frame.names[name] = t.arrive(v.raw, v.source)
            return v  # type: ignore[no-any-return]
        if name in frame.local:
            raise Cut(f"{name} has no value")
        if name in frame.free:
            return cell(t, frame, name)
        frame = frame.parent
    if name in f.scope:
        return t.arrive(f.scope[name], Source("global", s.object_(f.scope), name))
    t.guard(Guard("absent", "{a} not in {0}", (s.object_(f.scope),), (name,), f"{name} is Python's own"))
    return Known(getattr(builtins, name))


def cell(t: Trace, frame: Frame, name: str) -> Value:
    k = frame.free[name]
    holder = Source("item", Source("attr", frame.source, "__closure__"), k)
    return t.arrive(frame.function.__closure__[k].cell_contents, Source("cell", holder, name))


# ------------------------------------------------------------------------------------------ operators


def binary(t: Trace, f: Frame, node: ast.BinOp) -> Value:
    return operate(t, type(node.op), evaluate(t, f, node.left), evaluate(t, f, node.right))


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
    return type(x) in PLAIN or type(x).__module__.startswith("tinyflow.") or isinstance(x, type)


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
    """Lists and tuples: a + b, a * n, comparison."""
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
    return Known(OPERATORS[op][0](t.concrete(a), t.concrete(b)))


def is_list(v: Value) -> bool:
    if not isinstance(v, Known | Made) or type(v.raw) not in (list, tuple):
        raise Cut("adds a container and something else")
    return type(v.raw) is list


def unary(t: Trace, f: Frame, node: ast.UnaryOp) -> Value:
    v = evaluate(t, f, node.operand)
    if isinstance(node.op, ast.Not):
        if isinstance(v, Sym):
            return Sym(("op", "not ", v.expression), not v.raw, v.volatile)
        return Known(not truth(t, v))
    plain, sign = UNARY[type(node.op)]
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


def both(t: Trace, f: Frame, node: ast.BoolOp) -> Value:
    stop_at = isinstance(node.op, ast.Or)
    for operand in node.values[:-1]:
        v = evaluate(t, f, operand)
        if truth(t, v) == stop_at:
            return v
    return evaluate(t, f, node.values[-1])


def compare(t: Trace, f: Frame, node: ast.Compare) -> Value:
    left = evaluate(t, f, node.left)
    result: Value = Known(True)
    for k, (op, other) in enumerate(zip(node.ops, node.comparators, strict=True)):
        right = evaluate(t, f, other)
        result = compare_one(t, op, left, right)
        if k + 1 < len(node.ops) and not truth(t, result):
            return result
        left = right
    return result


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


# ------------------------------------------------------------------------------------------ the rest


def conditional(t: Trace, f: Frame, node: ast.IfExp) -> Value:
    return evaluate(t, f, node.body if truth(t, evaluate(t, f, node.test)) else node.orelse)


def elements(t: Trace, f: Frame, nodes: list[ast.expr]) -> list[Value]:
    out: list[Value] = []
    for n in nodes:
        if isinstance(n, ast.Starred):
            out.extend(iterate(t, evaluate(t, f, n.value)))
        else:
            out.append(evaluate(t, f, n))
    return out


def dictionary(t: Trace, f: Frame, node: ast.Dict) -> Value:
    out: dict[Any, Value] = {}
    for k, v in zip(node.keys, node.values, strict=True):
        if k is None:
            other = evaluate(t, f, v)
            for key in iterate(t, other):
                out[t.concrete(key)] = get_item(t, other, key)
        else:
            key = t.concrete(evaluate(t, f, k))
            out[key] = evaluate(t, f, v)
    return Made(out)


def call_expression(t: Trace, f: Frame, node: ast.Call) -> Value:
    if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
        return parent_class(t, f)
    function = evaluate(t, f, node.func)
    args = elements(t, f, node.args)
    kwargs: dict[str, Value] = {}
    for k in node.keywords:
        if k.arg is not None:
            kwargs[k.arg] = evaluate(t, f, k.value)
            continue
        more = evaluate(t, f, k.value)
        for key in iterate(t, more):
            kwargs[t.concrete(key)] = get_item(t, more, key)
    return call(t, f, node, function, args, kwargs)


def parent_class(t: Trace, f: Frame) -> Value:
    """super(): the object, its attributes looked up behind the class that the method stands in."""
    frame: Frame | None = f
    while frame is not None and "__class__" not in frame.free:
        frame = frame.parent
    if frame is None:
        raise Cut("super() outside a method")
    code = frame.function.__code__
    owner, self = t.concrete(cell(t, frame, "__class__")), look_up(t, frame, code.co_varnames[0])
    if not isinstance(self, Known):
        raise Cut("super() of something that the trace made")
    return Method(owner, self, "super")


def attribute(t: Trace, f: Frame, node: ast.Attribute) -> Value:
    return get_attribute(t, f, evaluate(t, f, node.value), node.attr)


def subscript(t: Trace, f: Frame, node: ast.Subscript) -> Value:
    return get_item(t, evaluate(t, f, node.value), evaluate(t, f, node.slice))


def slice_(t: Trace, f: Frame, node: ast.Slice) -> Value:
    parts = [evaluate(t, f, x) if x is not None else NONE for x in (node.lower, node.upper, node.step)]
    if any(isinstance(p, Tens) for p in parts):
        raise Cut("a slice whose ends are tensors")
    return Known(slice(*(p.dim if isinstance(p, Sym) and p.dim is not None else t.concrete(p) for p in parts)))


def text(t: Trace, f: Frame, node: ast.JoinedStr) -> Value:
    parts = []
    for v in node.values:
        if isinstance(v, ast.Constant):
            parts.append(str(v.value))
            continue
        assert isinstance(v, ast.FormattedValue)
        x = t.concrete(evaluate(t, f, v.value))
        if not is_plain(x):
            raise Cut(f"formats a {type(x).__name__}")
        spec = t.concrete(evaluate(t, f, v.format_spec)) if v.format_spec else ""
        x = {-1: lambda x: x, 115: str, 114: repr, 97: ascii}[v.conversion](x)  # type: ignore[operator]
        parts.append(format(x, spec))
    return Known("".join(parts))


def lambda_(t: Trace, f: Frame, node: ast.Lambda | ast.FunctionDef) -> Closure:
    a = node.args
    return Closure(
        node, f, [evaluate(t, f, d) for d in a.defaults], [evaluate(t, f, d) if d else None for d in a.kw_defaults]
    )


COLLECTS: dict[type, Any] = {ast.ListComp: list, ast.DictComp: dict, ast.GeneratorExp: Iterated}


def comprehension(t: Trace, f: Frame, node: Any) -> Value:
    from tinyflow.jit.statements import bind

    inner = Frame({}, f.scope, f.file, parent=f)
    found: list[Any] = []

    def loop(k: int) -> None:
        if k == len(node.generators):
            if isinstance(node, ast.DictComp):
                found.append((t.concrete(evaluate(t, inner, node.key)), evaluate(t, inner, node.value)))
            else:
                found.append(evaluate(t, inner, node.elt))
            return
        g = node.generators[k]
        if g.is_async:
            raise Cut("an async comprehension")
        for item in iterate(t, evaluate(t, inner if k else f, g.iter)):
            bind(t, inner, g.target, item)
            if all(truth(t, evaluate(t, inner, c)) for c in g.ifs):
                loop(k + 1)

    loop(0)
    return Made(COLLECTS[type(node)](found))


def named(t: Trace, f: Frame, node: ast.NamedExpr) -> Value:
    v = evaluate(t, f, node.value)
    frame = f
    while frame.function is None and frame.parent is not None:
        frame = frame.parent  # a comprehension binds in the function around it
    frame.names[node.target.id] = v
    return v


# fmt: off
EXPRESSIONS: dict[type, Callable[[Trace, Frame, Any], Value]] = {
    ast.Constant:     lambda t, f, n: Known(n.value),
    ast.Name:         name,
    ast.BinOp:        binary,
    ast.UnaryOp:      unary,
    ast.BoolOp:       both,
    ast.Compare:      compare,
    ast.IfExp:        conditional,
    ast.Tuple:        lambda t, f, n: Made(tuple(elements(t, f, n.elts))),
    ast.List:         lambda t, f, n: Made(elements(t, f, n.elts)),
    ast.Dict:         dictionary,
    ast.Call:         call_expression,
    ast.Attribute:    attribute,
    ast.Subscript:    subscript,
    ast.Slice:        slice_,
    ast.JoinedStr:    text,
    ast.Lambda:       lambda_,
    ast.ListComp:     comprehension,
    ast.GeneratorExp: comprehension,
    ast.DictComp:     comprehension,
    ast.NamedExpr:    named,
}
# fmt: on
