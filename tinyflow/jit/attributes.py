"""Attributes, items, iteration and identity of values: how a trace reads what was there before, and what it guards.

An object's class is guarded, then where the attribute was found: in the object, its class, or a module's tables.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from tinyflow.jit import sources as s
from tinyflow.jit.sources import Guard, Source
from tinyflow.jit.trace import SCALARS, Trace
from tinyflow.jit.values import Cut, Iterated, Known, Made, Method, Sym, Tens, Value, Viewed
from tinyflow.torch.tensor import Tensor

TABLES = ("_parameters", "_buffers", "_modules")  # where a module keeps what its __getattr__ finds
TRUSTED = (
    "tinyflow",
    "math",
    "operator",
    "functools",
    "itertools",
    "collections",
    "typing",
)  # modules whose names do not change
FACTS = (
    "ndim",
    "dtype",
    "device",
    "requires_grad",
    "is_cuda",
    "itemsize",
    "layout",
    "is_sparse",
    "is_quantized",
    "is_meta",
)
VIEWS = ("T", "mT", "H", "mH", "data", "real")
MOST_ITEMS = 10_000


def get_attribute(t: Trace, v: Value, name: str) -> Value:
    if isinstance(v, Tens):
        return of_tensor(t, v, name)
    if isinstance(v, Made):
        return of_made(v, name)
    if isinstance(v, Method) and v.name == "super":
        return of_parent(v, name)
    if isinstance(v, Sym):
        raise Cut(f"reads .{name} of a number that varies")
    if not isinstance(v, Known):
        raise Cut(f"reads .{name} of a function made here")
    if isinstance(v.raw, types.ModuleType):
        return of_module(t, v, name)
    if v.source is None or type(v.raw) in SCALARS or type(v.raw).__module__.startswith("tinyflow.torch.dtypes"):
        return of_constant(t, v, name)
    if type(v.raw) in CONTAINERS:
        return Method(None, v, name)
    if isinstance(v.raw, type):
        t.guard(s.same(v.source, v.raw))
        return of_type(t, v.raw, name)
    if isinstance(v.raw, types.FunctionType):
        return t.arrive(getattr(v.raw, name), Source("attr", v.source, name))
    return of_object(t, v, name)


CONTAINERS = (list, tuple, dict, OrderedDict)


def of_tensor(t: Trace, v: Tens, name: str) -> Value:
    if name == "shape":
        return Made(tuple(t.size_value(d) for d in v.tensor._shape))
    if name in FACTS:
        return Known(getattr(v.tensor, name))
    if name in VIEWS:
        return t.lift(getattr(v.tensor, name))
    if name == "grad":
        return t.lift(v.tensor._grad)
    if name == "is_leaf" and not v.tensor.requires_grad:
        return Known(True)
    found = getattr(Tensor, name, None)
    if not callable(found) or name in LEFT_TO_PYTHON:
        raise Cut(LEFT_TO_PYTHON.get(name, f"reads .{name} of a tensor"))
    return Method(found, v, name)


LOOKS = "looks at a tensor's value"
FLAGS = "changes what a tensor is"
LEFT_TO_PYTHON = {
    "item": LOOKS, "tolist": LOOKS, "numpy": LOOKS, "data_ptr": LOOKS, "__array__": LOOKS, "__bool__": LOOKS, "__float__": LOOKS, "__int__": LOOKS,
    "register_hook": FLAGS, "retain_grad": FLAGS, "requires_grad_": FLAGS, "detach_": FLAGS, "share_memory_": FLAGS,
    "pin_memory": FLAGS, "untyped_storage": FLAGS, "set_": FLAGS, "resize_": FLAGS,
}  # fmt: skip


def of_made(v: Made, name: str) -> Value:
    fields = getattr(v.raw, "_fields", ())
    if name in fields:
        return v.raw[fields.index(name)]  # type: ignore[no-any-return]
    return Method(None, v, name)


def of_parent(v: Method, name: str) -> Value:
    self = v.self
    assert isinstance(self, Known)
    found = getattr(super(v.function, self.raw), name)
    if not isinstance(found, types.MethodType):
        raise Cut(f"super().{name} is not a method")
    return Method(Known(found.__func__), self, name)


def of_module(t: Trace, v: Known, name: str) -> Value:
    if v.source is not None:
        t.guard(s.same(v.source, v.raw))
    raw = getattr(v.raw, name)
    if v.raw.__name__.split(".")[0] in TRUSTED:
        return Known(raw)
    return t.arrive(raw, Source("attr", v.source or s.object_(v.raw), name))


def of_constant(t: Trace, v: Known, name: str) -> Value:
    """Attributes of what does not change: strings, numbers, types of this package."""
    raw = t.concrete(v)
    if isinstance(raw, type) and not raw.__module__.startswith("tinyflow.torch.dtypes"):
        return of_type(t, raw, name)
    found = getattr(raw, name)
    if type(found) in SCALARS or isinstance(found, type) or type(found).__module__.startswith("tinyflow.torch.dtypes"):
        return Known(found)
    if callable(found):
        return Method(None, v, name)
    return t.lift(found)


def of_type(t: Trace, cls: type, name: str) -> Value:
    """An attribute of a class."""
    if type(cls).__getattribute__ is not type.__getattribute__ or hasattr(type(cls), name):
        raise Cut(f"reads .{name} of the class {cls.__name__}, which its own class decides")
    found = getattr(cls, name)
    place = Source("attr", s.object_(cls), name)
    if isinstance(found, types.FunctionType):
        if not cls.__module__.startswith("tinyflow."):
            t.guard(s.same(place, found))
        return Known(found)
    if isinstance(found, types.MethodType):
        raise Cut(f"reads the class method {cls.__name__}.{name}")
    return t.arrive(found, place)


def of_object(t: Trace, v: Known, name: str) -> Value:
    raw, cls, source = v.raw, type(v.raw), v.source
    assert source is not None
    if cls.__getattribute__ is not object.__getattribute__:
        raise Cut(f"reads .{name} of a {cls.__name__}, which finds attributes in its own way")
    t.guard(s.has_type(source, cls))
    there = getattr(raw, "__dict__", {})
    owner = next((c for c in cls.__mro__ if name in c.__dict__), None)
    found = owner.__dict__[name] if owner is not None else None
    if isinstance(found, property):
        from tinyflow.jit.calls import follow

        return follow(t, Known(found.fget), [v], {})
    if owner is not None and hasattr(type(found), "__set__"):
        if not isinstance(found, types.MemberDescriptorType):
            raise Cut(f"reads .{name}, which a descriptor computes")
        return t.arrive(getattr(raw, name), Source("attr", source, name))
    if name in there:
        return t.arrive(there[name], Source("attr", source, name))
    if owner is not None:
        return of_class(t, v, owner, found, name)
    for table in TABLES:
        if name in there.get(table, ()):
            return t.arrive(there[table][name], Source("member", source, name, table))
    raise Cut(f"{source.words} finds .{name} in a way of its own")


def of_class(t: Trace, v: Known, owner: type, found: Any, name: str) -> Value:
    """An attribute that the object's class has: a method is bound to the object."""
    assert v.source is not None
    if hasattr(v.raw, "__dict__"):
        t.guard(
            Guard(
                "absent", "{a} not in {0}.__dict__", (v.source,), (name,), f"{v.source.words} has no .{name} of its own"
            )
        )
    place = Source("attr", s.object_(owner), name)
    if isinstance(found, types.FunctionType):
        if not owner.__module__.startswith("tinyflow."):
            t.guard(s.same(place, found))
        return Method(Known(found), v, name)
    if isinstance(found, staticmethod):
        return Known(found.__func__)
    if isinstance(found, classmethod):
        return Method(Known(found.__func__), Known(type(v.raw)), name)
    unwrapped = getattr(found, "function", None)
    if getattr(type(found), "is_compiled_function", False):
        return Method(Known(unwrapped), v, name)
    if hasattr(type(found), "__get__"):
        raise Cut(f"reads .{name}, which a descriptor computes")
    return t.arrive(found, Source("attr", v.source, name))


