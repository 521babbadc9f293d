"""execute: from nodes to arrays. Joins passes, compiler and runtime, and holds the cache of programs.

    runner := compile(roots)                 what a run computes (values) and changes (writes), compiled once
    runner(feeds, store) -> arrays           one native call

`feeds` maps placeholders to arrays, `store` variables to the arrays they live in; a store is changed in place.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core.config import config
from tinyflow.core.errors import CompileError, FallbackWarning, GraphError, IndexOutOfRange
from tinyflow.core.expr import Dim, Expr, Index_, product, walk
from tinyflow.core.expr import evaluate as number
from tinyflow.core.recent import Recent
from tinyflow.graph.evaluate import DEAD, alive, dead_message, evaluate
from tinyflow.graph.node import Node, shape_text, toposort, with_all_bodies, with_dims
from tinyflow.graph.signature import signature
from tinyflow.ops.leaf import PLACEHOLDER, owner
from tinyflow.passes import pipeline
from tinyflow.passes.shapes import assumed_equal, check_fit, undecided
from tinyflow.passes.state import effects
from tinyflow.programs import MOST_PROGRAMS, Native, canonical, native_of, worth_keeping
from tinyflow.runtime.spare import SPARE, maker
from tinyflow.runtime.steady import WRITERS, Split, Watch

Store = MutableMapping[Node, np.ndarray]
NONE: dict[Node, Node] = {}
MOST_SIZES = 64


class MismatchError(GraphError):
    """Arrays whose sizes are not what the graph assumes of each other."""


class Sized(NamedTuple):
    """A program for arrays of certain shapes."""

    native: Native
    bound: tuple[int, ...]  # of the program's dimensions
    outputs: list[tuple[Any, Any, Any]]  # what makes the array of each, its shape and dtype
    writes: Sequence[Any]  # the shape of each


class Memory(NamedTuple):
    """Bytes that a run takes."""

    temporaries: int  # in the arena, which all programs share
    results: int


class Runner:
    """One set of roots, compiled when it first runs."""

    def __init__(self, roots: Sequence[Node], writes: Mapping[Node, Node] = NONE, private: Sequence[Node] = ()) -> None:
        self.roots = tuple(roots)
        found = effects(roots)
        changes = {**found.writes, **writes}
        self.written = tuple(changes)
        nodes = [*found.values, *changes.values()]
        self.equal = assumed_equal(nodes)
        self.given = given_leaves(nodes, self.equal)
        same = with_dims([*nodes, *self.written, *self.given], self.equal) if self.equal else {}
        self.nodes = [same.get(n, n) for n in nodes]
        self.given_same = tuple(same.get(n, n) for n in self.given)
        self.written_same = tuple(same.get(n, n) for n in self.written)
        self.placeholders = tuple(n for n in self.given if n.op is PLACEHOLDER)
        self.variables = tuple(n for n in self.given if n.op is not PLACEHOLDER)
        self.fixed = tuple(tuple(n.shape) if all(isinstance(d, int) for d in n.shape) else None for n in self.given)
        self.symbolic = tuple(k for k, f in enumerate(self.fixed) if f is None)
        self.sources = tuple((n, n.op is PLACEHOLDER) for n in self.given)
        self.fed = tuple((k, n, n.dtype.numpy, self.fixed[k]) for k, n in enumerate(self.given) if n.op is PLACEHOLDER)
        self.held = tuple((k, n, self.fixed[k]) for k, n in enumerate(self.given) if n.op is not PLACEHOLDER)
        self.found = [n for n in toposort(self.nodes) if n.op.kind == "find"]
        self.native: Native | None = None
        self.failed = False  # to compile
        self.known: dict[Hashable, Sized] = {}
        self.dims: tuple[Expr, ...] = ()
        self.lasting: frozenset[int] = frozenset()  # the given arrays that stay the same, by number
        own, changing = frozenset(private), frozenset(self.written)
        self.watch = Watch([k for k, n in enumerate(self.given) if n in own and n not in changing])

    def __call__(self, feeds: Mapping[Node, Any], store: Store) -> list[Any]:
        """The roots' values; the store's variables get their new ones. Every array returned is the caller's own."""
        arrays = [feeds[n] if fed else store[n] for n, fed in self.sources]
        for k, n, dtype, shape in self.fed:
            a = arrays[k]
            if type(a) is not np.ndarray or a.dtype is not dtype or not a.flags.c_contiguous:
                arrays[k] = a = np.asarray(a, dtype, order="C")
            if shape is not None and a.shape != shape:
                raise GraphError(misfit(n, a.shape))
        for k, n, shape in self.held:
            a = arrays[k]
            if not a.flags.c_contiguous:
                arrays[k] = np.ascontiguousarray(a)
            if shape is not None and a.shape != shape:
                raise GraphError(misfit(n, a.shape))
        if config.REFERENCE or config.NAN:
            return self.reference(arrays, self.sizes(arrays), store)
        if self.failed:
            return self.reference(arrays, self.sizes(arrays), store)
        key = tuple([arrays[k].shape for k in self.symbolic])
        try:
            sized = self.known.get(key) or self.measure(key, arrays)
            if (found := self.watch(arrays, self.split)) is not None:
                rest, kept = found
                sized = rest.known.get(key) or rest.measure(key, arrays)
                arrays += kept
            return run(sized, arrays, self.written, store)
        except CompileError as error:
            self.failed = True
            warnings.warn(
                f"a kernel does not compile, and its program is run by numpy, slowly: {error}", FallbackWarning, 2
            )
            return self.reference(arrays, self.sizes(arrays), store)

    def memory(self, feeds: Mapping[Node, Any], store: Store) -> Memory:
        """What a run takes besides the arrays that it is given, at most and to the byte; nothing is run."""
        arrays = [np.asarray(feeds[n]) if fed else store[n] for n, fed in self.sources]
        sized = self.measure(tuple([arrays[k].shape for k in self.symbolic]), arrays)
        program = sized.native.program
        binding = program.take(sized.bound)
        program.give(sized.bound, binding)
        return Memory(binding.bytes, binding.results)

    def measure(self, key: Hashable, arrays: Sequence[Any]) -> Sized:
        """What arrays of these shapes come to; compiles at the first call."""
        sizes = self.sizes(arrays)
        if self.native is None:
            self.native = native_of(self)
        native = self.native
        bound = tuple([sizes[self.dims[k]] for k in native.dims])
        shapes = native.shapes if native.static else [self.shape(s, sizes) for s in native.shapes]
        if len(self.known) >= MOST_SIZES:
            self.known.clear()
        sized = self.known[key] = sized_of(native, bound, shapes)
        return sized

    def sizes(self, arrays: Sequence[Any]) -> dict[Expr, int]:
        """The symbolic dimensions; an error if arrays disagree on them."""
        dims = bind({self.given[k]: arrays[k] for k in self.symbolic})
        for n in self.found:  # at most: memory is laid out for so many
            dims[n.attrs["size"]] = number(product(n.inputs[0].shape), dims)
        for d, other in self.equal.items():
            if d in dims and dims[d] != (other if isinstance(other, int) else dims.get(other, dims[d])):
                raise MismatchError(disagreement(self.given, d, other, dims))
        check_fit(self.undecided, dims)
        return dims

    def split(self, steady: frozenset[int]) -> Split | None:
        """The program in two, if something worth keeping is made of the given arrays of these numbers alone."""
        if not worth_keeping(self.nodes, {self.given_same[k] for k in steady}):
            return None
        rest = copy(self)
        rest.known, rest.lasting, rest.watch = {}, steady, Watch(())
        native = rest.native = native_of(rest)
        if not native.kept or [w[0] is None for w in native.writes] != [w[0] is None for w in native_of(self).writes]:
            return None  # what is written in place is known to those who run it

        def prepare(arrays: Sequence[np.ndarray], memory: Sequence[np.ndarray]) -> None:
            binding = native.prepare.take(())
            native.place(binding.slots_at, native.numbers_at, *arrays, *memory)
            binding.run()

        return Split(rest, native.places, native.kept, prepare)

    @cached_property
    def undecided(self) -> list[Node]:
        return undecided(self.nodes) if self.symbolic else []

    def shape(self, shape: Sequence[Index_], sizes: Mapping[Expr, int]) -> tuple[int, ...]:
        names = {canonical(k): sizes[d] for k, d in enumerate(self.dims) if d in sizes}
        return tuple([d if type(d) is int else number(d, names) for d in shape])

    # -------------------------------------------------------------------------------------- by numpy

    def reference(self, arrays: Sequence[Any], dims: Mapping[Expr, int], store: Store) -> list[Any]:
        feeds = dict(zip(self.given_same, arrays, strict=True))
        nodes = self.nodes if config.NAN else pipeline.run(self.nodes)
        value = evaluate(nodes, feeds, dims)
        if config.NAN:
            first_nan(toposort(nodes), value)
        count = len(self.roots)
        new = [np.array(alive(n, value[n])) for n in nodes[count:]]
        out = [value[n] if value[n] is DEAD else np.array(value[n]) for n in nodes[:count]]
        for v, a in zip(self.written, new, strict=True):
            put(store, v, a)
        return out


