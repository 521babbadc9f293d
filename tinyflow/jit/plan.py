"""Planning: steps for statements that nobody has traced yet. The longest runs that may be regions become so.

A region's names reach the function around it when the region has ended. So a statement stands by itself where somebody might
look before: where an error may be caught, and where it binds a name that functions inside see.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinyflow.jit import syntax as x
from tinyflow.jit.program import Block, Call, Compound, Plain, Step

FIELDS: dict[type, tuple[str, ...]] = {
    ast.If: ("body", "orelse"),
    ast.For: ("body", "orelse"),
    ast.While: ("body", "orelse"),
    ast.With: ("body",),
    ast.Try: ("body", "orelse", "finalbody"),
}
LOOPS = (ast.For, ast.While)


class Names(NamedTuple):
    """Which names certainly have values, and which may have (None: any)."""

    bound: frozenset[str]
    possible: frozenset[str] | None

    def after(self, stmts: Sequence[ast.stmt]) -> Names:
        return Names(
            x.bound_after(stmts, self.bound), None if self.possible is None else self.possible | x.assigned_names(stmts)
        )

    def with_(self, names: set[str]) -> Names:
        return Names(self.bound | names, None if self.possible is None else self.possible | names)

    def anywhere(self) -> Names:
        return Names(self.bound, None)


class Planner:
    """`region` makes a region of statements, parameters, outs (None: it returns), and the names at its start."""

    def __init__(self, owner: Any, region: Callable[..., Any]) -> None:
        self.owner, self.region = owner, region

    def steps(
        self, stmts: Sequence[ast.stmt], names: Names, needed: Any, tail: bool, caught: bool = False
    ) -> list[Step]:
        """`needed`: names looked at later; `tail`: the function ends where the statements end; `caught`: an error may be caught
        outside."""
        stmts = [part for st in stmts for part in self.computed_first(st)]
        alone = [caught or self.is_shared(st) or self.is_bare(st) for st in stmts]
        returns = bool(stmts) and (tail or isinstance(stmts[-1], ast.Return))
        if returns and not any(alone) and not any(map(jumps, stmts)):
            return self.returning(stmts, names)
        steps: list[Step] = []
        waiting: list[ast.stmt] = []
        for k, st in enumerate(stmts):
            if not alone[k] and not x.leaves_block(st):
                waiting.append(st)
                continue
            steps += self.run(waiting, names, x.read_names(stmts[k:]) | needed)
            names = names.after(waiting)
            waiting = []
            steps += self.single(st, names, x.read_names(stmts[k + 1 :]) | needed, caught)
            names = names.after([st])
        return steps + (self.returning(waiting, names) if tail and waiting else self.run(waiting, names, needed))

    def computed_first(self, st: ast.stmt) -> list[ast.stmt]:
        """Where a name of a function around is bound, which is for the function's own frame: temporary = value; names = temporary."""
        if not isinstance(st, ast.Assign) or not x.assigned_names([st]) & self.owner.outside or is_trivial([st]):
            return [st]
        name = self.owner.temporary(st.value)
        first = ast.copy_location(ast.Assign([x.store(name, st.value)], st.value), st)
        then = ast.copy_location(ast.Assign(st.targets, x.load(name, st.value)), st)
        return [ast.fix_missing_locations(first), ast.fix_missing_locations(then)]

    def is_shared(self, st: ast.stmt) -> bool:
        """Whether a statement binds a name that functions inside look at."""
        return bool(x.assigned_names([st]) & self.owner.captured & self.owner.locals)

    def is_bare(self, st: ast.stmt) -> bool:
        """Whether a statement must run in the function's own frame: functions inside bind a name that it mentions, or it makes a
        function that sees names which are bound anew elsewhere."""
        mentioned = x.read_names([st]) | x.assigned_names([st])
        inner = x.captured_names([st]) & self.owner.locals
        outside = x.assigned_names([st]) & self.owner.outside
        return bool(outside | (mentioned & self.owner.rebound)) or not inner <= self.owner.stable

    def single(self, st: ast.stmt, names: Names, needed: Any, caught: bool) -> list[Step]:
        """One statement by itself."""
        if isinstance(st, tuple(FIELDS)):
            return [self.compound(st, names, needed, False, caught)]
        if isinstance(st, ast.Return) and not self.is_bare(st):
            return self.returning([st], names)
        return [Plain(st)] if x.leaves_block(st) or self.is_bare(st) else self.run([st], names, needed)

    def returning(self, stmts: Sequence[ast.stmt], names: Names) -> list[Step]:
        """Statements after which the function has returned."""
        reads = self.reads(stmts, names)
        if is_trivial(stmts) or reads is None:
            return [Plain(st) for st in stmts]
        return [Call(self.region(self.owner, stmts, reads, None, names))]

    def run(self, stmts: Sequence[ast.stmt], names: Names, needed: Any) -> list[Step]:
        """Statements that end where they end."""
        if not stmts:
            return []
        certain = x.bound_after(stmts, frozenset())
        own = (x.assigned_names(stmts) | x.assigned_inside(stmts)) & self.owner.locals
        outs = sorted(o for o in own if o in needed or o in self.owner.captured)
        perhaps = [o for o in outs if o not in certain and "*" not in certain]  # they may stay as they were
        reads = self.reads(stmts, names, perhaps)
        if reads is None:
            later = needed | x.read_names(stmts)
            return [
                self.compound(st, names, later, False, False) if isinstance(st, tuple(FIELDS)) else Plain(st)
                for st in stmts
            ]
        if is_trivial(stmts) or x.declared(stmts):
            return [Plain(st) for st in stmts]
        return [Call(self.region(self.owner, stmts, reads, outs, names))]

    def reads(self, stmts: Sequence[ast.stmt], names: Names, more: Sequence[str] = ()) -> list[str] | None:
        """The locals that statements look at; None if one of them might have no value yet."""
        wanted = (x.read_names(stmts) & self.owner.locals) | set(more)
        if "*" in names.bound:
            return sorted(wanted)
        own = x.assigned_names(stmts)
        for n in wanted - names.bound:
            fresh = names.possible is not None and n not in names.possible  # it has no value yet, for certain
            if n in more or n not in own or (not fresh and reads_first(stmts, n)):
                return None
        return sorted(wanted & names.bound)

    def compound(self, st: Any, names: Names, needed: Any, tail: bool, caught: bool) -> Step:
        """A statement that stays, with regions in its blocks."""
        loop, attempt = isinstance(st, LOOPS), isinstance(st, ast.Try)
        inside = frozenset(needed) | (x.read_names([st]) if loop or attempt else frozenset())
        if loop or attempt:
            names = names.anywhere()
        start = names
        if isinstance(st, ast.For):
            start = names.with_(x.assigned_names([st.target]))
        if isinstance(st, ast.With):
            start = names.with_(x.assigned_names([i.optional_vars for i in st.items if i.optional_vars]))
        blocks: dict[tuple[str, int], Block] = {}
        for field in FIELDS[type(st)]:
            body = getattr(st, field)
            if body:
                here = start if field == "body" else start.after(st.body) if attempt and field == "orelse" else names
                ends = tail and not loop and not attempt
                blocks[field, -1] = Block(
                    self.steps(body, here, inside, ends, caught or (field == "body" and catches(st)))
                )
        for k, h in enumerate(getattr(st, "handlers", ())):
            here = names.with_({h.name} if h.name else set())
            blocks["body", k] = Block(self.steps(h.body, here, inside, False, caught))
        return Compound(st, blocks)


