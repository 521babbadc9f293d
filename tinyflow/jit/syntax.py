"""Syntax trees of functions, and the facts about names that cutting them needs.

Source text -> FunctionDef with the line numbers of its file, decorators taken off, private names spelt out.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import itertools
import textwrap
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
SCOPES = (*FUNCTIONS, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class NoSource(Exception):
    """A function that has no source to read, or none that can be relied on."""


@functools.lru_cache(maxsize=4096)
def syntax_of(code: types.CodeType) -> ast.FunctionDef | ast.Lambda:
    """The syntax tree of a function's code; an error where it cannot be had."""
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise NoSource("is a generator or coroutine")
    try:
        lines, first = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        raise NoSource("has no source text") from None
    ast.increment_lineno(tree, first - 1)
    kind: Any = ast.Lambda if code.co_name == "<lambda>" else ast.FunctionDef
    found = [n for n in ast.walk(tree) if isinstance(n, kind) and getattr(n, "name", "<lambda>") == code.co_name]
    for node in found:
        spelt = PrivateNames(code).visit(copy.deepcopy(node))
        if isinstance(spelt, ast.FunctionDef):
            spelt.decorator_list = []
        if same_code(spelt, code):
            return SpeltSuper.of(spelt)
    raise NoSource("has source text that is not what runs")


def same_code(node: Any, code: types.CodeType) -> bool:
    """Whether the tree compiles to this code: the file may have changed since, or hold several functions of a name."""
    try:
        made = function_code(node, code.co_freevars, code.co_filename)
    except (SyntaxError, ValueError):
        return False
    alike = made.co_varnames[: made.co_argcount] == code.co_varnames[: code.co_argcount] and set(
        made.co_freevars
    ) == set(code.co_freevars)
    rewritten = any(isinstance(n, ast.Assert) for n in ast.walk(node))  # test runners put their own code for assertions
    return alike and (rewritten or fingerprint(made) == fingerprint(code))


def fingerprint(code: types.CodeType) -> tuple[Any, ...]:
    """What a function's text leaves in its code, whatever the compiler did with it."""
    named = "<locals>"  # what functions inside are called depends on where this one stands
    constants = sorted(repr(c) for c in code.co_consts if not isinstance(c, types.CodeType) and named not in str(c))
    return set(code.co_names), set(code.co_varnames), constants, code.co_argcount, code.co_flags & 12


class PrivateNames(ast.NodeTransformer):
    """__name inside a class means _Class__name."""

    def __init__(self, code: types.CodeType) -> None:
        self.names = all_names(code)

    def spell(self, name: str) -> str:
        if not name.startswith("__") or name.endswith("__"):
            return name
        return next((n for n in self.names if n.endswith(name) and n[0] == "_" and n != name), name)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.spell(node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        self.generic_visit(node)
        node.attr = self.spell(node.attr)
        return node


class SpeltSuper(ast.NodeTransformer):
    """super() means super(__class__, self): written so, it may stand in a function that has other parameters."""

    def __init__(self, first: str) -> None:
        self.first = first

    @classmethod
    def of(cls, function: Any) -> Any:
        arguments = [*function.args.posonlyargs, *function.args.args]
        return cls(arguments[0].arg).generic_visit(function) if arguments else function

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            node.args = [load("__class__", node), load(self.first, node)]
        return node

    def inner(self, node: ast.AST) -> ast.AST:
        """A function inside has a first parameter of its own."""
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = inner


def all_names(code: types.CodeType) -> list[str]:
    inner = [n for c in code.co_consts if isinstance(c, types.CodeType) for n in all_names(c)]
    return [*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars, *inner]


def function_code(node: Any, free: Sequence[str], file: str) -> types.CodeType:
    """The code of a function whose free names are those of an enclosing function."""
    if isinstance(node, ast.Lambda):
        inner: ast.stmt = ast.Return(node)
    else:
        inner = node
    outer = ast.FunctionDef("outer", arguments(free), [inner], [], None)
    if hasattr(outer, "type_params"):
        outer.type_params = []
    module = ast.fix_missing_locations(ast.Module([outer], []))
    code = compile(module, file, "exec", dont_inherit=True)
    (outer_code,) = (c for c in code.co_consts if isinstance(c, types.CodeType))
    name = getattr(node, "name", "<lambda>")
    return next(c for c in outer_code.co_consts if isinstance(c, types.CodeType) and c.co_name == name)


def arguments(names: Iterable[str]) -> ast.arguments:
    return ast.arguments([], [ast.arg(n, None) for n in names], None, [], [], None, [])


def parameters(node: Any) -> list[str]:
    """The names of a function's parameters, in the order of its code's variables."""
    a = node.args
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return names + [x.arg for x in (a.vararg, a.kwarg) if x is not None]


# ------------------------------------------------------------------------------------------ names


def here(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every node of the same scope, in order; functions and classes inside are given, not entered."""
    for node in nodes:
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.comprehension):  # its names are its own
            yield from here([node.iter, *node.ifs])
            continue
        yield from here(ast.iter_child_nodes(node))


def read_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that code looks at, those of functions and comprehensions inside included."""
    found = {
        n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)
    }
    return found | {
        n.target.id
        for node in nodes
        for n in ast.walk(node)
        if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)
    }


