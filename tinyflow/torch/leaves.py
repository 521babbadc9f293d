"""Leaves: the variables that tensors live in, and how they come to be used again.

    leaf  := a VARIABLE node, whose array is in STORE
    home  := what a leaf is for: a place in the user's program, or a word
    gone  := leaf, home            its tensor is no more, but something that is remembered may read it

A loop that does the same at every step makes the same nodes again, if its leaves are the same: then nodes, gradients and
programs are found by identity. So the leaf of a tensor that is gone is given to the next one of its type, shape and home, as
soon as no live value is to be computed of it. While an op takes nodes (BUSY) nothing is given away.
"""

from __future__ import annotations

import sys
from bisect import insort
from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tinyflow.core.dtypes import DType
from tinyflow.core.errors import user_frame
from tinyflow.core.recent import Recent
from tinyflow.graph.node import Node, Shape, toposort
from tinyflow.ops.leaf import VARIABLE, variable
from tinyflow.runtime.spare import owns

Home = Hashable

STORE: WeakKeyDictionary[Node, np.ndarray] = WeakKeyDictionary()  # leaf -> the array it lives in
CUT: set[Node] = set()  # values whose history was lost because a leaf changed under it
FREE: dict[Hashable, list[Node]] = {}  # (type, shape, home) -> leaves for the next tensors there
MOST_FREE = 4096
MEMORY = 1 << 28  # bytes of arrays that may wait until what is remembered is looked through
oldest = attrgetter("uid")


class Passing:
    """How many nodes live that hold functions of the user's, and with them whatever those hold. See custom.py."""

    living = 0


class Remembered(Recent):
    """What was made of some nodes. What is made of passing ones is not remembered: it would keep them."""

    __slots__ = ()

    def __init__(self, most: int) -> None:
        super().__init__(most)
        FORGET.append(self.clear)

    def put(self, key: Hashable, value: Any) -> None:
        if not Passing.living:
            super().put(key, value)


FORGET: list[Callable[[], None]] = []  # functions that let go of what is remembered of nodes
SEEN = Remembered(4096)  # node -> the leaves below it


class Going:
    """The leaves whose tensors are gone, and what holds them up. `busy`: ops that are taking nodes now."""

    __slots__ = ("busy", "bytes", "gone", "late")

    def __init__(self) -> None:
        self.busy, self.bytes = 0, 0
        self.late = False  # a tensor has gone since they were looked through
        self.gone: list[tuple[Node, Home, bool]] = []  # leaf, home, whether it has waited for a run


GOING = Going()


def user_place() -> Home:
    """Where in the user's program a tensor is made."""
    frame = user_frame()
    return None if frame is None else (frame.f_code, frame.f_lasti)


def leaf_for(dtype: DType, shape: Shape, home: Home) -> Node:
    """A leaf that nothing else uses."""
    waiting = FREE.get((dtype, shape, home)) if home is not None else None
    return waiting.pop(0) if waiting else variable(dtype, shape)


def reads(node: Node) -> frozenset[Node]:
    """The leaves that a node is computed of."""
    found = SEEN.get(node)
    if found is None:
        found = frozenset([n for n in toposort([node]) if n.op is VARIABLE])
        SEEN.put(node, found)
    return found  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------ a tensor is gone


def holders(leaf: Any) -> int:
    return sys.getrefcount(leaf)


def holders_for(leaf: Any) -> int:
    return holders(leaf)


def measured() -> tuple[int, int]:
    """How many there seem to be of an object that the asking function alone holds, or it and its caller."""
    leaf = object()
    return holders(leaf), holders_for(leaf)


ASKER, CALLER = measured()


def give_back(leaf: Node, home: Home) -> None:
    """A tensor that lived in a leaf is gone. Its array goes at once if nothing has read it."""
    if home is None:
        CUT.discard(leaf)
        return  # it lives as long as the node
    if holders(leaf) <= CALLER:
        free(leaf, home)
        return
    array = STORE.get(leaf)
    GOING.gone.append((leaf, home, False))
    GOING.late = True
    GOING.bytes += array.nbytes if array is not None and owns(array) else 0
    if GOING.bytes > MEMORY:
        remember_nothing()


def free(leaf: Node, home: Home) -> None:
    STORE.pop(leaf, None)
    CUT.discard(leaf)
    if len(FREE) >= MOST_FREE:
        FREE.clear()
    waiting = FREE.setdefault((leaf.dtype, leaf.shape, home), [])
    if waiting:
        insort(waiting, leaf, key=oldest)
    else:
        waiting.append(leaf)


def reap(held: Callable[[], set[Node]], after_run: bool = False) -> None:
    """Frees the leaves of tensors that are gone, but for those that live values are to be computed of.

    A key is a leaf without a tensor: it waits until everything was computed, twice.
    """
    waiting, GOING.gone, GOING.bytes, GOING.late = GOING.gone, [], 0, False
    holding = held()
    for leaf, home, waited in waiting:
        if leaf in holding or (home == KEY and not waited):
            GOING.gone.append((leaf, home, waited or after_run))
        else:
            free(leaf, home)


def remember_nothing() -> None:
    """Forgets what is remembered of graphs, so that their memory can be used."""
    for forget in FORGET:
        forget()
    waiting, GOING.gone, GOING.bytes = GOING.gone, [], 0
    while waiting:
        leaf, home, waited = waiting.pop()
        if holders(leaf) <= ASKER:
            free(leaf, home)
        else:
            GOING.gone.append((leaf, home, waited))


KEY = "key"


def passing_leaf(value: Any, dtype: DType) -> Node:
    """A number that one op alone reads: the key of a random draw."""
    leaf = leaf_for(dtype, (), KEY)
    STORE[leaf] = np.array(value, dtype.numpy)
    GOING.gone.append((leaf, KEY, False))
    return leaf


def scalar_leaf(value: Any, dtype: DType) -> Node:
    """A number that may change from run to run without a new program: a variable of no dimensions."""
    leaf = variable(dtype, ())
    STORE[leaf] = np.array(value, dtype.numpy)
    return leaf
