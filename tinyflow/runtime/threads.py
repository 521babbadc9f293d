"""Python threads, as few of their ways as this runtime needs, and all of them in this file.

lock          held while a process forks, so that no child is born with it taken
side_by_side  a function of each item, several at once
park          a daemon thread inside a native function
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
Lock = threading.RLock
Thread = threading.Thread


def lock_over_fork() -> Lock:
    """A lock that a fork waits for: the child finds it free, and what it guards whole."""
    lock = Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


def side_by_side(function: Callable[[T], R], items: Iterable[T], limit: int) -> list[R]:
    """[function(item) for item in items], up to `limit` of them at once."""
    waiting = list(items)
    if min(limit, len(waiting)) <= 1:
        return [function(item) for item in waiting]
    with ThreadPoolExecutor(min(limit, len(waiting))) as executor:
        return list(executor.map(function, waiting))


def park(function: Callable[..., object], *arguments: object) -> Thread:
    """Run the function in a thread that does not keep the interpreter from ending."""
    thread = Thread(target=function, args=arguments, name="tinyflow", daemon=True)
    thread.start()
    return thread
