"""Where statements are cut: what comes before, the statement that stays in Python, and what comes after.

    statement := ... expression that stays in Python ...
      becomes    t1 = operand;  statement with t1 in it        the operands are part of the piece before

What has been interpreted without a cut has no effects but those of its piece. Where a statement's operands have some, all of
them are taken out, in their order; where they have none, evaluating one early changes nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinyflow.jit import syntax as x
from tinyflow.jit.values import Cut, Iterated, Made, Tens, Viewed

KEPT = (ast.Name, ast.Constant)
OPENED = (ast.Attribute, ast.Starred, ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Dict, ast.Slice)


class Split(NamedTuple):
    before: list[ast.stmt]  # assignments of what the statement needs
    middle: ast.stmt  # stays in Python
    after: list[ast.stmt]  # what is left of the statement


class Splitter:
    """Takes one statement apart. `value_of` evaluates an expression as the trace does; `changes` counts what it has changed."""

    def __init__(
        self, owner: Any, value_of: Callable[[ast.AST], Any], changes: Callable[[], int], locals_: frozenset[str]
    ) -> None:
        self.owner, self.value_of, self.changes, self.locals = owner, value_of, changes, locals_
        self.before: list[ast.stmt] = []
        self.new: dict[int, ast.AST] = {}

    def split(self, s: ast.stmt, cut: Cut) -> Split:
        at = cut.at if cut.at is not None else s
        path = x.path_to(s, at)
        deepest = path[-1]
        exact = deepest is at
        whole = isinstance(s, ast.Expr | ast.Assign | ast.Return) and getattr(s, "value", None) is at
        apart = exact and cut.followed and isinstance(at, ast.Call) and not whole and self.fits(path)
        siblings = x.evaluated_before(path)
        strict = apart or self.any_changes(siblings)
        for sibling in siblings:
            self.place(sibling, strict)
        if exact and cut.value and isinstance(deepest, ast.expr):
            if not isinstance(deepest, KEPT):
                self.take(deepest)
        else:
            for operand in x.operands(deepest):
                self.place(operand)
        if apart:
            return self.in_two(s, at)
        if exact and cut.followed and isinstance(at, ast.Call):
            self.new[id(at)] = self.wrapped(at)
        return Split(self.before, x.Replace(self.new).visit(s), [])

    def any_changes(self, nodes: Sequence[ast.AST]) -> bool:
        before = self.changes()
        for node in nodes:
            try:
                self.value_of(node)
            except Cut:
                continue
        return self.changes() != before

    def fits(self, path: Sequence[ast.AST]) -> bool:
        """Whether a call may be taken out of its statement: nothing around it is bound or tested on the way."""
        return not any(isinstance(n, ast.NamedExpr | ast.For | ast.If | ast.With | ast.AugAssign) for n in path)

    def in_two(self, s: ast.stmt, at: ast.Call) -> Split:
        """temporary = compiled(f)(...);  the statement with the temporary in it"""
        name = self.owner.temporary(at)
        call = self.wrapped(at)
        self.new[id(at)] = x.load(name, at)
        first = ast.fix_missing_locations(ast.copy_location(ast.Assign([x.store(name, at)], call), s))
        return Split(self.before, first, [x.Replace(self.new).visit(s)])

    def wrapped(self, call: ast.Call) -> ast.Call:
        """The call of a function that was cut inside: its own pieces are used."""
        inner = x.Replace(self.new)
        function = ast.copy_location(ast.Call(x.load(self.owner.wrapper, call), [inner.visit(call.func)], []), call)
        made = ast.Call(function, [inner.visit(a) for a in call.args], [inner.visit(k) for k in call.keywords])
        return ast.copy_location(made, call)

    def place(self, node: ast.AST, strict: bool = False) -> None:
        """Decides where an operand is evaluated: in the piece before if it is a tensor's work, else where it stands."""
        if isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and (not strict or node.id in self.locals)):
            return
        if strict or self.is_work(node):
            self.take(node)
            return
        for child in x.operands(node):
            self.place(child)

    def is_work(self, node: ast.AST) -> bool:
        """Whether the value is a tensor that is computed here, or holds some."""
        if isinstance(node, (*KEPT, *OPENED)):
            return False
        try:
            v = self.value_of(node)
        except Cut:
            return False
        if isinstance(v, Made) and isinstance(v.raw, Iterated | Viewed):
            return False  # no piece hands it on
        return isinstance(v, Tens) or (isinstance(node, ast.Call) and isinstance(v, Made) and holds_tensors(v))

    def take(self, node: ast.AST) -> None:
        """temporary = node, before the statement."""
        name = self.owner.temporary(node)
        self.new[id(node)] = x.load(name, node)
        made = ast.Assign([x.store(name, node)], node)  # type: ignore[list-item, arg-type]
        self.before.append(ast.fix_missing_locations(ast.copy_location(made, node)))


def holds_tensors(v: Made) -> bool:
    items = v.raw.values() if isinstance(v.raw, dict) else v.raw if isinstance(v.raw, list | tuple) else ()
    return any(isinstance(i, Tens) or (isinstance(i, Made) and holds_tensors(i)) for i in items)
