"""Direct: a whole step as one native call, with nothing recorded in between.

A piece that changes leaves computes everything at once when it has been recorded. While nothing else waits to be computed, that
is the same program each time, on the arrays of the same inputs: they are handed to it as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.graph.node import Node
from tinyflow.ops.leaf import variable
from tinyflow.ops.random import make_key
from tinyflow.torch.leaves import CUT, STORE, reads
from tinyflow.torch.random import default_generator
from tinyflow.torch.storage import State, Storage, settled


def next_key() -> int:
    """The key of the next random draw, as plain code would have drawn it."""
    default_generator._count += 1
    return make_key(default_generator._seed, default_generator._count)


def is_free() -> bool:
    """Whether nothing waits to be computed, and no history is kept that the step would end."""
    return not (State.registry.live or config.REFERENCE or config.NAN)


class Direct:
    """The program of a piece, on leaves of its own."""

    def __init__(self, piece: Any, ready: execute.Ready, leaves: Sequence[Node], roots: Sequence[Node]) -> None:
        place = {n: k for k, n in enumerate(leaves)}
        self.ready, self.inputs = ready, piece.inputs
        self.order = [(place.get(n, -1), n) for n in ready.leaves]
        self.draws = [k for k, i in enumerate(piece.inputs) if i.kind == "draw"]
        self.numbers = [(k, i.placeholder.dtype.numpy) for k, i in enumerate(piece.inputs) if i.symbol is None]
        self.unseen = [k for k, i in enumerate(piece.inputs) if i.kind == "tensor" and i.source in piece.effects.unseen]
        self.tensors = [k for k, i in enumerate(piece.inputs) if i.kind == "tensor"]
        self.written = tuple(leaves[k] for k, _ in piece.effects.writes)
        self.places = [k for k, _ in piece.effects.writes]
        self.in_place = ready.in_place
        outputs = {n: k for k, n in enumerate(dict.fromkeys(roots))}
        self.results = [(outputs[n], s.attached) for n, s in zip(roots, piece.storages, strict=True)]

    def __call__(self, given: list[Any]) -> list[Storage]:
        """The piece's storages, computed; what it writes has been written."""
        arrays = list(given)
        for k in self.draws:
            arrays[k] = next_key()
        for k, dtype in self.numbers:
            arrays[k] = np.array(arrays[k], dtype)
        for k in self.tensors:
            arrays[k] = STORE[arrays[k]._storage.leaf]
        taken = [arrays[k] if k >= 0 else STORE[leaf] for k, leaf in self.order]
        written = [arrays[k] for k in self.places]
        for k in self.unseen:  # the memory of the last gradients is free for the next
            given[k]._grad = None
        if self.in_place and all(a.flags.carray for a in written):
            found = self.ready(taken, (), {})
        else:
            store = dict(zip(self.written, written))
            found = self.ready(taken, self.written, store)
            for k, leaf in zip(self.places, self.written):  # another array, where that could not be written
                STORE[given[k]._storage.leaf] = store[leaf]
        made, seen = [], set()
        for k, attached in self.results:
            storage = settled(found[k].copy() if k in seen else found[k])
            seen.add(k)
            if attached:  # its history has read what is no more
                storage.attached = True
                CUT.add(storage.leaf)  # type: ignore[arg-type]
            made.append(storage)
        return made


def direct(piece: Any) -> Direct | None:
    """A piece's program, if the piece computes all at once, and what it gives has no history left."""
    if not piece.effects.looks or piece.dims:
        return None
    leaves = [variable(i.placeholder.dtype, i.placeholder.shape) for i in piece.inputs]
    nodes = piece.on(leaves, {})
    roots, values = nodes[: len(piece.storages)], nodes[len(piece.storages) :]
    writes = {leaves[k]: n for (k, _), n in zip(piece.effects.writes, values, strict=True)}
    if any(s.attached and reads(n).isdisjoint(writes) for n, s in zip(roots, piece.storages, strict=True)):
        return None
    stored = [n for n, i in zip(leaves, piece.inputs, strict=True) if i.kind == "tensor"]
    ready = execute.ready(list(dict.fromkeys(roots)), writes, stored)
    return None if ready is None else Direct(piece, ready, leaves, roots)
