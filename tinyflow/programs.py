"""programs: the native program of a graph, by the graph's structure: from memory, from disk, or compiled.

native_of(asked) -> Native               passes, compiler and runtime, once for all graphs of one structure
"""

from __future__ import annotations

import gc
import sys
from array import array
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from tinyflow.core.config import config
from tinyflow.core.errors import LINE, line_kept, user_line
from tinyflow.core.expr import Expr, Index_, is_found
from tinyflow.core.expr import evaluate as number
from tinyflow.graph.node import Node, Op, toposort
from tinyflow.graph.signature import Signature, signature
from tinyflow.ops.contraction import CONTRACT
from tinyflow.passes import pipeline
from tinyflow.passes.state import conditions

MOST_PROGRAMS = 512


class Asked(Protocol):
    """Whose program is wanted."""

    roots: tuple[Node, ...]
    nodes: list[Node]  # the roots without effects, then the new values of what is written
    given_same: tuple[Node, ...]  # the leaves, and what is written, under names that graphs of one structure share
    written_same: tuple[Node, ...]
    lasting: frozenset[int]  # which of the leaves stay the same from run to run
    dims: tuple[Expr, ...]  # filled in: the symbolic dimensions of the structure


class Native(NamedTuple):
    """A program, in terms of its graph's leaves by number."""

    program: Any
    place: Callable[..., object]
    numbers: Any  # the slots of the leaves, then of the outputs
    numbers_at: int
    sharing: bool  # whether roots are not the outputs one by one, or may be dead
    which: tuple[int, ...]  # the output that each root is
    writes: tuple[
        tuple[int | None, int, bool], ...
    ]  # (slot or None: in place; the variable's; whether it is a leaf too)
    shapes: tuple[Any, ...]  # of outputs, then of writes
    static: bool  # whether no shape depends on a run
    told: tuple[tuple[int, tuple[Any, ...]], ...]  # outputs whose size data tells, and their shapes
    dtypes: tuple[Any, ...]
    dims: tuple[int, ...]  # which of the graph's symbolic dimensions each of the program's is
    checks: tuple[str, ...]  # what each checked index belongs to
    alive: tuple[
        tuple[tuple[int, bool], ...], ...
    ]  # for each root: outputs that must be so; empty where none can be dead
    prepare: Any = None  # the program of what lasts
    places: tuple[int, ...] = ()  # of the given arrays that it takes
    kept: tuple[int, ...] = ()  # bytes of what it makes, which the program takes behind what it is given


_programs: dict[Hashable, Native] = {}


def canonical(k: int) -> Expr:
    from tinyflow.core.expr import dim

    return dim(f"@{k}")


def native_of(asked: Asked) -> Native:
    """The program of a graph of this structure, compiled at most once."""
    from tinyflow.runtime import machine, target  # load LLVM, and only what runs has to

    found = signature([*asked.nodes], [*asked.given_same, *asked.written_same])
    asked.dims = found.dims
    key = (found.key, len(asked.roots), tuple(sorted(asked.lasting)), target.current())
    with machine.LOCK:  # the compiler notes what it finds out of expressions, for one program at a time
        native = _programs.get(key)
        if native is None:
            while len(_programs) >= MOST_PROGRAMS:
                _programs.pop(next(iter(_programs)))
            native = _programs[key] = kept_or_compiled(asked, found, key)
        elif config.DEBUG >= 1:
            print("program found in memory", file=sys.stderr)
    return native


def kept_or_compiled(asked: Asked, found: Signature, key: tuple[Any, ...]) -> Native:
    """From disk, where a process before this one made it of the same lines; else compiled, and kept."""
    from tinyflow.runtime import kept, machine, target
    from tinyflow.runtime.native import placer

    name = None
    if not (config.CHECK or config.DEBUG >= 3 or config.PROFILE or config.CACHE in ("", "0")):
        order = toposort(asked.nodes)
        lines = tuple(dict.fromkeys((n.where.file, n.where.line, n.where.function) for n in order))
        passes = tuple(name for name, _ in pipeline.PIPELINE)
        names = tuple(str(n.attrs.get("name")) for n in found.leaves)
        options = (config.CHECKPOINT, machine.made_by(target.current()), passes)
        name = kept.key_of(key[:3], lines, names, options, named=Op)
    native = kept.recall(name) if name is not None else None
    if native is not None:
        return native._replace(place=placer(), numbers_at=native.numbers.buffer_info()[0])
    with undisturbed():
        native = compiled(asked, found.leaves, found.dims)
    if name is not None:
        kept.keep(name, native._replace(place=len, numbers_at=0))  # both are of this process
    return native