def assigned_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The names of this scope that code binds or unbinds."""
    found: set[str] = set()
    for n in here(nodes):
        if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load):
            found.add(n.id)
        elif isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or (
            isinstance(n, ast.ExceptHandler) and n.name
        ):
            found.add(n.name)
        elif isinstance(n, ast.alias):
            found.add((n.asname or n.name).split(".")[0])
        elif isinstance(n, (ast.MatchAs, ast.MatchStar)) and n.name:
            found.add(n.name)
        elif isinstance(n, ast.MatchMapping) and n.rest:
            found.add(n.rest)
    return found


def declared(nodes: Iterable[ast.AST]) -> set[str]:
    """The names declared global or nonlocal."""
    return {name for n in here(nodes) if isinstance(n, ast.Global | ast.Nonlocal) for name in n.names}


def assigned_inside(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that functions inside declare nonlocal: calling them may bind these."""
    own = set(map(id, here(nodes)))
    every = (n for node in nodes for n in ast.walk(node))
    return {name for n in every if isinstance(n, ast.Nonlocal) and id(n) not in own for name in n.names}


def outside_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The names of functions around, which these statements bind."""
    return {name for n in here(nodes) if isinstance(n, ast.Nonlocal) for name in n.names}


def stable_names(parameters: Iterable[str], body: Sequence[ast.stmt]) -> frozenset[str]:
    """The names that are bound once and for all."""
    count = dict.fromkeys(parameters, 1)
    for weight, nodes in ((1, body), (1, [n for s in body for n in ast.walk(s) if isinstance(n, ast.For | ast.While)])):
        for n in here(nodes):
            for name in assigned_names([n]) if isinstance(n, BINDERS) else ():
                count[name] = count.get(name, 0) + weight
    return frozenset(name for name, k in count.items() if k == 1)


BINDERS = (
    ast.Name,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.alias,
    ast.MatchAs,
    ast.MatchStar,
    ast.MatchMapping,
)


def captured_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that functions inside look at: they may be looked at whenever such a function is called."""
    inner = [n for node in nodes for n in ast.walk(node) if isinstance(n, (*FUNCTIONS, ast.ClassDef, ast.GeneratorExp))]
    return {x.id for n in inner for x in ast.walk(n) if isinstance(x, ast.Name)}


# ------------------------------------------------------------------------------------------ certainly bound


def bound_after(stmts: Iterable[ast.stmt], before: frozenset[str]) -> frozenset[str]:
    """The names that certainly have a value after the statements (all of them, if the end is never reached)."""
    now = before
    for s in stmts:
        rule = BOUND.get(type(s))
        now = rule(s, now) if rule else (now | (assigned_names([s]) - maybe([s])))
    return now


