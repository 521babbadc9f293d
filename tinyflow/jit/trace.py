"""The trace: one function interpreted once, on tensors that stand for any of their kind.

    trace := guards, inputs, dims                what it relied on, what it reads, which sizes are symbolic
    frame := names -> value, function?, parent?  one per call that is followed

It changes nothing outside itself. Changes of tensors that were there before are changes of the symbols that stand for them, and
become the piece's effects (effects.py); any other is a Cut, and stays in the residual program.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinyflow.core.dtypes import FROM_NUMPY, bool_, float64, int64
from tinyflow.core.errors import PACKAGE
from tinyflow.core.expr import Apply, Const, Dim, Expr, Poly, evaluate, fresh_dim
from tinyflow.graph.node import Node
from tinyflow.jit import sources as s
from tinyflow.jit.effects import Call, Entry, Symbol
from tinyflow.jit.piece import Input
from tinyflow.jit.sources import Guard, Source
from tinyflow.jit.values import Cut, Iterated, Known, Live, Made, Sym, Tens, Value, Viewed
from tinyflow.ops.leaf import placeholder
from tinyflow.torch.dtypes import FACE, Defaults
from tinyflow.torch.modes import MODE
from tinyflow.torch.random import Generator, default_generator
from tinyflow.torch.storage import LEAVES, Registry, Storage, recording
from tinyflow.torch.tensor import Tensor, over

MOST_STEPS = 12_000  # expressions evaluated in one trace; a loop that needs more stays a loop
MOST_FRAMES = 40
GRAD, DEFAULT = Source("attr", s.object_(MODE), "grad"), Source("attr", s.object_(Defaults), "dtype")
NUMBERS = (int, float)
NUMBER_TYPES = {bool: bool_, int: int64, float: float64}


class Frame:
    """The names of one call. A name that is not here is its function's closure's, its parent's, or global."""

    def __init__(self, names: dict[str, Any], scope: dict[str, Any], file: str, function: Any = None, source: Source | None = None, parent: Frame | None = None) -> None:  # fmt: skip
        self.names, self.scope, self.file, self.parent = names, scope, file, parent
        self.function, self.source = function, source  # the function whose closure it sees
        code = getattr(function, "__code__", None)
        self.local: frozenset[str] = frozenset(code.co_varnames + code.co_cellvars) if code else frozenset()
        self.free: dict[str, int] = {n: k for k, n in enumerate(code.co_freevars)} if code else {}
        self.top = False  # the frame that is cut, not one that was followed
        self.outer: dict[str, Frame] = {}  # nonlocal names: the frames that hold them
        self.foreign: set[str] = set()  # names that live outside the trace


