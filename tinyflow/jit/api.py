"""compile: a function or module as a program of pieces; explain: what became of it.

compiled := function, program, child*        a child is the compiled form of a function that it calls and that was cut
"""

from __future__ import annotations

import ast
import functools
import sys
import types
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from tinyflow.jit import explain as explaining
from tinyflow.jit import syntax as x
from tinyflow.jit.plan import Names, Planner
from tinyflow.jit.program import Block, Program
from tinyflow.jit.region import Region, Variant
from tinyflow.torch.nn.module import Module

MOST_CHILDREN = 32
LOOKS_AT_LOCALS = {"locals", "eval", "exec", "vars", "dir"}


class Compiled:
    """A function that runs as pieces with Python between them. It does what the function does."""

    is_compiled_function = True

    def __init__(
        self, function: Any, fullgraph: bool = False, dynamic: bool | None = None, parent: Compiled | None = None
    ) -> None:
        self.function, self.fullgraph, self.dynamic = function, fullgraph, dynamic
        functools.update_wrapper(self, function)
        self.compilations = 0
        self.cuts: dict[tuple[int, str], None] = {}
        self.notes: dict[tuple[int, str], None] = {}
        self.children: WeakKeyDictionary[Any, Compiled] = WeakKeyDictionary()
        self.followed: list[Compiled] = []
        self.reason = ""
        self.program: Program | None = None
        self.prepare()

    def prepare(self) -> None:
        """The program of a function that nobody has traced yet: one region."""
        f = self.function
        try:
            if not isinstance(f, types.FunctionType):
                raise x.NoSource("is not a Python function")
            tree = x.syntax_of(f.__code__)
            looks = sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} & LOOKS_AT_LOCALS)
            if looks:
                raise x.NoSource(f"calls {looks[0]}, which looks at local names")
        except x.NoSource as e:
            self.reason = f"{getattr(f, '__name__', f)} {e}: it runs as plain Python"
            return
        self.syntax = as_function(tree)
        self.arguments = frozenset(x.parameters(self.syntax))
        self.declared = x.declared(self.syntax.body)
        self.locals = set((self.arguments | x.assigned_names(self.syntax.body)) - self.declared)
        self.captured = x.captured_names(self.syntax.body)
        self.rebound = x.assigned_inside(self.syntax.body)
        self.outside = x.outside_names(self.syntax.body)
        self.stable = x.stable_names(self.arguments, self.syntax.body)
        self.volatile: set[str] = set()
        self.temporaries: frozenset[str] = frozenset()
        used = (
            {n.id for n in ast.walk(self.syntax) if isinstance(n, ast.Name)} | self.locals | set(f.__code__.co_freevars)
        )
        self.used = used
        self.prefix = "piece_" if not any(n.startswith("piece_") for n in used) else "piece_of_" + f.__name__ + "_"
        self.wrapper = "compiled" if "compiled" not in used else "compiled_function"
        start = Names(self.arguments, self.arguments)
        steps = Planner(self, Region).returning(self.syntax.body, start)
        self.program = Program(self, Block(steps), [], None, whole=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.program is None:
            return self.function(*args, **kwargs)
        return self.program.run_now(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<compiled {self.function!r}>"

    # ------------------------------------------------------------------------------ what its regions tell it

    def temporary(self, node: ast.AST) -> str:
        """A new local name for the value of an expression."""
        name = next(n for k in range(1, sys.maxsize) if (n := f"t{k}") not in self.used)
        self.used.add(name)
        self.locals.add(name)
        self.temporaries |= {name}
        self.meanings = {**getattr(self, "meanings", {}), name: ast.unparse(node)}
        return name

    def cut_at(self, line: int, reason: str) -> None:
        if self.fullgraph:
            raise CutError(
                f"{self.function.__qualname__} was to be one piece (fullgraph=True), but line {line} {reason}. "
                "Take that out of the function, or compile it without fullgraph."
            )
        self.cuts[line, reason] = None

    def note(self, line: int, text: str) -> None:
        self.notes[line, text] = None

    def follow(self, f: Any) -> Callable[..., Any]:
        """The compiled form of a function that was cut inside, for the residual program; anything else as it is."""
        if isinstance(f, types.MethodType) and isinstance(f.__func__, types.FunctionType):
            return functools.partial(self.child(f.__func__), f.__self__)
        if isinstance(f, types.FunctionType):
            return self.child(f)
        method = next((c.__dict__["__call__"] for c in type(f).__mro__ if "__call__" in c.__dict__), None)
        if isinstance(method, types.FunctionType):
            return functools.partial(self.child(method), f)
        return f  # type: ignore[no-any-return]

    def child(self, f: Any) -> Any:
        if f not in self.children:
            if len(self.children) >= MOST_CHILDREN:
                return f
            self.children[f] = made = Compiled(f, self.fullgraph, self.dynamic)
            self.followed.append(made)
        return self.children[f]

    # ------------------------------------------------------------------------------ what is known of it

    def regions(self) -> list[Region]:
        """Every region that was traced, those of variants' own programs included."""
        found: dict[int, Region] = {}
        waiting = list(self.program.block.regions()) if self.program else []
        while waiting:
            r = waiting.pop(0)
            if id(r) not in found:
                found[id(r)] = r
                waiting += [inner for v in r.variants if v.program is not None for inner in v.program.block.regions()]
        return list(found.values())

    @property
    def variants(self) -> list[Variant]:
        """Every version of every piece, those of functions that were followed included."""
        own = [v for r in self.regions() for v in r.variants if v.piece is not None]
        return own + [v for c in self.followed for v in c.variants]

    def explain(self) -> str:
        """Guards in words, pieces, where the function was cut and why, and the residual program."""
        return explaining.explain(self)


class CutError(RuntimeError):
    """A function that was to be one piece is not."""


def as_function(tree: Any) -> ast.FunctionDef:
    """A lambda as a function that returns."""
    if not isinstance(tree, ast.Lambda):
        return tree  # type: ignore[no-any-return]
    made = ast.FunctionDef("lambda_", tree.args, [ast.copy_location(ast.Return(tree.body), tree.body)], [], None)
    if hasattr(made, "type_params"):
        made.type_params = []
    return ast.fix_missing_locations(ast.copy_location(made, tree))


def compile(
    fn: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = None,
    mode: str | None = None,
    options: Any = None,
    disable: bool = False,
) -> Any:
    """A function or module that does the same, traced once and run as compiled pieces.

    fullgraph: a function that would not be one piece is an error. dynamic: True makes numbers and sizes symbolic from the first
    call on, False never; by default they become so when they vary. backend, mode and options are taken, and change nothing.
    """
    if fn is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, disable=disable)
    if disable or isinstance(fn, Compiled) or getattr(type(fn), "is_compiled_module", False):
        return fn
    if isinstance(fn, Module):
        return compiled_module(fn, fullgraph, dynamic)
    if isinstance(fn, types.MethodType) and isinstance(fn.__func__, types.FunctionType):
        return types.MethodType(Compiled(fn.__func__, fullgraph, dynamic), fn.__self__)
    return Compiled(fn, fullgraph, dynamic)


def compiled_module(module: Module, fullgraph: bool, dynamic: bool | None) -> Any:
    """The same module (it shares all that the given one holds, names included), whose forward is compiled."""
    cls = type(module)
    forward = Compiled(cls.forward, fullgraph, dynamic)
    body = {
        "forward": forward,
        "is_compiled_module": True,
        "explain": lambda self: forward.explain(),
        "variants": property(lambda self: forward.variants),
        "compilations": property(lambda self: forward.compilations),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__reduce_ex__": lambda self, protocol: (made_anew, *plain_module(self, cls).__reduce_ex__(protocol)[1:]),
    }
    made = object.__new__(type(cls.__name__, (cls,), body))
    object.__setattr__(made, "__dict__", module.__dict__)
    return made


def made_anew(cls: type, *args: Any) -> Any:
    """An object of a class, before its state is put in: what a pickle of a compiled module asks for."""
    return cls.__new__(cls, *args)


def plain_module(module: Any, cls: type) -> Any:
    made = object.__new__(cls)
    object.__setattr__(made, "__dict__", module.__dict__)
    return made


def explain(compiled: Any) -> str:
    """What became of a compiled function or module."""
    return compiled.explain()  # type: ignore[no-any-return]
