"""Calls: what is followed, what is recorded, what Python's own functions mean for values of a trace.

call := of a closure or a user's function   followed: its body is interpreted in a frame of its own
      | of the tensor face                  recorded: it makes nodes
      | of a row of BUILTINS or METHODS     computed now
      | of anything else                    a cut
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import types
from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.jit import sources as s
from tinyflow.jit.attributes import get_attribute, get_item, has_attribute, iterate, keys
from tinyflow.jit.sources import Source
from tinyflow.jit.syntax import NoSource, assigned_names, declared, parameters, syntax_of
from tinyflow.jit.trace import MOST_FRAMES, SCALARS, Frame, Trace
from tinyflow.jit.values import NONE, Closure, Cut, Iterated, Known, Live, Made, Method, Sym, Tens, Value, Viewed
from tinyflow.ops.elementwise import cast
from tinyflow.torch import functions as face
from tinyflow.torch.modes import GradMode
from tinyflow.torch.pointwise import result_type
from tinyflow.torch.random import default_generator
from tinyflow.torch.tensor import Tensor, dtype_of, use

Args = list[Value]
Kwargs = dict[str, Value]
FACE = "tinyflow."
# Functions of the face that change something outside their tensors, or look at memory that others share.
WITH_EFFECTS = {
    "manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state", "randperm", "set_default_dtype", "set_num_threads",
    "from_numpy", "as_tensor", "save", "load", "backward", "backward_of", "grad", "compile", "set_printoptions", "register_hook",
}  # fmt: skip
FOREIGN = (
    "tinyflow.torch.autograd",
    "tinyflow.torch.optim",
    "tinyflow.torch.utils",
    "tinyflow.jit",
    "tinyflow.torch.printing",
)


def call(t: Trace, f: Frame, node: ast.AST, function: Value, args: Args, kwargs: Kwargs) -> Value:
    """The value of function(*args, **kwargs)."""
    if isinstance(function, Closure):
        return follow_closure(t, function, args, kwargs)
    if isinstance(function, Method):
        return call_method(t, f, function, args, kwargs)
    if not isinstance(function, Known):
        raise Cut("calls something that is not a function")
    raw = function.raw
    if isinstance(raw, types.FunctionType):
        return call_function(t, f, function, args, kwargs)
    try:
        rule = BUILTINS.get(raw)
    except TypeError:
        rule = None
    if rule is not None:
        if function.source is not None:
            t.guard(s.same(function.source, raw))
        return rule(t, f, args, kwargs)  # type: ignore[no-any-return]
    return call_object(t, f, function, args, kwargs)


def call_object(t: Trace, f: Frame, function: Known, args: Args, kwargs: Kwargs) -> Value:
    """Methods, partial functions, modules, classes, and whatever else can be called."""
    raw, source = function.raw, function.source
    if getattr(type(raw), "is_compiled_function", False):
        if source is not None:
            t.guard(s.same(source, raw, "a compiled function"))
        return follow(t, f, Known(raw.function), args, kwargs)
    if isinstance(raw, types.MethodType) and source is not None:
        t.guard(s.has_type(source, types.MethodType))
        owner = t.arrive(raw.__self__, Source("attr", source, "__self__"))
        return follow(t, f, Known(raw.__func__, Source("attr", source, "__func__")), [owner, *args], kwargs)
    if type(raw) is functools.partial and source is not None:
        t.guard(s.has_type(source, functools.partial))
        inner = t.arrive(raw.func, Source("attr", source, "func"))
        first = iterate(t, t.arrive(raw.args, Source("attr", source, "args")))
        named = t.arrive(raw.keywords, Source("attr", source, "keywords"))
        more = {k.raw: get_item(t, named, k) for k in iterate(t, named)}  # type: ignore[attr-defined]
        return call(t, f, f, inner, [*first, *args], {**more, **kwargs})  # type: ignore[arg-type]
    if isinstance(raw, type) and issubclass(raw, GradMode) and raw.__module__.startswith(FACE):
        return (
            Known(GradChoice(raw(*[t.concrete(a) for a in args]).wanted))
            if raw.__name__ != "set_grad_enabled"
            else grad_choice(t, args)
        )
    if isinstance(raw, types.BuiltinFunctionType) and raw.__module__ == "math":
        return pure(t, raw, args, kwargs)
    if (
        not isinstance(raw, type)
        and source is not None
        and isinstance(getattr(type(raw), "__call__", None), types.FunctionType)
    ):
        return call(t, f, f, get_attribute(t, f, function, "__call__"), args, kwargs)  # type: ignore[arg-type]
    raise Cut(f"calls {getattr(raw, '__name__', type(raw).__name__)}, which stays in Python")


class GradChoice:
    """A grad mode to be entered by `with`."""

    __slots__ = ("wanted",)

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted


def grad_choice(t: Trace, args: Args) -> Value:
    return Known(GradChoice(bool(t.concrete(args[0]))))


# ------------------------------------------------------------------------------------------ followed


def call_function(t: Trace, f: Frame, function: Known, args: Args, kwargs: Kwargs) -> Value:
    raw = function.raw
    module = getattr(raw, "__module__", None) or ""
    if not module.startswith(FACE):
        return follow(t, f, function, args, kwargs)
    if module.startswith(FOREIGN) or raw.__name__ in WITH_EFFECTS:
        raise Cut(f"{raw.__name__} has effects outside its tensors")
    if module == "tinyflow.torch.modes":
        return switched(t, f, function, args, kwargs)
    if function.source is not None:
        t.guard(s.same(function.source, raw))
    return call_tensors(t, raw, args, kwargs)


def switched(t: Trace, f: Frame, function: Known, args: Args, kwargs: Kwargs) -> Value:
    """A function under @no_grad() or the like."""
    raw = function.raw
    inner = getattr(raw, "__wrapped__", None)
    if inner is None:
        if raw.__name__ in ("is_grad_enabled",):
            from tinyflow.torch.modes import MODE

            return Known(MODE.grad)
        raise Cut(f"{raw.__name__} changes the grad mode")
    from tinyflow.torch.modes import MODE

    if function.source is not None:
        t.guard(s.same(function.source, raw))
    wanted = inspect.getclosurevars(raw).nonlocals["wanted"]
    before, MODE.grad = MODE.grad, wanted
    try:
        return follow(t, f, Known(inner), args, kwargs)
    finally:
        MODE.grad = before


def follow(t: Trace, f: Frame, function: Known, args: Args, kwargs: Kwargs) -> Value:
    """Interprets the body of a user's function."""
    raw, source = function.raw, function.source
    try:
        syntax = syntax_of(raw.__code__)
    except NoSource as e:
        raise Cut(f"{raw.__name__} {e}") from None
    if source is not None:
        words = f"{source.words} is the function {raw.__qualname__} of line {raw.__code__.co_firstlineno}"
        t.guard(s.has_type(source, types.FunctionType))
        t.guard(s.Guard("code", "{0}.__code__ is {a}", (source,), (raw.__code__,), words))
    place = source or s.object_(raw)
    defaults = place_defaults(raw, place)
    names = bind_arguments(syntax, args, kwargs, *defaults)
    frame = Frame(names, raw.__globals__, raw.__code__.co_filename, raw, place)
    return run_followed(t, syntax, frame)


