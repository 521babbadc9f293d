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
import types
from typing import Any

from tinyflow.jit import sources as s
from tinyflow.jit import training
from tinyflow.jit.attributes import get_attribute, get_item, iterate, own_method
from tinyflow.jit.pythons import BUILTINS, CHANGES, METHODS, pure
from tinyflow.jit.record import call_tensors
from tinyflow.jit.sources import Source
from tinyflow.jit.syntax import NoSource, assigned_names, declared, parameters, syntax_of
from tinyflow.jit.trace import MOST_FRAMES, SCALARS, Frame, Trace
from tinyflow.jit.values import Closure, Cut, Known, Live, Made, Method, Partial, Tens, Value
from tinyflow.torch.modes import MODE, GradMode

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


def call(t: Trace, function: Value, args: Args, kwargs: Kwargs) -> Value:
    """The value of function(*args, **kwargs)."""
    if isinstance(function, Closure):
        return follow_closure(t, function, args, kwargs)
    if isinstance(function, Partial):
        return call(t, function.function, [*function.args, *args], {**function.kwargs, **kwargs})
    if isinstance(function, Method):
        return call_method(t, function, args, kwargs)
    if not isinstance(function, Known):
        raise Cut("calls something that is not a function")
    raw = function.raw
    if isinstance(raw, types.FunctionType):
        return call_function(t, function, args, kwargs)
    try:
        rule = BUILTINS.get(raw)
    except TypeError:
        rule = None
    if rule is not None:
        if function.source is not None:
            t.guard(s.same(function.source, raw))
        return rule(t, args, kwargs)  # type: ignore[no-any-return]
    return call_object(t, function, args, kwargs)


def call_object(t: Trace, function: Known, args: Args, kwargs: Kwargs) -> Value:
    """Methods, partial functions, modules, classes, and whatever else can be called."""
    raw, source = function.raw, function.source
    if getattr(type(raw), "is_compiled_function", False):
        if source is not None:
            t.guard(s.same(source, raw, "a compiled function"))
        return follow(t, Known(raw.function), args, kwargs)
    if isinstance(raw, types.MethodType) and source is not None:
        t.guard(s.has_type(source, types.MethodType))
        owner = t.arrive(raw.__self__, Source("attr", source, "__self__"))
        return follow(t, Known(raw.__func__, Source("attr", source, "__func__")), [owner, *args], kwargs)
    if type(raw) is functools.partial and source is not None:
        t.guard(s.has_type(source, functools.partial))
        inner = t.arrive(raw.func, Source("attr", source, "func"))
        first = iterate(t, t.arrive(raw.args, Source("attr", source, "args")))
        named = t.arrive(raw.keywords, Source("attr", source, "keywords"))
        more = {k.raw: get_item(t, named, k) for k in iterate(t, named)}  # type: ignore[attr-defined]
        return call(t, inner, [*first, *args], {**more, **kwargs})  # type: ignore[arg-type]
    if isinstance(raw, type) and issubclass(raw, GradMode) and raw.__module__.startswith(FACE):
        return (
            Known(GradChoice(raw(*[t.concrete(a) for a in args]).wanted))
            if raw.__name__ != "set_grad_enabled"
            else grad_choice(t, args)
        )
    if isinstance(raw, types.BuiltinFunctionType) and raw.__module__ == "math":
        return pure(t, raw, args, kwargs)
    if isinstance(raw, type) and is_named_tuple(raw):
        return Made(raw(*args, **kwargs))
    if isinstance(raw, GradMode) and raw.function is not None:
        return switched(t, function, raw.function, raw.wanted, args, kwargs)
    if not isinstance(raw, type):
        found = own_method(t, function, "__call__", args, kwargs)
        if found is not None:
            return found
    raise Cut(f"calls {getattr(raw, '__name__', type(raw).__name__)}, which stays in Python")


class GradChoice:
    """A grad mode to be entered by `with`."""

    __slots__ = ("wanted",)

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted


def grad_choice(t: Trace, args: Args) -> Value:
    return Known(GradChoice(bool(t.concrete(args[0]))))


# ------------------------------------------------------------------------------------------ followed


def call_function(t: Trace, function: Known, args: Args, kwargs: Kwargs) -> Value:
    raw = function.raw
    module = raw.__globals__.get("__name__", "")
    if module == "tinyflow.torch.modes":
        return of_modes(t, function, args, kwargs)
    rule = training.FUNCTIONS.get(raw)
    found = rule(t, args, kwargs) if rule is not None else None
    if found is not None:
        if function.source is not None:
            t.guard(s.same(function.source, raw))
        return found
    if not module.startswith(FACE):
        return follow(t, function, args, kwargs)
    if module.startswith(FOREIGN) or raw.__name__ in WITH_EFFECTS:
        raise Cut(f"{raw.__name__} has effects outside its tensors")
    if function.source is not None:
        t.guard(s.same(function.source, raw))
    return call_tensors(t, raw, args, kwargs)


def of_modes(t: Trace, function: Known, args: Args, kwargs: Kwargs) -> Value:
    """A function under @no_grad() or the like, or a question about the mode."""
    raw = function.raw
    inner = getattr(raw, "__wrapped__", None)
    if inner is not None:
        return switched(t, function, inner, inspect.getclosurevars(raw).nonlocals["wanted"], args, kwargs)
    if raw.__name__ == "is_grad_enabled":
        return Known(MODE.grad)
    raise Cut(f"{raw.__name__} changes the grad mode")


def switched(t: Trace, function: Known, inner: Any, wanted: bool, args: Args, kwargs: Kwargs) -> Value:
    """A call in a grad mode of its own."""
    if function.source is not None:
        t.guard(s.same(function.source, function.raw))
    before, MODE.grad = MODE.grad, wanted
    try:
        return follow(t, Known(inner), args, kwargs)
    finally:
        MODE.grad = before


def is_named_tuple(cls: type) -> bool:
    """A class made by namedtuple, that constructs as such."""
    return (
        cls.__mro__[1:] == (tuple, object)
        and hasattr(cls, "_fields")
        and "__init__" not in cls.__dict__
        and cls.__new__.__module__.startswith("namedtuple_")
    )


def follow(t: Trace, function: Known, args: Args, kwargs: Kwargs) -> Value:
    """Interprets the body of a user's function."""
    raw, source = function.raw, function.source
    if (raw.__module__ or "").startswith(FOREIGN):
        raise Cut(f"{raw.__qualname__} has effects outside its tensors")
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


def call_method(t: Trace, m: Method, args: Args, kwargs: Kwargs) -> Value:
    if isinstance(m.function, Known):
        rule = training.METHODS.get(m.function.raw)
        if rule is not None:
            return rule(t, [m.self, *args], kwargs)
        return follow(t, m.function, [m.self, *args], kwargs)
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
        shape = get_attribute(t, self, "shape")
        return get_item(t, shape, args[0]) if args else get_item(t, shape, kwargs["dim"]) if kwargs else shape
    if m.name == "__len__":
        return t.size_value(self.tensor._shape[0])
    if m.name in ("is_contiguous", "stride", "storage_offset") and t.dims:
        raise Cut("asks for the layout of a tensor whose size varies")
    rule = training.FUNCTIONS.get(m.function)
    found = rule(t, [self, *args], kwargs) if rule is not None else None
    return call_tensors(t, m.function, [self, *args], kwargs) if found is None else found
