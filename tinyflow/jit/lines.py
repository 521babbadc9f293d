"""Calls made as if from a line of a user's file, so that nodes and errors name that line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


@functools.lru_cache(maxsize=8192)
def on_line(file: str, line: int) -> Callable[..., Any]:
    """A function that calls another with given arguments, and stands at this line of this file."""
    scope: dict[str, Any] = {}
    text = "\n" * (max(line, 1) - 1) + "def call(function, args, kwargs): return function(*args, **kwargs)"
    exec(compile(text, file, "exec"), scope)
    return scope["call"]  # type: ignore[no-any-return]
