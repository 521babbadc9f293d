"""Storage: what several tensors may share, a value that is known or still to be computed.

    storage := node, leaf, pending          value(node) is the storage's value
    settled    node is leaf                 a variable bound to an array in STORE
    pending    node is an expression        computed when somebody looks; then written into the leaf's array if there is one
    attached   node has a gradient history  kept after its value is known, which then stands in the leaf's array

Looking at one value computes all that live tensors wait for, as one program. Before the array of a leaf changes, all live
expressions that read it are computed in the same program; so a live storage's node always means what it meant.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet, WeakValueDictionary, ref

import numpy as np
from numpy.lib.array_utils import byte_bounds

from tinyflow import execute
from tinyflow.core.dtypes import as_dtype
from tinyflow.core.expr import is_found
from tinyflow.graph.node import Node, at_line, make, rewrite, substitute, toposort
from tinyflow.ops.indexing import FIND
from tinyflow.ops.leaf import VARIABLE
from tinyflow.runtime.spare import LEAST
from tinyflow.runtime.steady import opened
from tinyflow.torch.leaves import (
    CUT,
    FORGET,
    GOING,
    STORE,
    Home,
    Remembered,
    give_back,
    leaf_for,
    reads,
    reap,
    user_place,
)

LEAVES: WeakValueDictionary[Node, Any] = WeakValueDictionary()  # leaf -> the tensor whose .grad takes its gradient
RETAINED: WeakValueDictionary[Node, Any] = WeakValueDictionary()  # node -> the tensor that wants its gradient, no leaf
FAILED: WeakSet[Storage] = WeakSet()  # they keep their error, and the leaves that it came of
RUNNABLE = Remembered(256)  # pending nodes -> what is run for them
FORGET.append(execute.forget_graphs)
_serials = itertools.count()

# Ops recorded without a look before all is computed, so that a loop that never looks does not grow without bound.
LIMIT, LIMIT_WITH_HISTORY = 1_000, 20_000


class Registry:
    """The storages that are not settled, in the order in which they came to be so; `look` computes them."""

    def __init__(self, look: Callable[[Registry], None]) -> None:
        self.live: dict[int, ref[Storage]] = {}
        self.look = look
        self.recorded, self.limit, self.deferred, self.late = 0, LIMIT, 0, False
        self.leaf_waits = False  # a leaf that requires gradients has a new value on the way

    def unsettled(self) -> list[Storage]:
        return [s for r in list(self.live.values()) if (s := r()) is not None]


class Storage:
    """See the head of this file. `taint`: the node reads leaves that require gradients, but the value has no history."""

    __slots__ = ("__weakref__", "attached", "failure", "grad_leaf", "home", "leaf", "node", "pending", "registry", "serial", "shared", "taint", "version")  # fmt: skip

    def __init__(self, node: Node, attached: bool = False, taint: bool = False) -> None:
        self.node, self.attached, self.taint = node, attached, taint
        self.leaf: Node | None = None
        self.home: Home = VALUE
        self.pending, self.grad_leaf, self.shared = True, False, False
        self.failure: BaseException | None = None
        self.version = 0
        self.registry = registry = State.registry
        self.serial = next(_serials)
        registry.live[self.serial] = ref(self)
        registry.recorded += 1
        if attached:
            registry.limit = LIMIT_WITH_HISTORY
        if registry.recorded > registry.limit:
            registry.look(registry)

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        self.registry.live.pop(self.serial, None)
        leaf = self.leaf
        if leaf is not None and not ending():
            self.node = self.leaf = None  # type: ignore[assignment]
            give_back(leaf, self.home)
            if GOING.late and not GOING.busy and not self.registry.live:
                reap(held)

    def value(self) -> Node:
        """The node to read where no history is wanted."""
        return self.node if self.pending else self.leaf  # type: ignore[return-value]

    def look(self) -> np.ndarray:
        """The array of the value, computed if it is pending."""
        if self.pending:
            self.registry.look(self.registry)
            if self.failure is not None:
                raise self.failure
        return STORE[self.leaf]  # type: ignore[index]

    def show(self) -> None:
        """Others are about to see the memory, which stays where it is."""
        STORE[self.leaf] = opened(self.look())  # type: ignore[index]

    def share(self) -> None:
        """From here on others may write to the memory, too."""
        self.show()
        self.shared = True

    def update(self, node: Node, attached: bool, taint: bool) -> None:
        """In place: the value becomes that of another node, for all tensors that share it."""
        self.version += 1
        self.node, self.pending = node, True
        if not self.grad_leaf:
            self.attached = self.attached or attached
            self.taint = self.taint or taint
        self.registry.live.pop(self.serial, None)
        self.registry = State.registry
        self.serial = next(_serials)
        self.registry.live[self.serial] = ref(self)
        self.registry.recorded += 1
        self.registry.leaf_waits = self.registry.leaf_waits or self.grad_leaf
        if self.shared:  # somebody may look at the memory itself
            self.registry.late = True
            if not self.registry.deferred:
                self.registry.look(self.registry)

    def settle(self, array: np.ndarray | None) -> None:
        """The value is known: in `array`, or in the leaf's own array already."""
        if self.leaf is None:
            self.leaf = leaf_for(self.node.dtype, self.node.shape, self.home)
        if array is not None:
            STORE[self.leaf] = array
        self.pending = False
        if self.grad_leaf or not self.attached:
            self.forget()

    def forget(self) -> None:
        """From here on the value is all there is."""
        self.node, self.taint = self.leaf, False  # type: ignore[assignment]
        self.registry.live.pop(self.serial, None)

    def cut(self) -> None:
        """The history read what is no more."""
        CUT.add(self.leaf)  # type: ignore[arg-type]
        self.forget()