# ------------------------------------------------------------------------------------------ one run


def sized_of(native: Native, bound: tuple[int, ...], shapes: Sequence[Any]) -> Sized:
    """`shapes` are those of outputs, then of writes."""
    outputs = [(maker(shape, dtype), shape, dtype) for shape, dtype in zip(shapes, native.dtypes, strict=False)]
    return Sized(native, bound, outputs, shapes[len(outputs) :])


def run(sized: Sized, arrays: Sequence[Any], written: Sequence[Node], store: Store) -> list[Any]:
    """Addresses are placed, outputs made, the program called."""
    native, bound, outputs, writes = sized
    program = native.program
    binding = program.take(bound)  # makes sure that there is memory
    if writes:
        WRITERS.append(None)
    try:
        out = [make(shape, dtype) for make, shape, dtype in outputs]
        native.place(binding.slots_at, native.numbers_at, *arrays, *out)
        fresh = place_writes(native, written, writes, binding.slots, store) if written else ()
        if config.DEBUG or config.PROFILE:
            watched(binding)
        else:
            binding.run()
        if binding.status[0]:
            fail(native, binding)
        for k, shape in native.told:
            out[k] = cut(out[k], shape, dict(zip(program.dims, binding.dims, strict=False)))
        for v, a in fresh:
            put(store, v, a)
    finally:
        if writes:
            WRITERS.pop()
        program.give(bound, binding)
        SPARE.turn()
    return results(native, out) if native.sharing else out


