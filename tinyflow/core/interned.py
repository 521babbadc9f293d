"""Interned: equal things are one object, for as long as anybody holds it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar
from weakref import ref

from tinyflow.core.threads import lock_over_fork

T = TypeVar("T")


class Entry(ref[T]):
    """What lies at a key. A WeakValueDictionary does the same, and takes longer to find and to keep a thing than to make it."""

    __slots__ = ("key",)
    key: Hashable


class Interned(Generic[T]):
    """The things by what makes them equal."""

    def __init__(self) -> None:
        entries: dict[Hashable, Entry[T]] = {}
        lock = lock_over_fork()

        def forget(entry: Entry[T]) -> None:
            with lock:
                found = entries.pop(entry.key, entry)
                if found is not entry:  # one that came after it
                    entries[entry.key] = found

        self.find, self.entries, self.lock, self.forget = entries.get, entries, lock, forget

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, key: Hashable) -> T | None:
        entry = self.find(key)
        return None if entry is None else entry()

    def keep(self, key: Hashable, new: T) -> T:
        """The one at that key: `new`, unless another thread was quicker."""
        entry = Entry(new, self.forget)
        entry.key = key
        with self.lock:
            found = self.entries.setdefault(key, entry)
            if found is not entry:
                before = found()
                if before is not None:
                    return before
                self.entries[key] = entry
        return new