def own_names(cls: type) -> set[str]:
    """What a class and its bases define, without those of this package and of Python."""
    return {n for c in cls.__mro__ if not c.__module__.startswith("tinyflow.") and c is not object for n in c.__dict__}


def has_attribute(t: Trace, v: Value, name: str) -> bool:
    if isinstance(v, Known) and v.source is not None and not isinstance(v.raw, SCALARS):
        computed = next((c.__dict__[name] for c in type(v.raw).__mro__ if name in c.__dict__), None)
        if isinstance(computed, property) or "__getattr__" in own_names(type(v.raw)):
            raise Cut(f"asks for .{name}, which the class {type(v.raw).__name__} computes")
        found = hasattr(v.raw, name)
        words = f"{v.source.words} has {'an' if found else 'no'} attribute {name}"
        t.guard(Guard("has", f"hasattr({{0}}, {{a}}) is {found}", (v.source,), (name,), words))
        return found
    if isinstance(v, Tens):
        return hasattr(v.tensor, name)
    raise Cut("asks whether something has an attribute")


# ------------------------------------------------------------------------------------------ items


def get_item(t: Trace, v: Value, key: Value) -> Value:
    if isinstance(v, Tens):
        from tinyflow.jit.calls import call_tensors

        return call_tensors(t, Tensor.__getitem__, [v, key])
    if isinstance(v, Made) and not isinstance(v.raw, Iterated | Viewed):
        found = v.raw[t.concrete(key)]
        return Made(found) if isinstance(key, Known) and isinstance(key.raw, slice) else found
    if isinstance(v, Known) and type(v.raw) in CONTAINERS and v.source is not None:
        return item_there(t, v, t.concrete(key))
    if isinstance(v, Known) and type(v.raw) in (str, bytes, range, tuple, list):
        return Known(t.concrete(v)[t.concrete(key)])
    found = own_method(t, v, "__getitem__", [key])
    if found is None:
        raise Cut("an item of something that only Python knows")
    return found


