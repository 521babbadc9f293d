"""Where the values that a trace relied on come from, and what must hold of them.

    source := argument(name) | local(name) | object(o) | global(object, name) | cell(object, name)
            | attr(source, name) | member(source, table, name) | item(source, key) | size(source, axis)
            | extent(source, axis) | state(source, tensor)        an array's size; what an optimiser keeps of a parameter
    guard  := Guard(kind, template, sources, objects, words)         template is Python: "type({0}) is {b} and {0} == {a}"

A source reads as Python when a call checks its guards, and in plain words when `explain` prints them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class ById:
    """An object as a dictionary key: the same only if it is this very object."""

    __slots__ = ("object",)

    def __init__(self, object: Any) -> None:
        self.object = object

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ById) and other.object is self.object

    def __hash__(self) -> int:
        return id(self.object)

    def __repr__(self) -> str:
        return type(self.object).__name__


class Source(NamedTuple):
    kind: str
    parent: Any  # the source it is reached from, or None
    key: Any
    table: str = ""

    @property
    def words(self) -> str:
        return WORDS[self.kind](self)

    def read(self, env: dict[str, Any]) -> Any:
        """The value now, given the locals."""
        return READ[self.kind](self, env)

    def inside(self, other: Source) -> bool:
        return self == other or (isinstance(self.parent, Source) and self.parent.inside(other))


def local(name: str, argument: bool = False) -> Source:
    return Source("argument" if argument else "local", None, name)


def object_(o: Any) -> Source:
    return Source("object", None, ById(o))


# fmt: off
#           kind       as Python, given its parent's text                              in words
TEXT: dict[str, Callable[[Source, str], str]] = {
    "global": lambda s, p: f"{p}[{s.key!r}]",
    "cell":   lambda s, p: f"{p}.cell_contents",
    "attr":   lambda s, p: f"{p}.{s.key}",
    "member": lambda s, p: f"{p}.__dict__[{s.table!r}][{s.key!r}]",
    "item":   lambda s, p: f"{p}[{s.key!r}]",
    "size":   lambda s, p: f"{p}._shape[{s.key}]",
    "extent": lambda s, p: f"{p}.shape[{s.key}]",
}
WORDS: dict[str, Callable[[Source], str]] = {
    "argument": lambda s: s.key,
    "local":  lambda s: s.key,
    "object": lambda s: getattr(s.key.object, "__name__", repr(s.key)),
    "global": lambda s: s.key,
    "cell":   lambda s: s.key,
    "attr":   lambda s: f"{s.parent.words}.{s.key}",
    "member": lambda s: f"{s.parent.words}.{s.key}",
    "item":   lambda s: f"{s.parent.words}[{s.key!r}]",
    "size":   lambda s: f"{s.parent.words}.shape[{s.key}]",
    "extent": lambda s: f"{s.parent.words}.shape[{s.key}]",
    "state":  lambda s: f"{s.parent.words}[{s.table}]",
}
READ: dict[str, Callable[[Source, dict[str, Any]], Any]] = {
    "argument": lambda s, env: env[s.key],
    "local":  lambda s, env: env[s.key],
    "object": lambda s, env: s.key.object,
    "global": lambda s, env: s.parent.read(env)[s.key],
    "cell":   lambda s, env: s.parent.read(env).cell_contents,
    "attr":   lambda s, env: getattr(s.parent.read(env), s.key),
    "member": lambda s, env: s.parent.read(env).__dict__[s.table][s.key],
    "item":   lambda s, env: s.parent.read(env)[s.key],
    "size":   lambda s, env: s.parent.read(env)._shape[s.key],
    "extent": lambda s, env: s.parent.read(env).shape[s.key],
    "state":  lambda s, env: s.parent.read(env)[s.key.object],
}
LEAD = {"argument": "argument ", "global": "global ", "cell": "closure variable "}
# fmt: on


def spoken(s: Source) -> str:
    """The source as the subject of a sentence."""
    return LEAD.get(s.kind, "") + s.words


class Guard(NamedTuple):
    kind: str  # "equal" and "size" may become symbolic when they fail
    template: str
    sources: tuple[Any, ...]  # sources, or scalar expressions of them
    objects: tuple[Any, ...]  # {a}, {b}, ... of the template
    words: str


# ------------------------------------------------------------------------------------------ expressions of sources

# expression := source | ("const", value) | ("op", sign, expression*) | ("call", function, expression*)
#             | ("part", (k, words), expression)            an item of a tuple
Expression = Any


def words_of(e: Expression) -> str:
    if isinstance(e, Source):
        return e.words
    if e[0] == "const":
        return repr(e[1])
    if e[0] == "part":
        return str(e[1][1])
    parts = [words_of(x) for x in e[2:]]
    if e[0] == "call":
        return f"{e[1].__name__}({', '.join(parts)})"
    return f"({e[1]}{parts[0]})" if len(parts) == 1 else f"({parts[0]} {e[1]} {parts[1]})"


def leaves(e: Expression) -> list[Source]:
    """The sources of an expression."""
    if isinstance(e, Source):
        return [e]
    return [] if e[0] == "const" else [s for x in e[2:] for s in leaves(x)]


class Writer:
    """Python text that evaluates sources, each once, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[Source, str] = {}
        self.calls: dict[Any, str] = {}
        self.objects: dict[str, Any] = {}
        self.bound: dict[ById, str] = {}

    def bind(self, o: Any) -> str:
        """A name for an object."""
        key = ById(o)
        if key not in self.bound:
            self.bound[key] = f"_o{len(self.bound)}"
            self.objects[self.bound[key]] = o
        return self.bound[key]

    def source(self, s: Source) -> str:
        if s.kind in ("argument", "local"):
            return str(s.key)
        if s.kind == "object":
            return self.bind(s.key.object)
        if s not in self.names:
            if s.kind == "state":
                text = f"{self.source(s.parent)}[{self.bind(s.key.object)}]"
            else:
                text = TEXT[s.kind](s, self.source(s.parent))
            if s.kind in ("item", "global", "member") and not isinstance(s.key, str | int):
                text = f"{self.source(s.parent)}[{self.bind(s.key)}]"
            self.names[s] = f"_s{len(self.names)}"
            self.lines.append(f"{self.names[s]} = {text}")
        return self.names[s]

    def expression(self, e: Expression) -> str:
        if isinstance(e, Source):
            return self.source(e)
        if e[0] == "const":
            return repr(e[1]) if isinstance(e[1], int) else self.bind(e[1])
        parts = [self.expression(x) for x in e[2:]]
        if e[0] == "part":
            return f"{parts[0]}[{e[1][0]}]"
        if e[0] == "call":
            if e not in self.calls:
                self.calls[e] = f"_c{len(self.calls)}"
                self.lines.append(f"{self.calls[e]} = {self.bind(e[1])}({', '.join(parts)})")
            return self.calls[e]
        return f"({e[1]}{parts[0]})" if len(parts) == 1 else f"({parts[0]} {e[1]} {parts[1]})"

    def function(self, name: str, parameters: Sequence[str], indent: int = 4) -> Callable[..., Any]:
        """The function made of the lines written so far."""
        body = "\n".join(" " * indent + line for line in self.lines) or "    pass"
        text = f"def {name}({', '.join(parameters)}):\n{body}\n"
        scope = dict(self.objects)
        exec(compile(text, f"<{name}>", "exec"), scope)
        return scope[name]  # type: ignore[no-any-return]