class Trace:
    """What one interpretation finds out."""

    def __init__(self, dynamic: Any = (), volatile: Any = (), all_dynamic: bool = False) -> None:
        self.dynamic, self.volatile, self.all_dynamic = dynamic, volatile, all_dynamic
        self.guards: dict[Guard, None] = {}
        self.inputs: list[Input] = []
        self.tensors: dict[Source, Tens] = {}
        self.made: dict[int, Tens] = {}
        self.real: dict[Source, Tensor] = {}
        self.scalars: dict[Any, Node] = {}
        self.dims: dict[Expr, Source] = {}
        self.hints: dict[Expr, int] = {}
        self.steps = 0
        self.file, self.line = "", 0
        self.arrived: dict[int, Source] = {}  # tensor -> where it was met first
        self.storages: dict[int, int] = {}  # storage -> number of its input
        self.leaves: list[tuple[Symbol, Source]] = []  # those that take gradients
        self.written: set[Node] = set()
        self.entries: list[Entry] = []
        self.calls: list[Call] = []
        self.depth = 0
        self.guard(
            Guard("mode", "{0} is {a}", (GRAD,), (MODE.grad,), f"grad mode is {'on' if MODE.grad else 'off'}"),
            Guard("mode", "{0} is {a}", (DEFAULT,), (Defaults.dtype,), f"the default dtype is {Defaults.dtype}"),
        )

    # ------------------------------------------------------------------------------ what was there before

    def guard(self, *guards: Guard) -> None:
        for g in guards:
            self.guards.setdefault(g)

    def arrive(self, raw: Any, source: Source) -> Value:
        """The value of an object that was there before."""
        if isinstance(raw, Tensor):
            return self.tensor(raw, source)
        kind = type(raw)
        if kind in NUMBERS and (
            self.is_volatile(source) or source in self.dynamic or (self.all_dynamic and source.kind == "argument")
        ):
            self.guard(
                Guard(
                    "type",
                    "type({0}) is {a}",
                    (source,),
                    (kind,),
                    f"{s.spoken(source)} is {'an' if kind is int else 'a'} {kind.__name__}",
                )
            )
            return Sym(source, raw, self.is_volatile(source))
        return Known(raw, source)

    def is_volatile(self, source: Source) -> bool:
        return source.kind == "local" and source.key in self.volatile

    def tensor(self, t: Tensor, source: Source) -> Tens:
        if source in self.tensors:
            return self.tensors[source]
        if not type(t).__module__.startswith("tinyflow.torch"):
            raise Cut(f"{source.words} is a {type(t).__name__}, a class of tensors of its own")
        known = self.arrived.get(id(t))
        if known is not None:
            self.guard(Guard("identity", "{0} is {1}", (source, known), (), f"{source.words} is {known.words}"))
            self.tensors[source] = self.tensors[known]
            return self.tensors[source]
        self.guard(*tensor_guards(t, source))
        found = self.tensors[source] = Tens(self.symbol(t, source), source, type(t))
        self.arrived[id(t)], self.real[source] = source, t
        self.made[id(found.tensor)] = found
        return found

    def symbol(self, t: Tensor, source: Source) -> Tensor:
        """What stands for a tensor: one over the same storage as those that stand for others of its storage."""
        storage = t._storage
        owner = storage.grad_leaf and LEAVES.get(storage.leaf) is t  # type: ignore[arg-type]
        number = self.storages.get(id(storage))
        if number is None:
            shape = self.shape(t, source)
            node = placeholder(storage.node.dtype, shape, source.words)
            own = Storage(node, storage.attached)
            if storage.grad_leaf:
                own.leaf, own.home, own.grad_leaf, own.pending = node, None, True, False
            number = self.storages[id(storage)] = len(self.inputs)
            self.inputs.append(Input("tensor", source, node, over(own, shape)))
        else:
            own, other = self.inputs[number].symbol._storage, self.inputs[number].source
            words = f"{source.words} is over the memory of {other.words}"
            self.guard(Guard("one memory", "{0}._storage is {1}._storage", (source, other), (), words))
            shape = own.node.shape
            if t._view is not None:
                self.guard(view_guard(t, source))
        symbol = over(own, shape if t._view is None else t._shape, cls=Symbol if owner else Tensor)
        symbol._view, symbol._detached, symbol._fn = t._view, t._detached, t._fn
        if owner:
            symbol.waits(lambda: self.gradient(t, source))
            LEAVES[own.leaf] = symbol  # type: ignore[index]
            self.leaves.append((symbol, source))
        return symbol

    def gradient(self, t: Tensor, source: Source) -> Tensor | None:
        """The .grad that a leaf had before."""
        place = Source("attr", source, "grad")
        if t._grad is None:
            self.guard(s.equal(place, None))
            return None
        return self.tensor(t._grad, place).tensor

    def array(self, a: np.ndarray, source: Source, shared: bool) -> Tens:
        """The tensor of an array that was there before: over its memory, or a copy."""
        key = Source("array", source, shared)
        if key in self.tensors:
            return self.tensors[key]
        if type(a) is not np.ndarray or a.dtype not in FROM_NUMPY or not a.flags.c_contiguous:
            raise Cut(f"makes a tensor of {source.words}, which is not a dense array of numbers")
        template = "type({0}) is {a} and {0}.dtype is {b} and {0}.flags.c_contiguous and {0}.ndim == {c}"
        words = f"{s.spoken(source)} is a dense array of {a.dtype}, {a.ndim} dims"
        self.guard(Guard("array", template, (source,), (np.ndarray, a.dtype, a.ndim), words))
        shape = self.sizes(a.shape, source, "extent")
        node = placeholder(FROM_NUMPY[a.dtype], shape, source.words)
        symbol = over(Storage(node), shape)
        self.inputs.append(Input("array", source, node, symbol, shared))
        found = self.tensors[key] = Tens(symbol)
        self.made[id(symbol)] = found
        return found

    def shape(self, t: Tensor, source: Source) -> tuple[Any, ...]:
        """The shape of the storage of an input."""
        if t._view is not None:
            self.guard(view_guard(t, source))
            return t._storage.node.shape
        return self.sizes(t._shape, source, "size")

    def sizes(self, given: Sequence[Any], source: Source, kind: str) -> tuple[Any, ...]:
        """The sizes of an input; those that varied are symbols, equal ones the same one."""
        shape: list[Any] = []
        for d, n in enumerate(given):
            size = Source(kind, source, d)
            if n > 1 and (size in self.dynamic or self.all_dynamic):
                shape.append(self.dimension(size, n))
            else:
                shape.append(n)
                self.guard(Guard("size", "{0} == {a}", (size,), (n,), f"{size.words} == {n}"))
        return tuple(shape)

    def dimension(self, size: Source, n: int) -> Expr:
        for dim, hint in self.hints.items():
            if hint == n:
                other = self.dims[dim]
                self.guard(Guard("same size", "{0} == {1}", (size, other), (), f"{size.words} == {other.words}"))
                return dim
        dim = fresh_dim("n")
        self.hints[dim], self.dims[dim] = n, size
        self.guard(Guard("least", "{0} >= 2", (size,), (), f"{size.words} >= 2"))
        return dim

    # ------------------------------------------------------------------------------ numbers

    def concrete(self, v: Value) -> Any:
        """The Python object itself; the trace relies on it from here on."""
        if isinstance(v, Known):
            if v.source is not None:
                self.rely(v.raw, v.source)
            return v.raw
        if isinstance(v, Sym):
            if v.volatile:
                raise Cut(f"the value of {s.words_of(v.expression)} is known only when the program runs")
            self.guard(s.equal(v.expression, v.raw))
            return v.raw
        if isinstance(v, Made):
            if isinstance(v.raw, Iterated | Viewed):
                raise Cut("hands on an iterator")
            if isinstance(v.raw, dict):
                return {k: self.concrete(x) for k, x in v.raw.items()}
            parts = [self.concrete(x) for x in v.raw]
            return type(v.raw)(*parts) if hasattr(v.raw, "_fields") else type(v.raw)(parts)
        if isinstance(v, Tens):
            raise Cut("looks at a tensor's value")
        raise Cut("a function made here is used as a value")

    def rely(self, raw: Any, source: Source) -> None:
        if raw is None or type(raw) in SCALARS:
            self.guard(s.equal(source, raw))
        elif isinstance(raw, tuple) and all(type(x) in SCALARS for x in raw):
            self.guard(Guard("equal tuple", "type({0}) is {b} and tuple(map(type, {0})) == {c} and {0} == {a}", (source,), (raw, type(raw), tuple(map(type, raw))), f"{s.spoken(source)} is {raw!r}"))  # fmt: skip
        elif callable(raw) or isinstance(raw, IDENTITY):
            self.guard(s.same(source, raw))
        else:
            raise Cut(f"{source.words} is a {type(raw).__name__}, which only Python knows to use")

    def scalar(self, v: Sym) -> Node:
        """The 0-d node that a varying number is fed as."""
        key = v.expression
        if key not in self.scalars:
            dtype = NUMBER_TYPES[type(v.raw)]
            self.scalars[key] = placeholder(dtype, (), s.words_of(key))
            self.inputs.append(Input("scalar", key, self.scalars[key]))
        return self.scalars[key]

    def size_value(self, d: Any) -> Value:
        """A size of a tensor: a number, or a symbol."""
        return Known(d) if isinstance(d, int) else Sym(self.size_expression(d), self.size_hint(d), dim=d)

    def size_hint(self, d: Expr) -> int:
        return evaluate(d, self.hints)

    def size_expression(self, d: Any) -> Any:
        if isinstance(d, int):
            return ("const", d)
        if isinstance(d, Const):
            return ("const", int(d.value))
        if isinstance(d, Dim) and d in self.dims:
            return self.dims[d]
        if isinstance(d, Poly):
            total: Any = None
            for monomial, c in d.terms:
                term: Any = ("const", c)
                for atom in monomial:
                    term = (
                        ("op", "*", term, self.size_expression(atom))
                        if term != ("const", 1)
                        else self.size_expression(atom)
                    )
                total = term if total is None else ("op", "+", total, term)
            return total
        if isinstance(d, Apply) and d.fn in INDEX_SIGNS:
            return ("op", INDEX_SIGNS[d.fn], *map(self.size_expression, d.args))
        raise Cut("a size that is not a simple expression of the inputs' sizes")

    # ------------------------------------------------------------------------------ what is recorded

    def lift(self, result: Any) -> Value:
        """What an op gave, as a value."""
        if isinstance(result, Tensor):
            if id(result) not in self.made:
                self.made[id(result)] = Tens(result)
            return self.made[id(result)]
        if isinstance(result, Expr):
            return self.size_value(result)
        if isinstance(result, tuple | list):
            parts = [self.lift(x) for x in result]
            return Made(tuple(parts) if type(result).__name__ == "Size" else type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts))  # fmt: skip
        if isinstance(result, dict):
            return Made({k: self.lift(x) for k, x in result.items()})
        return Known(result)

    def step(self, f: Frame, node: Any) -> None:
        self.steps += 1
        if not f.file.startswith(PACKAGE):  # the user's line, not that of a layer's forward
            self.file, self.line = f.file, getattr(node, "lineno", self.line)
        if self.steps > MOST_STEPS:
            raise Cut("takes too many steps to write out")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Tensors made inside belong to the trace; the grad mode and the generator are put back at the end."""
        grad, key, drawn = MODE.grad, Generator.key, (default_generator._seed, default_generator._count)
        Generator.key = self.key  # type: ignore[method-assign, assignment]
        try:
            with recording(looked_at) as registry:
                registry.limit = 1 << 40
                yield
        finally:
            Generator.key = key  # type: ignore[method-assign]
            MODE.grad = grad
            default_generator._seed, default_generator._count = drawn

    def key(self, generator: Generator | None = None) -> Node:
        """The key of a random draw: an input of the piece."""
        if generator not in (None, default_generator):
            raise Cut("draws from a generator of its own")
        node = placeholder(int64, (), "key")
        self.inputs.append(Input("draw", None, node))
        return node


def looked_at(registry: Registry) -> None:
    raise Cut("looks at a tensor's value")


SCALARS = (int, float, bool, str, bytes, complex, type(None), type(Ellipsis))
IDENTITY = (type, enum.Enum, types.ModuleType, type(FACE[int64]), type(Defaults.dtype))
INDEX_SIGNS = {"idiv": "//", "imod": "%"}


def view_guard(t: Tensor, source: Source) -> Guard:
    return Guard("view", "{0}._view == {a} and {0}._storage.node.shape == {b}", (source,), (t._view, t._storage.node.shape), f"{source.words} is a view of shape {tuple(t._shape)}")  # fmt: skip


def tensor_guards(t: Tensor, source: Source) -> list[Guard]:
    dtype, wants = t._storage.node.dtype, t.requires_grad
    dims = "0 dims" if t.ndim == 0 else "1 dim" if t.ndim == 1 else f"{t.ndim} dims"
    view = "" if t._view is not None else " and {0}._view is None"
    template = "type({0}) is {a} and {1}.node.dtype is {b} and len({0}._shape) == {c}" + view
    words = f"{s.spoken(source)} is a {dtype} tensor of {dims}"
    both = source, Source("attr", source, "_storage")
    first = Guard("tensor", template, both, (type(t), dtype, t.ndim), words)
    attached, detached, leaf = t._storage.attached, t._detached, t._storage.grad_leaf
    if not dtype.is_floating:
        return [first]
    verb = "requires gradients" if wants else "does not require gradients"
    flags = f"{{1}}.attached is {attached} and {{0}}._detached is {detached} and {{1}}.grad_leaf is {leaf}"
    return [first, Guard("history", flags, both, (), f"{source.words} {verb}")]


__all__ = ["Callable", "Frame", "Live", "Sequence", "Trace"]