def own_method(
    t: Trace, v: Value, name: str, args: list[Value], kwargs: dict[str, Value] | None = None
) -> Value | None:
    """What a user's class says of len(v), v[key], iter(v) or v(...); None if it says nothing that can be followed."""
    if (
        not isinstance(v, Known)
        or v.source is None
        or not isinstance(getattr(type(v.raw), name, None), types.FunctionType)
    ):
        return None
    from tinyflow.jit.calls import call

    return call(t, get_attribute(t, v, name), args, kwargs or {})


def item_there(t: Trace, v: Known, k: Any) -> Value:
    """An item of a container that was there before."""
    assert v.source is not None
    t.guard(s.has_type(v.source, type(v.raw)))
    if isinstance(v.raw, list | tuple):
        t.guard(s.has_length(v.source, len(v.raw)))
        if isinstance(k, slice):
            parts = [t.arrive(v.raw[i], Source("item", v.source, i)) for i in range(*k.indices(len(v.raw)))]
            return Made(type(v.raw)(parts))
    if not isinstance(k, SCALARS):
        raise Cut("a key that is no plain value")
    raw = v.raw[k]
    if type(v.raw) in (dict, OrderedDict) and keys_guard(v) not in t.guards:
        t.guard(Guard("contains", "{a} in {0}", (v.source,), (k,), f"{k!r} in {v.source.words}"))
    return t.arrive(raw, Source("item", v.source, k))