def place_defaults(raw: Any, place: Source) -> tuple[list[Any], dict[str, Any]]:
    there = raw.__defaults__ or ()
    holder = Source("attr", place, "__defaults__")
    plain = [Live(x, Source("item", holder, k)) for k, x in enumerate(there)]
    holder = Source("attr", place, "__kwdefaults__")
    named = {k: Live(x, Source("item", holder, k)) for k, x in (raw.__kwdefaults__ or {}).items()}
    return plain, named


def follow_closure(t: Trace, c: Closure, args: Args, kwargs: Kwargs) -> Value:
    named = {a.arg: d for a, d in zip(c.syntax.args.kwonlyargs, c.kw_defaults, strict=True) if d is not None}
    names = bind_arguments(c.syntax, args, kwargs, c.defaults, named)
    frame = Frame(names, c.frame.scope, c.frame.file, parent=c.frame)
    frame.function = c  # it is a function's frame, not a comprehension's
    if not isinstance(c.syntax, ast.Lambda):
        frame.local = frozenset(assigned_names(c.syntax.body) - declared(c.syntax.body))
    return run_followed(t, c.syntax, frame)


def run_followed(t: Trace, syntax: Any, frame: Frame) -> Value:
    from tinyflow.jit.expressions import evaluate
    from tinyflow.jit.statements import run_body

    if t.depth >= MOST_FRAMES:
        raise Cut("calls go too deep to be written out")
    t.depth += 1
    try:
        return evaluate(t, frame, syntax.body) if isinstance(syntax, ast.Lambda) else run_body(t, frame, syntax.body)
    except Cut as c:
        c.followed = True
        raise
    finally:
        t.depth -= 1


