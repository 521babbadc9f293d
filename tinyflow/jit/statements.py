"""Statements, one rule for each kind of syntax.

execute(trace, frame, statement) -> None (go on) | Return(value) | BREAK | CONTINUE
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tinyflow.jit.attributes import get_attribute, get_item, iterate
from tinyflow.jit.calls import GradChoice
from tinyflow.jit.effects import Symbol, check_writes
from tinyflow.jit.expressions import evaluate, lambda_, look_up
from tinyflow.jit.operators import operate, truth
from tinyflow.jit.record import call_tensors
from tinyflow.jit.trace import Frame, Trace
from tinyflow.jit.values import NONE, Cut, Known, Made, Tens, Value
from tinyflow.torch.modes import MODE
from tinyflow.torch.tensor import Tensor


class Return:
    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


BREAK, CONTINUE = object(), object()
Signal = Any
T = TypeVar("T")


def execute(t: Trace, f: Frame, s: ast.stmt) -> Signal:
    t.step(f, s)
    rule = STATEMENTS.get(type(s))
    try:
        if rule is None:
            raise Cut(f"{type(s).__name__.lower()} is left to Python")
        return rule(t, f, s)
    except Cut as c:
        c.line = c.line or s.lineno
        raise
    except RecursionError:
        raise
    except Exception as e:
        raise Cut(f"raises {type(e).__name__}: {e}", s.lineno) from None


def run(t: Trace, f: Frame, stmts: Sequence[ast.stmt]) -> Signal:
    for s in stmts:
        signal = execute(t, f, s)
        if signal is not None:
            return signal
    return None


def run_body(t: Trace, f: Frame, stmts: Sequence[ast.stmt]) -> Value:
    """The value that a function returns."""
    signal = run(t, f, stmts)
    return signal.value if isinstance(signal, Return) else NONE


def truth_of(t: Trace, f: Frame, test: ast.expr) -> bool:
    return looked_at(t, f, test, truth)


def looked_at(t: Trace, f: Frame, node: ast.expr, look: Callable[[Trace, Value], T]) -> T:
    """What is seen of an expression's value; if that needs a run, the function is cut there."""
    v = evaluate(t, f, node)
    try:
        return look(t, v)
    except Cut as c:
        if f.top and c.at is None:
            c.at, c.value = node, isinstance(v, Tens)
        raise


# ------------------------------------------------------------------------------------------ binding


def bind(t: Trace, f: Frame, target: ast.expr, v: Value) -> None:
    """target = v"""
    rule = TARGETS.get(type(target))
    if rule is None:
        raise Cut("assigns to something else than a name")
    rule(t, f, target, v)


def bind_name(t: Trace, f: Frame, target: ast.Name, v: Value) -> None:
    owner = f.outer.get(target.id)
    if owner is not None:
        owner.names[target.id] = v
        return
    if target.id in f.free or target.id in f.foreign:
        raise Cut(f"assigns to {target.id}, which lives outside the function")
    f.names[target.id] = v


def bind_many(t: Trace, f: Frame, target: Any, v: Value) -> None:
    if isinstance(v, Made) and isinstance(v.raw, set):
        raise Cut("unpacks a set")
    items = iterate(t, v)
    star = next((k for k, x in enumerate(target.elts) if isinstance(x, ast.Starred)), None)
    if star is not None:
        tail = len(target.elts) - star - 1
        if len(items) < len(target.elts) - 1:
            raise Cut("unpacks too few values")
        middle = items[star : len(items) - tail]
        items = [*items[:star], Made(list(middle)), *items[len(items) - tail :]]
    if len(items) != len(target.elts):
        raise Cut("unpacks a wrong number of values")
    for x, item in zip(target.elts, items, strict=True):
        bind(t, f, x.value if isinstance(x, ast.Starred) else x, item)


def bind_item(t: Trace, f: Frame, target: ast.Subscript, v: Value) -> None:
    owner = evaluate(t, f, target.value)
    key = evaluate(t, f, target.slice)
    put_item(t, owner, key, v)


def put_item(t: Trace, owner: Value, key: Value, v: Value) -> None:
    if isinstance(owner, Tens):
        call_tensors(t, Tensor.__setitem__, [owner, key, v])
    elif isinstance(owner, Made) and type(owner.raw) in (list, dict):
        k = t.concrete(key)
        if isinstance(k, slice):
            raise Cut("assigns to a slice of a list")
        owner.raw[k] = v
    else:
        raise Cut("changes a container that was there before")


def bind_attribute(t: Trace, f: Frame, target: ast.Attribute, v: Value) -> None:
    put_attribute(t, evaluate(t, f, target.value), target.attr, v)


def put_attribute(t: Trace, owner: Value, name: str, v: Value) -> None:
    """owner.name = v, where owner is a tensor and name its gradient or its data."""
    given = v.tensor if isinstance(v, Tens) else v.raw if isinstance(v, Known) and v.raw is None else False
    if not isinstance(owner, Tens) or given is False or name not in ("grad", "data"):
        raise Cut(f"sets .{name} of an object")
    whole = owner.tensor._view is None and given is not None
    if name == "data" and not (whole and given._shape == owner.tensor._shape and given.dtype is owner.tensor.dtype):
        raise Cut("gives a tensor other data")
    if name == "grad" and owner.source is not None and not isinstance(owner.tensor, Symbol):
        raise Cut(f"sets .{name} of a tensor that takes no gradient")
    setattr(owner.tensor, name, given)
    check_writes(t)