def iterate(t: Trace, v: Value) -> list[Value]:
    """What a loop over the value goes through."""
    if isinstance(v, Made):
        return items_made(v.raw)
    if isinstance(v, Tens):
        if not v.tensor._shape or not isinstance(v.tensor._shape[0], int):
            raise Cut("goes through a tensor whose size varies")
        return [t.lift(x) for x in v.tensor.unbind(0)]
    if not isinstance(v, Known):
        raise Cut("goes through something that only Python knows")
    raw, source = v.raw, v.source
    if source is None and type(raw) in (range, tuple, str, bytes):
        if len(raw) > MOST_ITEMS:
            raise Cut(f"goes through {len(raw)} items")
        return [Known(x) for x in raw]
    if source is not None and type(raw) in (list, tuple):
        t.guard(s.has_type(source, type(raw)), s.has_length(source, len(raw)))
        return [t.arrive(x, Source("item", source, k)) for k, x in enumerate(raw)]
    if source is not None and type(raw) in (dict, OrderedDict):
        return [Known(k) for k in keys(t, v)]
    if type(raw) in (str, range, bytes):
        return [Known(x) for x in t.concrete(v)]
    found = own_method(t, v, "__iter__", [])
    if found is None or (isinstance(found, Known) and found.source is not None):
        raise Cut(f"goes through a {type(raw).__name__}")
    return iterate(t, found)


def items_made(raw: Any) -> list[Value]:
    if isinstance(raw, Viewed):
        return raw.again()
    found = [Known(k) for k in raw] if isinstance(raw, dict) else list(raw)
    if isinstance(raw, Iterated):
        raw.clear()
    return found


def keys(t: Trace, v: Known) -> list[Any]:
    found = list(v.raw)
    if not all(isinstance(k, SCALARS) for k in found):
        raise Cut("goes through a dict whose keys are no plain values")
    assert v.source is not None
    t.guard(s.has_type(v.source, type(v.raw)))
    t.guard(keys_guard(v))
    return found


def keys_guard(v: Known) -> Guard:
    assert v.source is not None
    found = tuple(v.raw)
    words = f"the keys of {v.source.words} are {', '.join(map(repr, found))}" if found else f"{v.source.words} is empty"
    return Guard("keys", "tuple({0}) == {a}" if found else "not {0}", (v.source,), (found,), words)


# ------------------------------------------------------------------------------------------ identity


def same_object(t: Trace, a: Value, b: Value) -> bool:
    """a is b. Only what can be told for good: None, True, types, and values that the trace made."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Known) and x.source is None and x.raw is None:
            return is_none(t, y)
    if isinstance(a, Known) and isinstance(b, Known):
        x, y = t.concrete(a), t.concrete(b)
        if type(x) in (int, float, str, bytes, tuple, complex):
            raise Cut("asks whether two equal values are one object")
        return x is y
    if isinstance(a, Made) and isinstance(b, Made):
        return a.raw is b.raw
    if isinstance(a, Tens) and isinstance(b, Tens):
        if a.source is None or b.source is None or a.source == b.source:
            return a.tensor is b.tensor
        found = t.real[a.source] is t.real[b.source]
        words = f"{a.source.words} and {b.source.words} are {'one tensor' if found else 'two tensors'}"
        t.guard(Guard("identity", f"({{0}} is {{1}}) is {found}", (a.source, b.source), (), words))
        return found
    raise Cut("asks whether two things are one object")


def is_none(t: Trace, v: Value) -> bool:
    if isinstance(v, Known) and v.source is not None:
        if v.raw is None:
            t.guard(s.equal(v.source, None))
        else:
            t.guard(Guard("not none", "{0} is not None", (v.source,), (), f"{s.spoken(v.source)} is not None"))
        return v.raw is None
    return isinstance(v, Known) and v.raw is None


__all__ = ["Callable", "get_attribute", "get_item", "has_attribute", "iterate", "keys", "same_object"]
