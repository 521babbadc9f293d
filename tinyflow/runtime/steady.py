"""steady: what is made of arrays that stay the same (weights laid out for products) is made once, and kept as long as they stay.

    Watch := notes | Kept           beside a program, at one place where it is run again and again
    Split := a program cut in two: what is made of certain arrays alone, and the rest, which takes that as further arrays
    Kept  := Split, the arrays, memory

A watch takes note of the arrays of a run: which they are, and a sample of their numbers. If the next run finds the same, the
program is split, and the arrays are sealed: made read-only. Whoever writes a variable looks at that flag anyway and puts a new
array in its place, so an array that is still the same one is unchanged, which is all that a run has to look at. Only memory
that nobody but a store knows of can be sealed: an array with memory of its own, no part of another. A store that lets others
see its memory holds a view from then on (`opened`). A writer that does not ask gets numpy's error: a forgotten case is never
an old weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from tinyflow.core.errors import CompileError, OutOfMemory
from tinyflow.runtime import available
from tinyflow.runtime.memory import ALIGN, aligned
from tinyflow.runtime.spare import owns

SAMPLE = 16  # numbers of an array that are noted
PATIENCE = 4  # runs between two looks, twice as many each time that nothing came of it
MOST = 1 << 30  # bytes kept by all programs, unless one takes more alone
PART = 4  # of the free memory, at most so large a part is taken for what is kept

WRITERS: list[None] = []  # one for each run, in whatever thread, that may be writing to variables
KEPT: list[list[np.ndarray]] = []  # oldest first; empty ones are let go


class Split(NamedTuple):
    rest: Any  # what runs the rest
    places: tuple[int, ...]  # of the arrays that decide
    sizes: tuple[int, ...]  # bytes of what is kept
    prepare: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], None]  # given arrays, memory for what is kept


Splitter = Callable[[frozenset[int]], Split | None]  # of a program whose arrays of certain places stay the same


class Kept:
    """What was made of some arrays. The memory goes as soon as one of them does."""

    __slots__ = ("ids", "memory", "refs", "split")

    def __init__(self, split: Split, arrays: Sequence[np.ndarray], memory: list[np.ndarray]) -> None:
        self.split, self.memory = split, memory
        self.ids = [id(arrays[k]) for k in split.places]
        self.refs = [ref(arrays[k], lambda _: memory.clear()) for k in split.places]

    def of(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """The memory, if it was made of these arrays; empty if not."""
        return tuple(self.memory) if [id(arrays[k]) for k in self.split.places] == self.ids else ()


class Note:
    """An array as it was at some run."""

    __slots__ = ("array", "sample")

    def __init__(self, array: np.ndarray) -> None:
        self.array = ref(array)
        self.sample = array.reshape(-1)[:: max(array.size // SAMPLE, 1)].tobytes()

    def is_of(self, array: np.ndarray) -> bool:
        return self.array() is array and self.sample == Note(array).sample


class Watch:
    """`places` are those of arrays that only a store knows of."""

    __slots__ = ("kept", "notes", "patience", "places", "wait")

    def __init__(self, places: Sequence[int]) -> None:
        self.places = tuple(places)
        self.kept: Kept | None = None
        self.notes: dict[int, Note] | None = None
        self.patience: float = PATIENCE
        self.wait: float = 1 if places else math.inf

    def __call__(self, arrays: Sequence[np.ndarray], split: Splitter) -> tuple[Any, tuple[np.ndarray, ...]] | None:
        """What runs the rest, and what is kept for it, in a run on these arrays; None for the whole program."""
        kept = self.kept
        if kept is None:
            if self.wait:
                self.wait -= 1
                return None
            kept = self.kept = self.look(arrays, split)
            if kept is None:
                return None
        if memory := kept.of(arrays):
            return kept.split.rest, memory
        kept.memory.clear()
        self.kept = None
        self.pause()
        return None

    def pause(self) -> None:
        self.wait, self.patience = self.patience, 2 * self.patience

    def look(self, arrays: Sequence[np.ndarray], split: Splitter) -> Kept | None:
        found = [k for k in self.places if can_seal(arrays[k])]
        notes, self.notes = self.notes, None
        if notes is None:
            self.notes = {k: Note(arrays[k]) for k in found}
            return None
        kept = None
        with suppress(CompileError, OutOfMemory):  # the whole program runs all the same
            cut = split(frozenset(k for k in found if k in notes and notes[k].is_of(arrays[k])))
            kept = None if cut is None else keep(cut, arrays)
        if kept is None:
            self.pause()
        return kept


def can_seal(array: np.ndarray) -> bool:
    return owns(array) and array.ndim > 0 and bool(array.flags.c_contiguous)


def opened(array: np.ndarray) -> np.ndarray:
    """What a store is to hold in the place of an array that others are about to see."""
    if owns(array) and not array.flags.writeable:  # only who owns memory can make it writable again
        if array.base is None:
            array.flags.writeable = True
        else:
            array = np.asarray(array.base)
    return array.view() if owns(array) else array


def keep(split: Split, arrays: Sequence[np.ndarray]) -> Kept | None:
    """Seals the arrays and computes what is made of them; None if memory is short, or a run may still be writing there."""
    memory = room(split.sizes)
    if not memory:
        return None
    for k in split.places:
        arrays[k].flags.writeable = False
    if WRITERS:
        return None
    split.prepare(arrays, memory)
    KEPT.append(memory)
    return Kept(split, arrays, memory)


def room(sizes: Sequence[int]) -> list[np.ndarray]:
    """Memory for each, in one piece; empty if that is more than there should be."""
    total = sum(map(aligned, sizes))
    KEPT[:] = [m for m in KEPT if m]
    taken = [sum(a.nbytes for a in m) for m in KEPT]
    while KEPT and sum(taken) + total > MOST:
        KEPT.pop(0).clear()
        taken.pop(0)
    if PART * total > min((limit.bytes for limit in available.limits()), default=math.inf):
        return []
    memory = np.empty(total + ALIGN, np.uint8)
    start = -memory.ctypes.data % ALIGN
    found = []
    for size in sizes:
        found.append(memory[start : start + size])
        start += aligned(size)
    return found