def cut(a: np.ndarray, shape: Sequence[Index_], sizes: Mapping[Expr, int]) -> np.ndarray:
    """The part of an array that a run has written, in the shape that it found out."""
    found = tuple([number(d, sizes) for d in shape])
    part: np.ndarray = a.reshape(-1)[: math.prod(found)].reshape(found).copy()
    return part


def place_writes(
    native: Native, written: Sequence[Node], shapes: Sequence[Any], slots: Any, store: Store
) -> list[tuple[Node, Any]]:
    """Variables are written where they are, if that is safe and they are there; else to new arrays."""
    fresh = []
    for v, (slot, leaf, placed), shape in zip(written, native.writes, shapes, strict=True):
        held = store.get(v)
        if slot is None and held is not None and held.shape == shape and held.flags.carray:
            if not placed:
                slots[leaf] = address(held)
            continue
        a = SPARE.take(shape, v.dtype.numpy)
        if slot is None and held is not None and held.shape == shape:
            a[...] = held  # it may be read before it is written
        slots[leaf if slot is None else slot] = address(a)
        fresh.append((v, a))
    return fresh


def results(native: Native, out: list[Any]) -> list[Any]:
    """The roots' values, of outputs that are wanted twice, or that say which others are alive."""
    values: list[Any] = []
    for k, o in enumerate(native.which):
        values.append(out[o] if o not in native.which[:k] else out[o].copy())
    for k, needed in enumerate(native.alive):
        if any(bool(out[p]) != side for p, side in needed):
            values[k] = DEAD
    return values


