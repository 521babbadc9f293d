"""What a trace computes with.

    value := Known(raw, source?)              a Python object: a constant, or one that was there before
           | Live(raw, source)                the same, not looked at yet
           | Sym(expression, raw)             a number that differs from call to call; raw is this call's
           | Tens(tensor, source?)            a tensor of the piece being recorded
           | Made(raw container of values)    a tuple, list, dict or set that the trace itself made
           | Closure(syntax, frame)           a function that the trace itself made
           | Method(function, self) | Partial(function, arguments)

A Known with a source is not guarded until the trace looks at it; and then only as far as it looks.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from tinyflow.jit.sources import Expression, Source


class Cut(Exception):
    """Something that cannot be part of a piece. `at`: the expression of the outermost function; `value`: its value is
    known to the piece, but Python wants to see it; `followed`: it is a call into user code that was cut inside."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line
        self.at: ast.AST | None = None
        self.value = self.followed = False


class Value:
    __slots__ = ()


class Known(Value):
    __slots__ = ("raw", "source")

    def __init__(self, raw: Any, source: Source | None = None) -> None:
        self.raw, self.source = raw, source


class Live(Value):
    """A local that was there before, not looked at yet."""

    __slots__ = ("raw", "source")

    def __init__(self, raw: Any, source: Source) -> None:
        self.raw, self.source = raw, source


class Sym(Value):
    """`volatile`: comes out of plain code, so that a guard on it would fail each time; `dim`: the same, as a dimension."""

    __slots__ = ("dim", "expression", "raw", "volatile")

    def __init__(self, expression: Expression, raw: Any, volatile: bool = False, dim: Any = None) -> None:
        self.expression, self.raw, self.volatile, self.dim = expression, raw, volatile, dim


class Tens(Value):
    __slots__ = ("cls", "source", "tensor")

    def __init__(self, tensor: Any, source: Source | None = None, cls: type | None = None) -> None:
        self.tensor, self.source, self.cls = tensor, source, cls or type(tensor)


class Made(Value):
    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw = raw


class Iterated(list[Any]):
    """What an iterator has left: zip, map, enumerate, a generator expression. Going through it empties it."""


class Viewed:
    """The keys, values or items of a dict: looked up when they are gone through."""

    __slots__ = ("again",)

    def __init__(self, again: Callable[[], list[Value]]) -> None:
        self.again = again


class Closure(Value):
    __slots__ = ("defaults", "frame", "kw_defaults", "syntax")

    def __init__(self, syntax: Any, frame: Any, defaults: list[Value], kw_defaults: list[Value | None]) -> None:
        self.syntax, self.frame, self.defaults, self.kw_defaults = syntax, frame, defaults, kw_defaults


class Method(Value):
    __slots__ = ("function", "name", "self")

    def __init__(self, function: Any, self_: Value, name: str = "") -> None:
        self.function, self.self, self.name = function, self_, name


class Partial(Value):
    """functools.partial of a function, made in the trace."""

    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Value, args: list[Value], kwargs: dict[str, Value]) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs


NONE = Known(None)