VALUE = "value"


def bound(array: np.ndarray, shared: bool = False) -> Storage:
    """A storage whose value is this very array, for a tensor that the user makes."""
    return settled(array, None if GOING.busy or State.tracing else user_place(), shared)


def settled(array: np.ndarray, home: Home = VALUE, shared: bool = False) -> Storage:
    """A storage whose value is known."""
    if not array.flags.c_contiguous:  # kernels read row by row
        array = np.ascontiguousarray(array)
    storage = Storage.__new__(Storage)
    storage.home = home
    leaf = leaf_for(as_dtype(array.dtype), array.shape, home)
    STORE[leaf] = array
    storage.node = storage.leaf = leaf
    storage.attached = storage.taint = storage.pending = storage.grad_leaf = False
    storage.shared, storage.failure, storage.version = shared, None, 0
    storage.registry, storage.serial = State.registry, -1
    return storage


def held() -> set[Node]:
    """The leaves that values still to be computed, and histories, are made of."""
    found: set[Node] = set()
    for s in State.real.unsettled():
        found |= reads(s.node)
    for s in FAILED:
        found |= reads(s.node)
    return found


# ------------------------------------------------------------------------------------------ computing what is pending


def compute(registry: Registry) -> None:
    """Everything that live tensors wait for, as one program."""
    registry.recorded, registry.limit, registry.late, registry.leaf_waits = 0, LIMIT, False, False
    live = registry.unsettled()
    pending = [s for s in live if s.pending and s.failure is None]
    if not pending:
        return
    if len(live) == 1 and not OPEN and live[0].leaf is None and not live[0].attached:
        compute_alone(live[0])
        return
    if OPEN and any(is_found(d) for s in pending for d in s.node.shape):
        settle_sizes()
    with_history = [s for s in live if s.attached and not s.grad_leaf]
    kept = set().union(*[reads(s.node) for s in with_history]) if any(s.leaf is not None for s in pending) else set()
    in_place = [s for s in pending if writes_in_place(s, kept)]
    in_place += apart([s for s in pending if s.shared and s.leaf in STORE and STORE[s.leaf].nbytes >= LEAST], live)
    error = None
    GOING.busy += 1
    try:
        run(pending, in_place, {s.node: s.leaf for s in with_history if not s.pending and s.node.op is not VARIABLE})  # type: ignore[misc]
    except Exception as e:
        error = e
        one_by_one(pending)
    finally:
        GOING.busy -= 1
    written = changed(in_place, pending, kept)
    for s in with_history if written else ():
        if s.leaf is not None and not written.isdisjoint(reads(s.node)):
            s.cut()
    if GOING.gone and not GOING.busy:
        reap(held, after_run=True)
    if error is not None:
        raise error


