"""What a trace records: functions of the tensor face, called with tensors that stand for any of their kind."""

from __future__ import annotations

from typing import Any

from tinyflow.jit.attributes import iterate
from tinyflow.jit.effects import check_writes
from tinyflow.jit.lines import on_line
from tinyflow.jit.trace import SCALARS, Trace
from tinyflow.jit.values import Cut, Known, Made, Sym, Tens, Value
from tinyflow.ops.elementwise import cast
from tinyflow.torch import functions as face
from tinyflow.torch.pointwise import result_type
from tinyflow.torch.random import default_generator
from tinyflow.torch.tensor import Tensor, dtype_of, use


def call_tensors(t: Trace, function: Any, args: list[Value], kwargs: dict[str, Value] | None = None) -> Value:
    """A function of the tensor face (or its name), recorded as the user's line."""
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
    result = on_line(t.file, t.line)(raw, plain, named) if t.file else raw(*plain, **named)
    if (default_generator._seed, default_generator._count) != drawn:
        raise Cut("draws random numbers in a way of its own")
    check_writes(t)
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
        or (type(raw).__name__ in ALLOWED and type(raw).__module__.startswith("tinyflow."))
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