def catches(st: ast.stmt) -> bool:
    """Whether a statement may stop an error that its body raises."""
    return isinstance(st, ast.Try) or (isinstance(st, ast.With) and not all(map(x.passes_errors, st.items)))


def jumps(st: ast.stmt) -> bool:
    """Whether a statement may break off, or go on with, a loop around it."""
    return x.leaves_block(st) and any(isinstance(n, ast.Break | ast.Continue) for n in x.here([st]))


def reads_first(stmts: Sequence[ast.stmt], name: str) -> bool:
    """Whether a name may be looked at before the statements bind it."""
    bound: frozenset[str] = frozenset()
    for st in stmts:
        if name in x.read_names([st]) and name not in bound:
            return not binds_inside(st, name)
        bound = x.bound_after([st], bound)
    return False


def binds_inside(st: ast.stmt, name: str) -> bool:
    """Whether a compound statement binds a name itself before it looks at it."""
    if isinstance(st, ast.For) and name in x.assigned_names([st.target]) and name not in x.read_names([st.iter]):
        return not st.orelse
    blocks = [getattr(st, field) for field in FIELDS.get(type(st), ()) if getattr(st, field)]
    head = [c for c in ast.iter_child_nodes(st) if isinstance(c, ast.expr)]
    return (
        bool(blocks)
        and not isinstance(st, ast.Try)
        and name not in x.read_names(head)
        and not any(reads_first(b, name) for b in blocks)
    )


def is_trivial(stmts: Sequence[ast.stmt]) -> bool:
    """Nothing here that could be tensors' work."""
    work = (ast.Call, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Subscript, ast.AugAssign, ast.Attribute, ast.For)
    return not any(isinstance(n, work) for st in stmts for n in ast.walk(st))
