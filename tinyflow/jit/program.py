"""The residual program: what is left of a function when its pieces are taken out.

    program := parameters, block
    block   := step*
    step    := Call(region) | Plain(statement) | Compound(statement, block*)

A region is called where its statements stood. A program is Python that a user can read, and it is what runs.
"""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tinyflow.jit import syntax as x


class Step:
    """One step. `text` gives the statements that it is in the program."""

    def statements(self, named: dict[int, str]) -> list[ast.stmt]:
        raise NotImplementedError

    def regions(self) -> Iterable[Any]:
        return ()


class Call(Step):
    """Statements that became a piece (or that nobody has looked at yet)."""

    def __init__(self, region: Any) -> None:
        self.region = region

    def statements(self, named: dict[int, str]) -> list[ast.stmt]:
        r = self.region
        like = r.stmts[0]
        call: ast.expr = ast.Call(x.load(named[id(r)], like), [x.load(p, like) for p in r.parameters], [])
        made: ast.stmt
        if r.outs is None:
            made = ast.Return(call)
        elif not r.outs:
            made = ast.Expr(call)
        else:
            targets: list[ast.expr] = [x.store(o, like) for o in r.outs]
            made = ast.Assign([targets[0] if len(targets) == 1 else ast.Tuple(targets, ast.Store())], call)
        return [ast.fix_missing_locations(ast.copy_location(made, like))]

    def regions(self) -> Iterable[Any]:
        return (self.region,)


class Plain(Step):
    def __init__(self, statement: ast.stmt) -> None:
        self.statement = statement

    def statements(self, named: dict[int, str]) -> list[ast.stmt]:
        return [self.statement]


class Compound(Step):
    """An if, loop, with or try whose inner blocks hold steps. `blocks`: (which field, which handler or case) -> block."""

    def __init__(self, statement: Any, blocks: dict[tuple[str, int], Block]) -> None:
        self.statement, self.blocks = statement, blocks

    def statements(self, named: dict[int, str]) -> list[ast.stmt]:
        new = copy.copy(self.statement)
        for name in ("handlers", "cases"):
            if hasattr(new, name):
                setattr(new, name, [copy.copy(h) for h in getattr(new, name)])
        for (field, k), block in self.blocks.items():
            holder = new if k < 0 else getattr(new, "handlers", None) or new.cases
            target = holder if k < 0 else holder[k]
            setattr(target, field, block.statements(named) or [ast.copy_location(ast.Pass(), self.statement)])
        return [ast.copy_location(new, self.statement)]

    def regions(self) -> Iterable[Any]:
        for block in self.blocks.values():
            yield from block.regions()


class Block:
    changes = 0  # in all blocks: programs made before the last one are made anew

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        for s in self.steps:
            if isinstance(s, Call):
                s.region.home = self

    def statements(self, named: dict[int, str]) -> list[ast.stmt]:
        return [made for s in self.steps for made in s.statements(named)]

    def regions(self) -> Iterable[Any]:
        for s in self.steps:
            yield from s.regions()

    def replace(self, region: Any, steps: Sequence[Step]) -> None:
        """Other steps in the place of a region's call."""
        at = next(k for k, s in enumerate(self.steps) if isinstance(s, Call) and s.region is region)
        self.steps[at : at + 1] = steps
        Block.changes += 1
        for s in steps:
            if isinstance(s, Call):
                s.region.home = self


class Program:
    """Python text with calls of pieces in it, and the function that it is."""

    def __init__(self, owner: Any, block: Block, parameters: Sequence[str], outs: Sequence[str] | None, whole: bool = False) -> None:  # fmt: skip
        self.owner, self.block, self.parameters, self.outs, self.whole = owner, block, list(parameters), outs, whole
        self.changes, self.run = -1, None

    def run_now(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the program as it is now; it is made anew when steps have changed."""
        if self.changes != Block.changes:
            self.changes, self.run = Block.changes, self.function()
        return self.run(*args, **kwargs)  # type: ignore[misc]

    def names(self) -> dict[int, str]:
        """The regions' names in this program, in order."""
        return {id(r): f"{self.owner.prefix}{k}" for k, r in enumerate(dict.fromkeys(self.block.regions()), 1)}

    def syntax(self) -> ast.FunctionDef:
        original = self.owner.syntax
        body = self.block.statements(self.names())
        if not self.whole and self.outs:
            body.append(ast.parse(f"return {', '.join(self.outs)}").body[0])
        body += unbound(body, self.owner.locals - set(self.owner.arguments if self.whole else self.parameters))
        outside = declarations(original)
        body = [*outside, *(s for s in body if not isinstance(s, ast.Global | ast.Nonlocal))]
        arguments = bare(original.args) if self.whole else x.arguments(self.parameters)
        made = ast.FunctionDef(original.name, arguments, body or [ast.Pass()], [], None)
        if hasattr(made, "type_params"):
            made.type_params = []
        return ast.fix_missing_locations(ast.copy_location(made, original))

    def text(self) -> str:
        return ast.unparse(self.syntax())

    def function(self) -> Callable[..., Any]:
        named = self.names()
        bound = {named[id(r)]: r for r in self.block.regions()} | {self.owner.wrapper: self.owner.follow}
        made = function_of(self.syntax(), self.owner.function, bound)
        if self.whole:
            made.__defaults__, made.__kwdefaults__ = (
                self.owner.function.__defaults__,
                self.owner.function.__kwdefaults__,
            )
        return made


def unbound(body: Sequence[ast.stmt], names: set[str]) -> list[ast.stmt]:
    """A program that looks at a name which only its pieces, or other parts of the function, bind must not find a global one."""
    missing = sorted((x.read_names(body) & names) - x.assigned_names(body))
    return [ast.parse(f"if False: {name} = None").body[0] for name in missing]


def declarations(original: Any) -> list[ast.stmt]:
    """The function's global and nonlocal names, said once at its head."""
    found = {
        (type(n), name) for n in x.here(original.body) if isinstance(n, ast.Global | ast.Nonlocal) for name in n.names
    }
    return [kind([name]) for kind, name in sorted(found, key=str)]


def bare(a: ast.arguments) -> ast.arguments:
    """The same parameters without annotations; which of them have defaults is said by the function itself."""
    return ast.arguments(
        [ast.arg(p.arg) for p in a.posonlyargs],
        [ast.arg(p.arg) for p in a.args],
        a.vararg and ast.arg(a.vararg.arg),
        [ast.arg(p.arg) for p in a.kwonlyargs],
        [None for _ in a.kwonlyargs],
        a.kwarg and ast.arg(a.kwarg.arg),
        [],
    )


def function_of(node: ast.FunctionDef, like: Any, bound: dict[str, Any]) -> types.FunctionType:
    """The function of a syntax tree: it sees the globals and closure of another, and some names bound for it."""
    cells = dict(zip(like.__code__.co_freevars, like.__closure__ or (), strict=True))
    cells |= {name: types.CellType(o) for name, o in bound.items()}
    code = x.function_code(node, list(cells), like.__code__.co_filename)
    made = types.FunctionType(code, like.__globals__, like.__name__, None, tuple(cells[n] for n in code.co_freevars))
    made.__qualname__ = like.__qualname__
    return made