def bind_arguments(
    syntax: Any, args: Args, kwargs: Kwargs, defaults: list[Any], named: dict[str, Any]
) -> dict[str, Any]:
    """Parameters -> values, as Python binds them."""
    a = syntax.args
    order = [*a.posonlyargs, *a.args]
    names: dict[str, Any] = {p.arg: v for p, v in zip(order, args)}
    left = dict(kwargs)
    allowed = {p.arg for p in (*a.args, *a.kwonlyargs)}
    for k in [k for k in left if k in allowed]:
        if k in names:
            raise TypeError(f"got multiple values for argument {k!r}")
        names[k] = left.pop(k)
    for p, v in zip(order[len(order) - len(defaults) :], defaults, strict=True):
        names.setdefault(p.arg, v)
    for k, v in named.items():
        names.setdefault(k, v)
    if a.vararg is not None:
        names[a.vararg.arg] = Made(tuple(args[len(order) :]))
    elif len(args) > len(order):
        raise TypeError(f"takes {len(order)} positional arguments but {len(args)} were given")
    if a.kwarg is not None:
        names[a.kwarg.arg] = Made(left)
    elif left:
        raise TypeError(f"got an unexpected keyword argument {next(iter(left))!r}")
    missing = [p for p in parameters(syntax) if p not in names]
    if missing:
        raise TypeError(f"missing required argument {missing[0]!r}")
    return names


# ------------------------------------------------------------------------------------------ recorded


def call_tensors(t: Trace, function: Any, args: Args, kwargs: Kwargs | None = None) -> Value:
    """A function of the tensor face (or its name), recorded as the user's line."""
    from tinyflow.jit.lines import on_line

    raw = (
        function
        if callable(function)
        else getattr(Tensor, function)
        if function.endswith("_")
        else face.FUNCTIONS[function]
    )
    plain = [lower(t, a) for a in args]
    named = {k: lower(t, a) for k, a in (kwargs or {}).items()}
    drawn = (default_generator._seed, default_generator._count)
    result = on_line(t.file, t.line)(raw, plain, named)
    if (default_generator._seed, default_generator._count) != drawn:
        raise Cut("draws random numbers in a way of its own")
    t.unchanged()
    return t.lift(result)


ALLOWED = ("dtype", "device", "Size", "finfo", "iinfo")


def lower(t: Trace, v: Value) -> Any:
    """What the tensor face is given for a value."""
    if isinstance(v, Tens):
        return v.tensor
    if isinstance(v, Scalar):
        return v.node
    if isinstance(v, Sym):
        return v.dim if v.dim is not None else t.concrete(v)
    if isinstance(v, Made):
        if isinstance(v.raw, dict):
            return {k: lower(t, x) for k, x in v.raw.items()}
        parts = [lower(t, x) for x in v.raw]
        return type(v.raw)(*parts) if hasattr(v.raw, "_fields") else type(v.raw)(parts)
    if not isinstance(v, Known):
        raise Cut("hands a function to the tensor face")
    raw = v.raw
    if v.source is not None and type(raw) in (list, tuple):
        return type(raw)(lower(t, x) for x in iterate(t, v))
    if (
        isinstance(raw, SCALARS)
        or type(raw) in (slice, range, tuple)
        or (type(raw).__name__ in ALLOWED and type(raw).__module__.startswith(FACE))
    ):
        return t.concrete(v)
    if raw is int or raw is float or raw is bool:
        return raw
    raise Cut(f"hands a {type(raw).__name__} to the tensor face")


class Scalar(Value):
    """A varying number beside a tensor, in the type that the tensor makes of it."""

    __slots__ = ("node",)

    def __init__(self, node: Any) -> None:
        self.node = node


def scalar_operand(t: Trace, v: Value, beside: Value) -> Value:
    if not isinstance(v, Sym):
        return v
    assert isinstance(beside, Tens)
    return Scalar(cast(t.scalar(v), result_type(use_type(beside.tensor), v.raw)))


def use_type(tensor: Tensor) -> Any:
    """A node of the tensor's type and rank."""
    node = use(tensor)
    assert node.dtype is dtype_of(tensor)
    return node


