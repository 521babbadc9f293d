"""Recent: values by key, as long as they are asked for. What was not used lately is forgotten; nothing else hangs on it.

recent := now, before          two generations: what is found in the older one moves to the newer
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any


class Recent:
    """At most twice `most` values. A value is never None."""

    __slots__ = ("before", "most", "now")

    def __init__(self, most: int) -> None:
        self.most = most
        self.now: dict[Hashable, Any] = {}
        self.before: dict[Hashable, Any] = {}

    def get(self, key: Hashable) -> Any:
        found = self.now.get(key)
        if found is None and self.before:
            found = self.before.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Hashable, value: Any) -> None:
        if len(self.now) >= self.most:
            self.before, self.now = self.now, {}
        self.now[key] = value

    def clear(self) -> None:
        self.now, self.before = {}, {}