@contextmanager
def undisturbed() -> Iterator[None]:
    """The compiler makes much at once and drops it at the end: nobody looks for garbage meanwhile, nor for the user's line."""
    collects = gc.isenabled()
    gc.disable()
    with line_kept():
        LINE.held = user_line()
        try:
            yield
        finally:
            if collects:
                gc.enable()


def compiled(asked: Asked, leaves: Sequence[Node], dims: Sequence[Expr]) -> Native:
    from tinyflow.compiler.pipeline import build
    from tinyflow.runtime import machine
    from tinyflow.runtime.native import placer
    from tinyflow.runtime.program import split

    nodes = pipeline.run(asked.nodes)
    count = len(asked.roots)
    living = conditions(nodes)
    predicates = [p for n in nodes[:count] for p, _ in living[n]]
    outputs = list(dict.fromkeys([*nodes[:count], *predicates]))
    lasting = frozenset(asked.given_same[k] for k in asked.lasting)
    with machine.early() as begin:
        made = build(outputs, dict(zip(asked.written_same, nodes[count:], strict=True)), lasting, begin)
    place = {n: k for k, n in enumerate(asked.given_same)}
    slot = {n: k for k, n in enumerate(made.leaves, 1)}
    written = tuple((w, slot[v], v in place) for w, v in zip(made.writes, asked.written_same, strict=True))
    rename = {d: canonical(k) for k, d in enumerate(dims)}
    shapes = tuple(tuple(substituted(d, rename) for d in n.shape) for n in (*outputs, *nodes[count:]))
    needed = (
        tuple(tuple((outputs.index(p), side) for p, side in living[n]) for n in nodes[:count]) if predicates else ()
    )
    which = tuple(outputs.index(n) for n in nodes[:count])
    prepare, program, kept = split(made.program) if lasting else (None, made.program, ())
    unread = len(program.slots)
    given = [slot.get(n, unread) for n in asked.given_same]
    numbers = array("q", [*given, *kept, *made.outputs])
    taken = frozenset[int]().union(*(i.touched for i in prepare.items)) if prepare is not None else ()
    return Native(
        program=program,
        place=placer(),
        numbers=numbers,
        numbers_at=numbers.buffer_info()[0],
        sharing=bool(predicates) or which != tuple(range(len(outputs))),
        which=which,
        writes=written,
        shapes=shapes,
        static=all(type(d) is int for s in shapes for d in s),
        told=tuple((k, n.shape) for k, n in enumerate(outputs) if any(map(is_found, n.shape))),
        dtypes=tuple(n.dtype.numpy for n in outputs),
        dims=tuple(dims.index(d) for d in made.program.dims),
        checks=tuple(f"{n.label}, {n.where}" for n in made.checks),
        alive=needed,
        prepare=prepare,
        places=tuple(k for k, s in enumerate(given) if s in taken),
        kept=tuple(number(program.slots[s].size, {}) for s in kept),
    )


def substituted(d: Index_, names: Mapping[Any, Index_]) -> Index_:
    from tinyflow.core.expr import substitute

    return substitute(d, names)


def worth_keeping(roots: Sequence[Node], steady: set[Node]) -> bool:
    """Whether an operand of a product, laid out anew at each run, is made of these leaves alone."""
    from tinyflow.compiler.contraction import has_recipe
    from tinyflow.compiler.lasting import lasting_values
    from tinyflow.compiler.operands import roles

    lasting = lasting_values(toposort(roots), steady) if steady else set()
    products = [n for n in toposort(roots) if n.op is CONTRACT and not lasting.isdisjoint(n.inputs) and has_recipe(n)]
    return any(n.inputs[roles(n.attrs["spec"]).b] in lasting for n in products)  # type: ignore[union-attr]