def compute_alone(s: Storage) -> None:
    """A value that nothing else waits beside: there is no history, and nothing is written but its own array."""
    GOING.busy += 1
    try:
        (array,) = execute.realise(runnable((s.node,), {}), STORE)
        s.settle(dense(array, s.node.shape))
    except Exception:
        one_by_one([s])
        raise
    finally:
        GOING.busy -= 1
    if GOING.gone and not GOING.busy:
        reap(held, after_run=True)


def writes_in_place(s: Storage, kept: set[Node]) -> bool:
    """Whether the new value goes into the leaf's own array. A history that still reads the old one keeps it, except that of
    a leaf that requires gradients: those are updated in place, and the history is lost."""
    if s.leaf is None or s.leaf not in STORE:
        return False
    if s.leaf in kept and not s.grad_leaf and not s.shared:
        give_back(s.leaf, s.home)
        s.leaf = None
        return False
    return not s.shared  # memory that others know of is copied into at the end


def apart(shared: list[Storage], live: list[Storage]) -> list[Storage]:
    """Those whose memory has nothing to do with any other array of the run: it can be written by the program itself."""
    if not shared:
        return []
    leaves = {s.leaf for s in live if s.leaf is not None}.union(*[reads(s.node) for s in live])
    spans = sorted((*byte_bounds(STORE[leaf]), leaf.uid) for leaf in leaves if leaf in STORE)
    ends = itertools.accumulate((end for _, end, _ in spans), max, initial=0)
    starts = [*(start for start, _, _ in spans[1:]), math.inf]
    alone = {uid for (low, high, uid), end, start in zip(spans, ends, starts) if end <= low and high <= start}
    return [s for s in shared if s.leaf is not None and s.leaf.uid in alone and STORE[s.leaf].flags.carray]


def run(pending: list[Storage], in_place: list[Storage], known: dict[Node, Node]) -> None:
    nodes = runnable(tuple([s.node for s in pending]), known)
    chosen = {id(s) for s in in_place}
    writes = {s.leaf: n for s, n in zip(pending, nodes, strict=True) if id(s) in chosen}
    roots = dict.fromkeys([n for s, n in zip(pending, nodes, strict=True) if id(s) not in chosen])
    arrays = dict(zip(roots, execute.realise(list(roots), STORE, writes), strict=True))  # type: ignore[arg-type]
    taken: set[Node] = set()
    for s, n in zip(pending, nodes, strict=True):
        if id(s) in chosen:
            s.settle(None)
            continue
        array = arrays[n].copy() if n in taken else arrays[n]
        taken.add(n)
        if s.shared and s.leaf in STORE:
            np.copyto(STORE[s.leaf], array)  # type: ignore[index]
            s.settle(None)
        else:
            s.settle(dense(array, s.node.shape))


def dense(array: np.ndarray, shape: Any) -> np.ndarray:
    fits = array.shape == shape and array.flags.c_contiguous
    return array if fits else np.ascontiguousarray(array).reshape(shape)


def runnable(nodes: tuple[Node, ...], known: dict[Node, Node]) -> tuple[Node, ...]:
    """The nodes, reading what is known, and without what only stands for gradients."""
    key = nodes, tuple(known.items())
    found = RUNNABLE.get(key)
    if found is None:
        found = tuple(plain(without_known(list(nodes), known)))
        RUNNABLE.put(key, found)
    return found  # type: ignore[no-any-return]


def plain(nodes: list[Node]) -> list[Node]:
    """The nodes without what only stands for gradients; see custom.py, which sets this to more."""
    for change in BEFORE_RUN:
        nodes = change(nodes)
    return nodes


BEFORE_RUN: list[Callable[[list[Node]], list[Node]]] = []