def call_method(t: Trace, f: Frame, m: Method, args: Args, kwargs: Kwargs) -> Value:
    if isinstance(m.function, Known):
        return follow(t, f, m.function, [m.self, *args], kwargs)
    if isinstance(m.self, Tens):
        return of_tensor(t, m, m.self, args, kwargs)
    raw = m.self.raw  # type: ignore[attr-defined]
    if isinstance(m.self, Made) or (isinstance(m.self, Known) and m.self.source is not None and isinstance(raw, dict)):
        rule = METHODS.get((dict if isinstance(raw, dict) else type(raw), m.name))
        if rule is None:
            raise Cut(f"calls .{m.name} of a {type(raw).__name__}")
        if m.name in CHANGES and not isinstance(m.self, Made):
            raise Cut(f"changes a {type(raw).__name__} that was there before")
        return rule(t, m.self, *args, **kwargs)  # type: ignore[no-any-return]
    if isinstance(raw, list | tuple):
        raise Cut(f"calls .{m.name} of a {type(raw).__name__} that was there before")
    plain = t.concrete(m.self)
    if type(plain) not in SCALARS and not type(plain).__module__.startswith("tinyflow.torch.dtypes"):
        raise Cut(f"calls .{m.name} of a {type(plain).__name__}")
    return t.lift(
        getattr(plain, m.name)(*[t.concrete(a) for a in args], **{k: t.concrete(v) for k, v in kwargs.items()})
    )


def of_tensor(t: Trace, m: Method, self: Tens, args: Args, kwargs: Kwargs) -> Value:
    """A method of a tensor; sizes are asked for as values of the trace."""
    if m.name == "size":
        shape = get_attribute(t, None, self, "shape")  # type: ignore[arg-type]
        return get_item(t, shape, args[0]) if args else get_item(t, shape, kwargs["dim"]) if kwargs else shape
    if m.name == "__len__":
        return t.size_value(self.tensor._shape[0])
    if m.name in ("is_contiguous", "stride", "storage_offset") and t.dims:
        raise Cut("asks for the layout of a tensor whose size varies")
    return call_tensors(t, m.function, [self, *args], kwargs)


# ------------------------------------------------------------------------------------------ Python's own


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


