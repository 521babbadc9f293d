"""Python threads, as few of their ways as are needed, and all of them in this file.

lock          held while a process forks, so that no child is born with it taken
side_by_side  a function of each item, several at once
helpers       threads that do what they are given until the end of a block
park          a function, in a thread that may stay in it for good
Local         values that each thread has for itself
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
Lock = threading.RLock
Local = threading.local
SOON = 0.0002  # seconds


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
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and only compiling needs it

    with ThreadPoolExecutor(min(limit, len(waiting))) as executor:
        return list(executor.map(function, waiting))


@contextmanager
def helpers(count: int) -> Iterator[Callable[[Callable[[], R]], Callable[[], R]]]:
    """`with helpers(n) as start:` start(f) has f() done by one of n threads; what it returns waits for the result.

    They call what runs without the interpreter, and get it back soon after each call, however busy the caller keeps it.
    """
    from concurrent.futures import ThreadPoolExecutor

    before = sys.getswitchinterval()
    sys.setswitchinterval(SOON)
    try:
        with ThreadPoolExecutor(count) as executor:
            yield lambda function: executor.submit(function).result
    finally:
        sys.setswitchinterval(before)


def park(function: Callable[..., object], *arguments: object) -> None:
    """Run the function in a thread that the interpreter does not wait for. RuntimeError: there are no more threads."""
    # threading.Thread waits for its start in Python, and an interrupt amid that raises RuntimeError too.
    _thread.start_new_thread(function, arguments)