def fail(native: Native, binding: Any) -> None:
    which, index, size = binding.status[:3]
    binding.status[0] = 0
    raise IndexOutOfRange(f"index {index} is out of range for {size} entries: {native.checks[which // 2]}")


def watched(binding: Any) -> None:
    """A run that someone looks at. DEBUG=1: what runs; DEBUG=2: each kernel with its time; PROFILE=1: kept for a page."""
    if config.DEBUG:
        print(
            f"run of {binding.count} kernels, {binding.threads} threads, {binding.bytes:,} bytes of temporaries, "
            f"{binding.results:,} bytes of results",
            file=sys.stderr,
        )
    if config.DEBUG < 2 and not config.PROFILE:
        binding.run()
        return
    from tinyflow.runtime import profile

    run = profile.run(binding)
    if config.PROFILE:
        profile.keep(run)
    if config.DEBUG >= 2:
        print(profile.report(run), file=sys.stderr)


def given_leaves(nodes: Sequence[Node], equal: Mapping[Expr, Any]) -> tuple[Node, ...]:
    """The leaves of a graph, and those whose shapes alone it depends on."""
    leaves = {n: None for n in toposort(nodes) if n.op.kind == "leaf"}
    bound = {d for n in leaves for d in n.shape if isinstance(d, Expr)}
    for n in with_all_bodies(nodes):
        for d in (*n.shape, n.attrs.get("size")):
            for atom in walk(d) if isinstance(d, Expr) else ():
                if isinstance(atom, Dim) and atom not in bound and (leaf := owner(atom)) is not None:
                    leaves[leaf] = None
                    bound.update(x for x in leaf.shape if isinstance(x, Expr))
    return tuple(leaves)


def put(store: Store, v: Node, a: np.ndarray) -> None:
    """A new value: into the array that the variable has, if it fits."""
    held = store.get(v)
    if held is not None and held.shape == a.shape and held.flags.writeable:
        np.copyto(held, a)
    else:
        store[v] = a


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]  # type: ignore[no-any-return]


def bind(arrays: Mapping[Node, Any]) -> dict[Expr, int]:
    """The sizes of symbolic dimensions, read off the arrays; an error if two arrays disagree or do not fit their node."""
    dims: dict[Expr, int] = {}
    for node, a in arrays.items():
        shape = np.shape(a)
        if len(shape) != node.ndim:
            raise GraphError(misfit(node, shape))
        for want, n in zip(node.shape, shape, strict=True):
            if (dims.setdefault(want, n) if isinstance(want, Expr) else want) != n:
                raise GraphError(misfit(node, shape))
    return dims


def misfit(node: Node, shape: tuple[int, ...]) -> str:
    return f"{node.label} ({node.where}) takes shape {shape_text(node.shape)}, and was given an array of shape {shape}"


def disagreement(leaves: Sequence[Node], d: Expr, other: Any, dims: Mapping[Expr, int]) -> str:
    """Which placeholders have sizes that must be equal and are not."""

    def of(x: Any) -> str:
        found = next((n for n in leaves if x in n.shape), None)
        return (
            str(x)
            if found is None
            else f"axis {found.shape.index(x)} of {found.label} ({found.where}), which is {dims[x]},"
        )

    return f"{of(d)} must equal {of(other) if isinstance(other, Expr) else other}"


def first_nan(order: Sequence[Node], value: Mapping[Node, Any]) -> None:
    """NAN=1: names the first node that made a NaN or an infinity of finite operands."""
    for n in order:
        v = value.get(n)
        if v is None or v is DEAD or not n.dtype.is_floating or np.all(np.isfinite(v)):
            continue
        kind = "NaN" if np.any(np.isnan(v)) else "an infinity"
        origin = "was fed with" if n.op.kind == "leaf" else "made"
        raise FloatingPointError(f"{n.label} {origin} {kind}: {n.op.name} of shape {shape_text(n.shape)}, {n.where}")