def without_known(nodes: list[Node], known: dict[Node, Node]) -> list[Node]:
    """The nodes, reading what is known instead of computing it again."""
    if not known or not any(n in known for n in toposort(nodes, stop=known.__contains__)):
        return nodes
    new = rewrite(nodes, lambda n: n, start=known)
    return [new[n] for n in nodes]


def changed(in_place: list[Storage], pending: list[Storage], held: set[Node]) -> set[Node]:
    """The leaves whose arrays were written."""
    found = {s.leaf for s in in_place if s.leaf is not None}
    for s in pending:
        if s.shared and s.leaf is not None:
            found.update(leaf for leaf in held if np.may_share_memory(STORE[leaf], STORE[s.leaf]))
    return found


def one_by_one(pending: list[Storage]) -> None:
    """After an error: those that can be computed are; the others keep their error, or the value that they had before, so that
    one bad tensor spoils no other."""
    done: list[tuple[Storage, np.ndarray]] = []
    for s in pending:
        try:
            done.append((s, execute.realise(plain([s.node]), STORE)[0]))
        except Exception as e:
            if s.leaf in STORE:  # what changes in place keeps its value
                s.pending = False
                s.forget()
                continue
            s.failure = e
            FAILED.add(s)
            s.registry.live.pop(s.serial, None)
    for s, array in done:  # after all were computed: some may read what others write
        if s.leaf in STORE:
            execute.put(STORE, s.leaf, array)  # type: ignore[arg-type]
            s.settle(None)
        else:
            s.settle(dense(array, s.node.shape))


# ------------------------------------------------------------------------------------------ sizes that data tells

OPEN: WeakValueDictionary[int, Any] = (
    WeakValueDictionary()
)  # by id: tensors whose shape is known once something has been computed


def settle_sizes() -> None:
    """Finds out the sizes that data tells, and makes numbers of them in all that waits: somebody asks for one."""
    live = State.real.unsettled()
    nodes = list(dict.fromkeys(s.node for s in live))
    finds = [n for n in toposort(nodes) if n.op is FIND]
    known = {s.node: s.leaf for s in live if not s.pending and s.leaf is not None and s.node.op is not VARIABLE}
    places = execute.realise(plain(without_known(finds, known)), STORE) if finds else []
    kept = [bound(a) for a in places]
    sizes = {n.attrs["size"]: len(a) for n, a in zip(finds, places, strict=True)}
    new: dict[Node, Node] = dict(zip(finds, (s.node for s in kept), strict=True))
    for n in toposort(nodes, stop=new.__contains__):
        if n not in new:
            attrs = {k: substitute(v, sizes) for k, v in n.attrs.items()}
            inputs = tuple(new[x] for x in n.inputs)
            same = inputs == n.inputs and attrs == n.attrs
            new[n] = n if same else at_line(n, make(n.op, *inputs, **attrs))
    for s in live:
        s.node = new[s.node]
    for n in [n for n in RETAINED if n in new]:
        RETAINED[new[n]] = RETAINED.pop(n)
    for t in list(OPEN.values()):
        t._shape, t._view, t._base = substitute(tuple(t._shape), sizes), substitute(t._view, sizes), None
    OPEN.clear()


class State:
    """The registry that new storages go to; a trace has one of its own."""

    registry = real = Registry(compute)
    tracing = False


def flush() -> None:
    """Compute everything that is pending."""
    State.registry.look(State.registry)


@contextmanager
def deferred() -> Iterator[None]:
    """Changes to shared memory inside are made together, at the end."""
    registry = State.registry
    registry.deferred += 1
    try:
        yield
    finally:
        registry.deferred -= 1
        if registry.late and not registry.deferred:
            registry.look(registry)


@contextmanager
def recording(look: Callable[[Registry], None]) -> Iterator[Registry]:
    """Storages made inside belong to a registry of their own; looking at one of them calls `look`. For tracing."""
    before, State.registry = (State.registry, State.tracing), Registry(look)
    State.tracing = True
    try:
        yield State.registry
    finally:
        State.registry, State.tracing = before
