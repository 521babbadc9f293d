"""Python's own functions and methods, as they are of values of a trace."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.jit import sources as s
from tinyflow.jit.attributes import get_attribute, get_item, has_attribute, iterate, own_method
from tinyflow.jit.operators import contains, operate, truth
from tinyflow.jit.trace import SCALARS, Trace
from tinyflow.jit.values import NONE, Closure, Cut, Iterated, Known, Made, Method, Partial, Sym, Tens, Value, Viewed

Args = list[Value]
Kwargs = dict[str, Value]


def pure(t: Trace, raw: Callable[..., Any], args: Args, kwargs: Kwargs) -> Value:
    """A function of numbers and strings without effects; of varying numbers, computed at each call."""
    if any(isinstance(a, Sym) for a in args) and not kwargs and all(isinstance(a, Sym | Known) for a in args):
        raws = [a.raw if isinstance(a, Sym) else t.concrete(a) for a in args]  # type: ignore[attr-defined]
        result = raw(*raws)
        if type(result) in (int, float, bool):
            parts = [a.expression if isinstance(a, Sym) else ("const", x) for a, x in zip(args, raws, strict=True)]
            return Sym(("call", raw, *parts), result, any(isinstance(a, Sym) and a.volatile for a in args))
    plain = [t.concrete(a) for a in args]
    if not all(is_pure(x) for x in plain):
        raise Cut(f"calls {raw.__name__} of something that only Python knows")
    return t.lift(raw(*plain, **{k: t.concrete(v) for k, v in kwargs.items()}))


def is_pure(x: Any) -> bool:
    return type(x) in SCALARS or (type(x) in (tuple, list, range) and all(map(is_pure, x)))


def length(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    (v,) = args
    if isinstance(v, Tens):
        return t.size_value(v.tensor._shape[0])
    if isinstance(v, Made) and type(v.raw) is not Iterated:
        return Known(len(iterate(t, v)))
    if isinstance(v, Known) and v.source is not None and type(v.raw) in (list, tuple, dict):
        t.guard(s.has_type(v.source, type(v.raw)), s.has_length(v.source, len(v.raw)))
        return Known(len(v.raw))
    found = own_method(t, v, "__len__", [])
    if found is not None:
        return found
    return Known(len(t.concrete(v)))


def extreme(raw: Callable[..., Any]) -> Callable[..., Value]:
    def rule(t: Trace, args: Args, kwargs: Kwargs) -> Value:
        items = iterate(t, args[0]) if len(args) == 1 else args
        if any(isinstance(x, Tens) for x in items):
            raise Cut(f"calls {raw.__name__} of tensors, which looks at their values")
        return pure(t, raw, items, kwargs)

    return rule


def total(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    """sum(items): the additions that Python makes."""
    result = args[1] if len(args) > 1 else kwargs.get("start", Known(0))
    for x in iterate(t, args[0]):
        result = operate(t, ast.Add, result, x)
    return result


def is_instance(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    v, classes = args
    if isinstance(classes, Made):
        cls: Any = tuple(t.concrete(x) for x in classes.raw)
    else:
        cls = t.concrete(classes)
    if isinstance(v, Tens):
        return Known(issubclass(v.cls, cls))
    if isinstance(v, Made | Sym):
        return Known(isinstance(v.raw, cls))
    if not isinstance(v, Known):
        raise Cut("asks what a function is")
    if v.source is not None:
        t.guard(s.has_type(v.source, type(v.raw)))
    return Known(isinstance(v.raw, cls))


def type_of(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    (v,) = args
    if isinstance(v, Known) and v.source is not None:
        t.guard(s.has_type(v.source, type(v.raw)))
    if isinstance(v, Known | Sym | Made):
        return Known(type(v.raw))
    if isinstance(v, Tens):
        return Known(v.cls)
    raise Cut("asks what a function is")


def get_attr(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    name = t.concrete(args[1])
    if len(args) == 3 and not has_attribute(t, args[0], name):
        return args[2]
    return get_attribute(t, args[0], name)


def truths(stop_at: bool) -> Callable[..., Value]:
    def rule(t: Trace, args: Args, kwargs: Kwargs) -> Value:
        return Known(
            any(truth(t, x) for x in iterate(t, args[0])) if stop_at else all(truth(t, x) for x in iterate(t, args[0]))
        )

    return rule


def mapped(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    from tinyflow.jit.calls import call

    rows = zip(*(iterate(t, a) for a in args[1:]))
    return Made(Iterated([call(t, args[0], list(row), {}) for row in rows]))


def to_dict(t: Trace, args: Sequence[Value], kwargs: Kwargs) -> Made:
    out: dict[Any, Value] = {}
    for a in args:
        if isinstance(a, Made | Known) and isinstance(a.raw, dict):
            out.update({k.raw: get_item(t, a, k) for k in iterate(t, a)})  # type: ignore[attr-defined]
        else:
            pairs = [iterate(t, p) for p in iterate(t, a)]
            out.update({t.concrete(k): v for k, v in pairs})
    return Made({**out, **kwargs})


def bool_of(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    if len(args) == 1 and isinstance(args[0], Sym):
        return Sym(("call", bool, args[0].expression), bool(args[0].raw), args[0].volatile)
    return Known(truth(t, args[0]) if args else False)


def counted(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    first = t.concrete(kwargs.get("start", args[1] if len(args) > 1 else Known(0)))
    return Made(Iterated(Made((Known(k), x)) for k, x in enumerate(iterate(t, args[0]), first)))


def zipped(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    strict = bool(t.concrete(kwargs["strict"])) if kwargs else False
    return Made(Iterated(Made(row) for row in zip(*(iterate(t, a) for a in args), strict=strict)))


# fmt: off
BUILTINS: dict[Any, Callable[..., Value]] = {
    len: length, isinstance: is_instance, type: type_of, sum: total, getattr: get_attr, bool: bool_of,
    enumerate: counted, zip: zipped, map: mapped, any: truths(True), all: truths(False),
    min: extreme(min), max: extreme(max),
    range:     lambda t, a, k: Known(range(*(t.concrete(x) for x in a))),
    reversed:  lambda t, a, k: Made(Iterated(iterate(t, a[0])[::-1])),
    iter:      lambda t, a, k: Made(Iterated(iterate(t, a[0]))),
    list:      lambda t, a, k: Made(iterate(t, a[0]) if a else []),
    tuple:     lambda t, a, k: Made(tuple(iterate(t, a[0])) if a else ()),
    dict:      lambda t, a, k: to_dict(t, a, k),
    hasattr:   lambda t, a, k: Known(has_attribute(t, a[0], t.concrete(a[1]))),
    functools.partial: lambda t, a, k: Partial(a[0], a[1:], k),
    callable:  lambda t, a, k: Known(callable(a[0].raw) if isinstance(a[0], Known) else isinstance(a[0], (Closure, Method))),
    slice:     lambda t, a, k: Known(slice(*(t.concrete(x) for x in a))),
    **{g: functools.partial(lambda g, t, a, k: pure(t, g, a, k), g) for g in (int, float, str, abs, round, pow, divmod, repr, ord, chr, format, sorted)},
}


def changed(method: Callable[..., Any]) -> Callable[..., Value]:
    def rule(t: Trace, v: Made, *args: Value) -> Value:
        method(t, v.raw, *args)
        return NONE
    return rule


METHODS: dict[tuple[type, str], Callable[..., Value]] = {
    (list, "append"):     changed(lambda t, raw, x: raw.append(x)),
    (list, "extend"):     changed(lambda t, raw, x: raw.extend(iterate(t, x))),
    (list, "insert"):     changed(lambda t, raw, k, x: raw.insert(t.concrete(k), x)),
    (list, "reverse"):    changed(lambda t, raw: raw.reverse()),
    (list, "clear"):      changed(lambda t, raw: raw.clear()),
    (list, "pop"):        lambda t, v, *k: v.raw.pop(*map(t.concrete, k)),
    (list, "copy"):       lambda t, v: Made(list(v.raw)),
    (tuple, "numel"):     lambda t, v: size_product(t, v),
    (dict, "keys"):       lambda t, v: Made(Viewed(lambda: iterate(t, v))),
    (dict, "values"):     lambda t, v: Made(Viewed(lambda: [get_item(t, v, k) for k in iterate(t, v)])),
    (dict, "items"):      lambda t, v: Made(Viewed(lambda: [Made((k, get_item(t, v, k))) for k in iterate(t, v)])),
    (dict, "get"):        lambda t, v, k, other=NONE: found_or(t, v, k, other),
    (dict, "copy"):       lambda t, v: to_dict(t, [v], {}),
    (dict, "update"):     lambda t, v, *other, **more: v.raw.update(to_dict(t, other, more).raw) or NONE,
    (dict, "pop"):        lambda t, v, k, *other: v.raw.pop(t.concrete(k), *other),
    (dict, "setdefault"): lambda t, v, k, other=NONE: v.raw.setdefault(t.concrete(k), other),
}
CHANGES = {"append", "extend", "insert", "reverse", "clear", "pop", "update", "setdefault"}
# fmt: on


def found_or(t: Trace, v: Any, k: Value, other: Value) -> Value:
    return get_item(t, v, k) if contains(t, v, k) else other


def size_product(t: Trace, v: Made) -> Value:
    return functools.reduce(lambda a, b: operate(t, ast.Mult, a, b), v.raw, Known(1))