def maybe(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that := binds: perhaps."""
    return {n.target.id for n in here(nodes) if isinstance(n, ast.NamedExpr)}


def passes_errors(item: ast.withitem) -> bool:
    """Whether a context is known not to swallow errors, after which names of its body might have no value."""
    call = item.context_expr
    name = getattr(call, "func", call)
    return getattr(name, "attr", getattr(name, "id", "")) in (
        "no_grad",
        "enable_grad",
        "inference_mode",
        "set_grad_enabled",
    )


EVERYTHING = frozenset({"*"})


def meet(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    return b if "*" in a else a if "*" in b else a & b


def bound_try(s: Any, before: frozenset[str]) -> frozenset[str]:
    after = bound_after([*s.body, *s.orelse], before)
    for h in s.handlers:
        after = meet(after, bound_after(h.body, before) - {h.name})
    return after | bound_after(s.finalbody, before)


# fmt: off
BOUND: dict[type, Any] = {
    ast.If:       lambda s, b: meet(bound_after(s.body, b), bound_after(s.orelse, b)),
    ast.For:      lambda s, b: b,
    ast.While:    lambda s, b: EVERYTHING if isinstance(s.test, ast.Constant) and s.test.value and not any(isinstance(n, ast.Break) for n in here(s.body)) else b,
    ast.With:     lambda s, b: bound_after(s.body, b) if all(map(passes_errors, s.items)) else b,
    ast.Try:      bound_try,
    ast.Match:    lambda s, b: b,
    ast.Delete:   lambda s, b: b - assigned_names([s]),
    ast.Return:   lambda s, b: EVERYTHING,
    ast.Raise:    lambda s, b: EVERYTHING,
    ast.Continue: lambda s, b: EVERYTHING,
    ast.Break:    lambda s, b: EVERYTHING,
}
# fmt: on
if hasattr(ast, "TryStar"):
    BOUND[ast.TryStar] = lambda s, b: b


def is_bound(names: Iterable[str], bound: frozenset[str]) -> bool:
    return "*" in bound or set(names) <= bound


def leaves_block(s: ast.stmt) -> bool:
    """Whether a statement may leave the statements around it: return, or break and continue of a loop outside."""
    return isinstance(s, ast.Return) or any(escapes(s, False))


def escapes(node: ast.AST, in_loop: bool) -> Iterator[bool]:
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return
    if isinstance(node, ast.Return) or (isinstance(node, ast.Break | ast.Continue) and not in_loop):
        yield True
    loop = isinstance(node, ast.For | ast.While | ast.AsyncFor)
    for child in ast.iter_child_nodes(node):
        yield from escapes(child, in_loop or (loop and child not in getattr(node, "orelse", ())))


# ------------------------------------------------------------------------------------------ expressions in order


def place_parts(target: Any) -> list[ast.AST]:
    """What an assignment evaluates of its target."""
    return (
        [target.value, target.slice]
        if isinstance(target, ast.Subscript)
        else [target.value]
        if isinstance(target, ast.Attribute)
        else []
    )


# fmt: off
STRICT: dict[type, Any] = {  # what is evaluated for certain, in order
    ast.BinOp:          lambda e: [e.left, e.right],
    ast.UnaryOp:        lambda e: [e.operand],
    ast.BoolOp:         lambda e: e.values[:1],
    ast.Compare:        lambda e: [e.left, *e.comparators[:1]],
    ast.Call:           lambda e: [e.func, *e.args, *(k.value for k in e.keywords)],
    ast.Attribute:      lambda e: [e.value],
    ast.Subscript:      lambda e: [e.value, e.slice],
    ast.Slice:          lambda e: [x for x in (e.lower, e.upper, e.step) if x],
    ast.Tuple:          lambda e: e.elts,
    ast.List:           lambda e: e.elts,
    ast.Set:            lambda e: e.elts,
    ast.Dict:           lambda e: [x for k, v in zip(e.keys, e.values) for x in (k, v) if x],
    ast.Starred:        lambda e: [e.value],
    ast.JoinedStr:      lambda e: e.values,
    ast.FormattedValue: lambda e: [e.value, *([e.format_spec] if e.format_spec else [])],
    ast.IfExp:          lambda e: [e.test],
    ast.NamedExpr:      lambda e: [e.value],
    ast.ListComp:       lambda e: [e.generators[0].iter],
    ast.GeneratorExp:   lambda e: [e.generators[0].iter],
    ast.Expr:           lambda s: [s.value],
    ast.Assign:         lambda s: [s.value, *(part for t in s.targets for part in place_parts(t))],
    ast.AnnAssign:      lambda s: [s.value] if s.value else [],
    ast.AugAssign:      lambda s: [*place_parts(s.target), s.value],
    ast.Return:         lambda s: [s.value] if s.value else [],
    ast.If:             lambda s: [s.test],
    ast.For:            lambda s: [s.iter],
    ast.Assert:         lambda s: [s.test],
    ast.With:           lambda s: [s.items[0].context_expr],
}
# fmt: on


def path_to(root: ast.AST, goal: ast.AST) -> list[ast.AST]:
    """The nodes from a statement down to the deepest one above (or at) the goal that is evaluated for certain."""
    path = [root]
    while path[-1] is not goal:
        rule = STRICT.get(type(path[-1]))
        step = next((c for c in (rule(path[-1]) if rule else ()) if any(n is goal for n in ast.walk(c))), None)
        if step is None:
            break
        path.append(step)
    return path


def evaluated_before(path: list[ast.AST]) -> list[ast.AST]:
    """What has been evaluated when the last node of the path is about to be, without its own operands."""
    return [c for above, below in itertools.pairwise(path) for c in until(STRICT[type(above)](above), below)]


def until(nodes: Iterable[ast.AST], stop: ast.AST) -> Iterator[ast.AST]:
    for n in nodes:
        if n is stop:
            return
        yield n


def operands(node: ast.AST) -> list[ast.AST]:
    rule = STRICT.get(type(node))
    return list(rule(node)) if rule else []


class Replace(ast.NodeTransformer):
    """Some nodes, found by identity, in the place of others."""

    def __init__(self, new: dict[int, ast.AST]) -> None:
        self.new = new

    def visit(self, node: ast.AST) -> Any:
        if id(node) in self.new:
            return self.new[id(node)]
        fields = {}
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                fields[name] = [self.visit(v) if isinstance(v, ast.AST) else v for v in value]
            else:
                fields[name] = self.visit(value) if isinstance(value, ast.AST) else value
        return ast.copy_location(type(node)(**fields), node)


def load(name: str, like: ast.AST) -> ast.Name:
    return ast.copy_location(ast.Name(name, ast.Load()), like)


def store(name: str, like: ast.AST) -> ast.Name:
    return ast.copy_location(ast.Name(name, ast.Store()), like)
