"""Expressions, one rule for each kind of syntax.

evaluate(trace, frame, syntax) -> value
"""

from __future__ import annotations

import ast
import builtins
import types
from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.jit import sources as s
from tinyflow.jit.attributes import get_attribute, get_item, iterate
from tinyflow.jit.calls import call
from tinyflow.jit.operators import compare_one, is_plain, operate, operate_one, truth
from tinyflow.jit.sources import Guard, Source
from tinyflow.jit.trace import Frame, Trace
from tinyflow.jit.values import NONE, Closure, Cut, Iterated, Known, Live, Made, Method, Sym, Tens, Value
from tinyflow.torch.tensor import Tensor


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
    own = f.scope.get("__name__", "").startswith("tinyflow.")  # this package's names do not change
    if name in f.scope:
        raw = f.scope[name]
        if own and (callable(raw) or isinstance(raw, types.ModuleType)) and not isinstance(raw, Tensor):
            return Known(raw)
        return t.arrive(f.scope[name], Source("global", s.object_(f.scope), name))
    if not own:
        t.guard(Guard("absent", "{a} not in {0}", (s.object_(f.scope),), (name,), f"{name} is Python's own"))
    return Known(getattr(builtins, name))


def cell(t: Trace, frame: Frame, name: str) -> Value:
    k = frame.free[name]
    holder = Source("item", Source("attr", frame.source, "__closure__"), k)
    return t.arrive(frame.function.__closure__[k].cell_contents, Source("cell", holder, name))


# ------------------------------------------------------------------------------------------ operators


def binary(t: Trace, f: Frame, node: ast.BinOp) -> Value:
    return operate(t, type(node.op), evaluate(t, f, node.left), evaluate(t, f, node.right))


def unary(t: Trace, f: Frame, node: ast.UnaryOp) -> Value:
    return operate_one(t, type(node.op), evaluate(t, f, node.operand))


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
    if isinstance(node.func, ast.Name) and node.func.id == "super" and len(node.args) == 2:
        return parent_class(t, f, node.args)
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
    return call(t, function, args, kwargs)


def parent_class(t: Trace, f: Frame, args: Sequence[ast.expr]) -> Value:
    """super(cls, self): the object, its attributes looked up behind a class."""
    owner, self = evaluate(t, f, args[0]), evaluate(t, f, args[1])
    if not isinstance(self, Known):
        raise Cut("super() of something that the trace made")
    return Method(t.concrete(owner), self, "super")


def attribute(t: Trace, f: Frame, node: ast.Attribute) -> Value:
    return get_attribute(t, evaluate(t, f, node.value), node.attr)


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