def length(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
    (v,) = args
    if isinstance(v, Tens):
        return t.size_value(v.tensor._shape[0])
    if isinstance(v, Made) and type(v.raw) is not Iterated:
        return Known(len(iterate(t, v)))
    if isinstance(v, Known) and v.source is not None and type(v.raw) in (list, tuple, dict):
        t.guard(s.has_type(v.source, type(v.raw)), s.has_length(v.source, len(v.raw)))
        return Known(len(v.raw))
    if (
        isinstance(v, Known)
        and v.source is not None
        and isinstance(getattr(type(v.raw), "__len__", None), types.FunctionType)
    ):
        return call(t, f, None, get_attribute(t, f, v, "__len__"), [], {})  # type: ignore[arg-type]
    return Known(len(t.concrete(v)))


def extreme(raw: Callable[..., Any]) -> Callable[..., Value]:
    def rule(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
        items = iterate(t, args[0]) if len(args) == 1 else args
        if any(isinstance(x, Tens) for x in items):
            raise Cut(f"calls {raw.__name__} of tensors, which looks at their values")
        return pure(t, raw, items, kwargs)

    return rule


def total(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
    """sum(items): the additions that Python makes."""
    from tinyflow.jit.expressions import operate

    result = args[1] if len(args) > 1 else kwargs.get("start", Known(0))
    for x in iterate(t, args[0]):
        result = operate(t, ast.Add, result, x)
    return result


def is_instance(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
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


def type_of(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
    (v,) = args
    if isinstance(v, Known) and v.source is not None:
        t.guard(s.has_type(v.source, type(v.raw)))
    if isinstance(v, Known | Sym | Made):
        return Known(type(v.raw))
    if isinstance(v, Tens):
        return Known(v.cls)
    raise Cut("asks what a function is")


def get_attr(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
    name = t.concrete(args[1])
    if len(args) == 3 and not has_attribute(t, f, args[0], name):
        return args[2]
    return get_attribute(t, f, args[0], name)


def truths(stop_at: bool) -> Callable[..., Value]:
    def rule(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
        from tinyflow.jit.expressions import truth

        return Known(
            any(truth(t, x) for x in iterate(t, args[0])) if stop_at else all(truth(t, x) for x in iterate(t, args[0]))
        )

    return rule


def mapped(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
    rows = zip(*(iterate(t, a) for a in args[1:]))
    return Made(Iterated([call(t, f, None, args[0], list(row), {}) for row in rows]))  # type: ignore[arg-type]


def to_dict(t: Trace, args: Args, kwargs: Kwargs) -> Value:
    out: dict[Any, Value] = {}
    for a in args:
        if isinstance(a, Made | Known) and isinstance(a.raw, dict):
            out.update({k.raw: get_item(t, a, k) for k in iterate(t, a)})  # type: ignore[attr-defined]
        else:
            pairs = [iterate(t, p) for p in iterate(t, a)]
            out.update({t.concrete(k): v for k, v in pairs})
    return Made({**out, **kwargs})


def bool_of(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
    from tinyflow.jit.expressions import truth

    if len(args) == 1 and isinstance(args[0], Sym):
        return Sym(("call", bool, args[0].expression), bool(args[0].raw), args[0].volatile)
    return Known(truth(t, args[0]) if args else False)


def counted(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
    first = t.concrete(kwargs.get("start", args[1] if len(args) > 1 else Known(0)))
    return Made(Iterated(Made((Known(k), x)) for k, x in enumerate(iterate(t, args[0]), first)))


def zipped(t: Trace, f: Frame, args: Args, kwargs: Kwargs) -> Value:
    strict = bool(t.concrete(kwargs["strict"])) if kwargs else False
    return Made(Iterated(Made(row) for row in zip(*(iterate(t, a) for a in args), strict=strict)))


# fmt: off
BUILTINS: dict[Any, Callable[..., Value]] = {
    len: length, isinstance: is_instance, type: type_of, sum: total, getattr: get_attr, bool: bool_of,
    enumerate: counted, zip: zipped, map: mapped, any: truths(True), all: truths(False),
    min: extreme(min), max: extreme(max),
    range:     lambda t, f, a, k: Known(range(*(t.concrete(x) for x in a))),
    reversed:  lambda t, f, a, k: Made(Iterated(iterate(t, a[0])[::-1])),
    iter:      lambda t, f, a, k: Made(Iterated(iterate(t, a[0]))),
    list:      lambda t, f, a, k: Made(iterate(t, a[0]) if a else []),
    tuple:     lambda t, f, a, k: Made(tuple(iterate(t, a[0])) if a else ()),
    dict:      lambda t, f, a, k: to_dict(t, a, k),
    hasattr:   lambda t, f, a, k: Known(has_attribute(t, f, a[0], t.concrete(a[1]))),
    callable:  lambda t, f, a, k: Known(callable(a[0].raw) if isinstance(a[0], Known) else isinstance(a[0], (Closure, Method))),
    slice:     lambda t, f, a, k: Known(slice(*(t.concrete(x) for x in a))),
    **{g: functools.partial(lambda g, t, f, a, k: pure(t, g, a, k), g) for g in (int, float, str, abs, round, pow, divmod, repr, ord, chr, format, sorted)},
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
    (list, "pop"):        lambda t, v, k=Known(-1): v.raw.pop(t.concrete(k)),
    (list, "copy"):       lambda t, v: Made(list(v.raw)),
    (tuple, "numel"):     lambda t, v: size_product(t, v),
    (dict, "keys"):       lambda t, v: Made(Viewed(lambda: iterate(t, v))),
    (dict, "values"):     lambda t, v: Made(Viewed(lambda: [get_item(t, v, k) for k in iterate(t, v)])),
    (dict, "items"):      lambda t, v: Made(Viewed(lambda: [Made((k, get_item(t, v, k))) for k in iterate(t, v)])),
    (dict, "get"):        lambda t, v, k, other=NONE: found_or(t, v, k, other),
    (dict, "copy"):       lambda t, v: to_dict(t, [v], {}),
    (dict, "update"):     lambda t, v, other=Made({}), **more: v.raw.update({**to_dict(t, [other], {}).raw, **more}) or NONE,
    (dict, "pop"):        lambda t, v, k, *other: v.raw.pop(t.concrete(k), *other),
    (dict, "setdefault"): lambda t, v, k, other=NONE: v.raw.setdefault(t.concrete(k), other),
}
CHANGES = {"append", "extend", "insert", "reverse", "clear", "pop", "update", "setdefault"}
# fmt: on


def found_or(t: Trace, v: Any, k: Value, other: Value) -> Value:
    from tinyflow.jit.expressions import contains

    return get_item(t, v, k) if contains(t, v, k) else other


def size_product(t: Trace, v: Made) -> Value:
    from tinyflow.jit.expressions import operate

    return functools.reduce(lambda a, b: operate(t, ast.Mult, a, b), v.raw, Known(1))


__all__ = ["Sequence", "call", "call_tensors", "follow", "keys", "math", "scalar_operand"]