# ------------------------------------------------------------------------------------------ graphs by identity and structure


def compile(roots: Sequence[Node], writes: Mapping[Node, Node] = NONE, private: Sequence[Node] = ()) -> Runner:
    """The runner of some roots; `writes` gives variables new values, besides the assignments that the roots hold.

    `private` leaves have arrays whose memory only a store knows of: what is made of them alone may be kept (steady.py).
    """
    return Runner(roots, writes, private)


def realise(roots: Sequence[Node], store: Store, writes: Mapping[Node, Node] = NONE) -> list[Any]:
    """The values of the roots now, from the store alone. Programs are found by identity, and else by structure: a graph of the
    same form, made anew on other variables, compiles nothing."""
    variables = tuple(writes)
    same = tuple(roots), variables, tuple(writes.values()), config.TARGET
    plain = not (config.REFERENCE or config.NAN)
    ready: Ready | None = _ready.get(same) if plain else None
    if ready is not None:
        return ready([store[n] for n in ready.leaves], variables, store)
    found = signature([*roots, *writes.values()], variables)
    key = (found.key, len(roots), config.TARGET)
    template = _templates.get(key)
    if template is not None and plain:
        leaves = tuple([found.leaves[k] for k in template.given])
        watch = Watch([k for k, n in enumerate(leaves) if n not in writes])
        ready = Ready(template.sized, leaves, tuple(roots), writes, watch)
        _ready.put(same, ready)
        return ready([store[n] for n in leaves], variables, store)
    runner = Runner(roots, writes)
    values = runner({}, store)
    if runner.native is not None and not runner.failed and runner.written == variables and not runner.symbolic:
        while len(_templates) >= MOST_PROGRAMS:
            _templates.pop(next(iter(_templates)))
        _templates[key] = Template(runner.known[()], tuple(found.leaves.index(n) for n in runner.given))
    return values


def ready(roots: Sequence[Node], writes: Mapping[Node, Node], private: Sequence[Node]) -> Ready | None:
    """The program of some roots and writes; None if it depends on sizes that a run decides, or does not compile."""
    runner = Runner(roots, writes)
    try:
        native = native_of(runner)
        if not native.static or runner.written != tuple(writes) or runner.dims:
            return None
        native.program.give((), native.program.take(()))  # compiles
    except CompileError:
        return None
    watch = Watch([k for k, n in enumerate(runner.given) if n in private and n not in writes])
    return Ready(sized_of(native, (), native.shapes), runner.given, tuple(roots), writes, watch)


class Ready(NamedTuple):
    """A program, and the leaves that it takes."""

    sized: Sized
    leaves: tuple[Node, ...]
    roots: tuple[Node, ...]
    writes: Mapping[Node, Node]
    watch: Watch

    def split(self, steady: frozenset[int]) -> Split | None:
        runner = Runner(self.roots, self.writes)
        return runner.split(steady) if runner.given == self.leaves and not runner.symbolic else None

    def __call__(self, arrays: list[Any], written: Sequence[Node], store: Store) -> list[Any]:
        sized = self.sized
        if (found := self.watch(arrays, self.split)) is not None:
            rest, kept = found
            sized = rest.known.get(()) or rest.measure((), arrays)
            arrays += kept
        return run(sized, arrays, written, store)

    @property
    def in_place(self) -> bool:
        """Whether all that is written is written to arrays among those that it takes."""
        return all(slot is None and placed for slot, _, placed in self.sized.native.writes)


_ready = Recent(256)  # graphs by identity


def forget_graphs() -> None:
    """Lets go of the graphs that programs were found for lately. The programs stay."""
    _ready.clear()


class Template(NamedTuple):
    """A program, and which leaves of a graph's signature it takes."""

    sized: Sized
    given: tuple[int, ...]


_templates: dict[Hashable, Template] = {}


__all__ = [
    "Callable",
    "MismatchError",
    "Runner",
    "Store",
    "bind",
    "compile",
    "config",
    "dead_message",
    "forget_graphs",
    "realise",
]