TARGETS: dict[type, Any] = {
    ast.Name: bind_name,
    ast.Tuple: bind_many,
    ast.List: bind_many,
    ast.Subscript: bind_item,
    ast.Attribute: bind_attribute,
}


# ------------------------------------------------------------------------------------------ statements


def assign(t: Trace, f: Frame, s: ast.Assign) -> Signal:
    v = evaluate(t, f, s.value)
    for target in s.targets:
        bind(t, f, target, v)


def assign_annotated(t: Trace, f: Frame, s: ast.AnnAssign) -> Signal:
    if s.value is not None:
        bind(t, f, s.target, evaluate(t, f, s.value))


def assign_operated(t: Trace, f: Frame, s: ast.AugAssign) -> Signal:
    if isinstance(s.target, ast.Name):
        old = look_up(t, f, s.target.id)
        bind(t, f, s.target, operate(t, type(s.op), old, evaluate(t, f, s.value), in_place=True))
        return
    if isinstance(s.target, ast.Attribute):
        holder = evaluate(t, f, s.target.value)
        if not isinstance(holder, Tens):
            raise Cut("changes an attribute of an object")
        old = get_attribute(t, holder, s.target.attr)
        put_attribute(t, holder, s.target.attr, operate(t, type(s.op), old, evaluate(t, f, s.value), in_place=True))
        return
    if not isinstance(s.target, ast.Subscript):
        raise Cut("changes something else than a name or an item")
    owner, key = evaluate(t, f, s.target.value), evaluate(t, f, s.target.slice)
    put_item(t, owner, key, operate(t, type(s.op), get_item(t, owner, key), evaluate(t, f, s.value), in_place=True))


def computed(t: Trace, f: Frame, s: ast.Expr) -> Signal:
    evaluate(t, f, s.value)


def returns(t: Trace, f: Frame, s: ast.Return) -> Signal:
    return Return(evaluate(t, f, s.value) if s.value is not None else NONE)


def branch(t: Trace, f: Frame, s: ast.If) -> Signal:
    return run(t, f, s.body if truth_of(t, f, s.test) else s.orelse)


def loop(t: Trace, f: Frame, s: ast.For) -> Signal:
    for item in iterate_at(t, f, s.iter):
        bind(t, f, s.target, item)
        signal = run(t, f, s.body)
        if signal is BREAK:
            return None
        if isinstance(signal, Return):
            return signal
    return run(t, f, s.orelse)


def iterate_at(t: Trace, f: Frame, node: ast.expr) -> list[Value]:
    return looked_at(t, f, node, iterate)


def repeat(t: Trace, f: Frame, s: ast.While) -> Signal:
    while truth(t, evaluate(t, f, s.test)):
        signal = run(t, f, s.body)
        if signal is BREAK:
            return None
        if isinstance(signal, Return):
            return signal
    return run(t, f, s.orelse)


def within(t: Trace, f: Frame, s: ast.With) -> Signal:
    """with no_grad(): and its like."""
    before = MODE.grad
    for item in s.items:
        v = evaluate(t, f, item.context_expr)
        if not (isinstance(v, Known) and isinstance(v.raw, GradChoice)) or item.optional_vars is not None:
            raise Cut("enters a context that only Python knows")
        MODE.grad = v.raw.wanted
    try:
        return run(t, f, s.body)
    finally:
        MODE.grad = before


def check(t: Trace, f: Frame, s: ast.Assert) -> Signal:
    if not truth_of(t, f, s.test):
        raise Cut("an assertion that does not hold")


def attempt(t: Trace, f: Frame, s: ast.Try) -> Signal:
    """A body that raises nothing; one that does is a cut."""
    signal = run(t, f, s.body) or run(t, f, s.orelse)
    return run(t, f, s.finalbody) or signal


def define(t: Trace, f: Frame, s: ast.FunctionDef) -> Signal:
    if s.decorator_list or any(isinstance(n, ast.Yield | ast.YieldFrom | ast.Await) for n in ast.walk(s)):
        raise Cut("defines a decorated function or a generator")
    bind_name(t, f, ast.Name(s.name, ast.Store()), lambda_(t, f, s))


def outside(t: Trace, f: Frame, s: ast.Nonlocal | ast.Global) -> Signal:
    for name in s.names:
        owner = f.parent if isinstance(s, ast.Nonlocal) else None
        while owner is not None and name not in owner.names:
            owner = owner.parent
        if owner is None:
            f.foreign.add(name)
        else:
            f.outer[name] = owner


def forget(t: Trace, f: Frame, s: ast.Delete) -> Signal:
    for target in s.targets:
        if not isinstance(target, ast.Name) or target.id not in f.names:
            raise Cut("deletes something else than a local name")
        del f.names[target.id]


# fmt: off
STATEMENTS: dict[type, Callable[[Trace, Frame, Any], Signal]] = {
    ast.Assign:      assign,
    ast.AnnAssign:   assign_annotated,
    ast.AugAssign:   assign_operated,
    ast.Expr:        computed,
    ast.Return:      returns,
    ast.If:          branch,
    ast.For:         loop,
    ast.While:       repeat,
    ast.With:        within,
    ast.Assert:      check,
    ast.Try:         attempt,
    ast.FunctionDef: define,
    ast.Nonlocal:    outside,
    ast.Global:      outside,
    ast.Delete:      forget,
    ast.Pass:        lambda t, f, s: None,
    ast.Break:       lambda t, f, s: BREAK,
    ast.Continue:    lambda t, f, s: CONTINUE,
}
# fmt: on
__all__ = ["STATEMENTS", "Cut", "execute", "run", "run_body"]
