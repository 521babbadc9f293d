"""Effects: what a piece changes of what was there before.

    effects := write*, gradient*, entry*, call*
    write   := a tensor among the inputs gets a new value in place
    gradient:= the .grad of a leaf among the inputs becomes another tensor, or None
    entry   := a dictionary gets a tensor under a key
    call    := a function of sources, which changes plain Python state

A trace runs the face's own functions on symbols, which change symbols alone; what has changed when it ends are the effects.
A call applies them when the new values have been recorded, in one go: no part of a piece sees them half done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinyflow.graph.node import toposort
from tinyflow.jit.sources import Guard, Source
from tinyflow.jit.values import Cut, Tens
from tinyflow.torch.storage import Storage
from tinyflow.torch.tensor import Tensor

MISSING = object()


class Symbol(Tensor):
    """Stands for a leaf that requires gradients. What its .grad was is asked for when somebody looks, and it is looked at first."""

    sets = 0  # how often .grad was set

    @property  # type: ignore[override]
    def _grad(self) -> Any:
        if "now" not in self.__dict__:
            self.__dict__["now"] = self.__dict__["was"] = self.__dict__["arrive"]()
        return self.__dict__["now"]

    @_grad.setter
    def _grad(self, value: Any) -> None:
        self.__dict__["now"] = value
        self.sets += 1

    def waits(self, arrive: Callable[[], Any]) -> None:
        """From here on .grad is what `arrive` gives, until it is set."""
        self.__dict__.clear()
        self.__dict__["arrive"] = arrive

    def changed(self) -> bool:
        now = self.__dict__.get("now", MISSING)
        return now is not MISSING and now is not self.__dict__.get("was", MISSING)


class Call(NamedTuple):
    function: Callable[..., None]
    sources: Sequence[Source]
    words: str


class Entry(NamedTuple):
    holder: Source
    key: str
    value: Tens


class Effects(NamedTuple):
    """`writes` name inputs by number."""

    writes: list[tuple[int, Storage]]
    gradients: list[tuple[Source, Tens | None]]
    entries: list[Entry]
    calls: list[Call]
    looks: bool  # a leaf that requires gradients was written: all is computed at the end, as an optimiser's step does
    unseen: frozenset[Source] = frozenset()  # leaves whose .grad changes, and what it was nobody looked at

    def __bool__(self) -> bool:
        return any(self[:4])


NO_EFFECTS = Effects([], [], [], [], False)


def effects_of(t: Any) -> Effects:
    """What a trace changed."""
    storages = [(k, i.symbol._storage) for k, i in enumerate(t.inputs) if i.symbol is not None]
    writes = [(k, storage) for k, storage in storages if storage.version]
    gradients, unseen = [], set()
    for symbol, source in t.leaves:
        if symbol.changed():
            now = symbol.__dict__["now"]
            gradients.append((source, None if now is None else t.lift(now)))
            unseen |= {source} if "was" not in symbol.__dict__ else set()
    if writes or gradients:
        places = [Source("attr", i.source, "_storage") for i in t.inputs if i.kind == "tensor"]
        each = ", ".join(f"{{{k}}}" for k in range(len(places)))
        words = "no two tensors are over the same memory, but for those that were so"
        t.guard(Guard("apart", f"len({{{{{each}}}}}) == {len(places)}", tuple(places), (), words))
    return Effects(writes, gradients, t.entries, t.calls, any(s.grad_leaf for _, s in writes), frozenset(unseen))


def count_changes(t: Any) -> int:
    """Grows with whatever a trace changes."""
    written = sum(i.symbol._storage.version for i in t.inputs if i.symbol is not None)
    return written + sum(symbol.sets for symbol, _ in t.leaves) + len(t.entries) + len(t.calls)


def check_writes(t: Any) -> None:
    """What is written must have its memory for itself."""
    for i in t.inputs:
        if i.symbol is None or not i.symbol._storage.version or i.placeholder in t.written:
            continue
        t.written.add(i.placeholder)
        if i.kind == "array" and i.shared:
            raise Cut("writes into an array's memory")
        if i.kind == "tensor":
            if t.real[i.source]._storage.shared:
                raise Cut(f"writes into {i.source.words}, whose memory an array shares")
            words = f"{i.source.words} has its memory for itself"
            t.guard(
                Guard("unshared", "{1}.shared is False", (i.source, Source("attr", i.source, "_storage")), (), words)
            )


def write(storage: Storage, node: Any, attached: bool, taint: bool, times: int) -> None:
    """A storage's new value."""
    storage.update(node, attached, taint)
    storage.version += times - 1


def write_all(given: Sequence[Tensor], nodes: Sequence[Any], writes: Sequence[tuple[int, bool, bool, int]]) -> None:
    for node, (k, attached, taint, times) in zip(nodes, writes, strict=True):
        write(given[k]._storage, node, attached, taint, times)


def count_all(given: Sequence[Tensor], times: Sequence[tuple[int, int]]) -> None:
    for k, n in times:
        given[k]._storage.version += n


def words_of(effects: Effects, inputs: Sequence[Any]) -> list[str]:
    """For explain."""
    written = [inputs[k].source.words for k, _ in effects.writes]
    lines = [f"changes in place: {', '.join(written)}"] if written else []
    for what, chosen in (
        ("sets the .grad of", [source for source, v in effects.gradients if v is not None]),
        ("sets to None the .grad of", [source for source, v in effects.gradients if v is None]),
    ):
        lines += [f"{what} {', '.join(source.words for source in chosen)}"] if chosen else []
    lines += [f"sets {e.holder.words}[{e.key!r}]" for e in effects.entries]
    return lines + [c.words for c in effects.calls] + (["and computes all at once"] if effects.looks else [])


def check_history(t: Any, roots: Sequence[Tensor]) -> None:
    """The gradient of something can be traced if all that it was made of, down to leaves, is in the trace."""
    if not all(r.requires_grad for r in roots):
        return  # the face's error
    inputs = {i.placeholder: i for i in t.inputs if i.symbol is not None}
    leaves = {symbol._storage: source for symbol, source in t.leaves}
    for n in toposort([r.node for r in roots]):
        i = inputs.get(n)
        if i is None or not i.symbol._storage.attached:
            continue
        if i.symbol._storage not in leaves:
            raise Cut("runs the gradient of what was computed before")
        if i.symbol._storage.version:
            raise Cut("runs a gradient through what has changed since")
        source = leaves[i.symbol._storage]
        if t.real[source]._hooks:
            raise Cut(f"runs a gradient with hooks on {source.words}")
        t.guard(Guard("no hooks", "not {0}._hooks", (source,), (), f"{source.words} has no hooks"))