def checker(guards: Sequence[Guard], parameters: Sequence[str]) -> Callable[..., bool]:
    """A function of the locals that says whether all guards hold."""
    w = Writer()
    w.lines.append("try:")
    for g in guards:
        at = len(w.lines)
        names = [w.expression(s) for s in g.sources]
        objects = {chr(97 + k): w.bind(o) for k, o in enumerate(g.objects)}
        w.lines.append(f"if not ({g.template.format(*names, **objects)}): return False")
        w.lines[at:] = ["    " + line for line in w.lines[at:]]
    w.lines += ["    return True", f"except {w.bind(MISSING)}:", "    return False"]
    return w.function("check", parameters)


MISSING = (AttributeError, KeyError, IndexError, TypeError, ValueError)


def failing(guards: Sequence[Guard], parameters: Sequence[str], values: Sequence[Any]) -> list[Guard]:
    """The guards that do not hold, each looked at by itself."""
    return [g for g in guards if not checker([g], parameters)(*values)]


# ------------------------------------------------------------------------------------------ guards


def equal(s: Expression, value: Any) -> Guard:
    """The value is this very scalar: NaN equals itself, 0.0 is not -0.0."""
    words = spoken(s) if isinstance(s, Source) else words_of(s)
    if value is None or value is True or value is False or value is Ellipsis:
        return Guard("is", "{0} is {a}", (s,), (value,), f"{words} is {value}")
    kind = type(value).__name__
    if isinstance(value, float) and (value == 0 or value != value):
        return Guard(
            "equal",
            "type({0}) is float and {b}({0}) == {a}",
            (s,),
            (repr(value), repr),
            f"{words} is a float equal to {value}",
        )
    article = "an" if kind[0] in "aeiou" else "a"
    return Guard(
        "equal",
        "type({0}) is {b} and {0} == {a}",
        (s,),
        (value, type(value)),
        f"{words} is {article} {kind} equal to {value!r}",
    )


def same(s: Source, value: Any, called: str = "") -> Guard:
    called = called or getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or repr(value)
    return Guard("same", "{0} is {a}", (s,), (value,), f"{spoken(s)} is {called}")


def has_type(s: Source, cls: type) -> Guard:
    return Guard("type", "type({0}) is {a}", (s,), (cls,), f"{spoken(s)} is a {cls.__name__}")


def has_length(s: Source, n: int) -> Guard:
    return Guard("length", "len({0}) == {a}", (s,), (n,), f"len({s.words}) == {n}")


def holds(e: Expression, truth: bool) -> Guard:
    sign = "" if truth else "not "
    words = words_of(e)
    words = words[1:-1] if words[0] == "(" else words
    return Guard("holds", f"bool({{0}}) is {truth}", (e,), (), f"{sign}{words}" if truth else f"not ({words})")


def is_nan(x: Any) -> bool:
    return isinstance(x, float) and math.isnan(x)
