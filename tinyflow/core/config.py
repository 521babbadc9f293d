"""The flags: one table, read from the environment, also usable as `with config(DEBUG=4): ...`.

A flag is looked up in the environment as TINYFLOW_NAME, then as NAME.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Flag(NamedTuple):
    name: str
    default: Any
    meaning: str


def default_cache() -> str:
    """Where a user's caches belong; "0", nothing on disk, for a user without a home."""
    try:
        return str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyflow")
    except RuntimeError:
        return "0"


def default_threads() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# fmt: off
FLAGS = [
    Flag("DEBUG",     0,                 "1 programs and cache hits, 2 kernels with time and share of their floor, 3 schedule, 4 loops, 5 LLVM, 6 every rewrite"),
    Flag("CHECK",     0,                 "1 verifies the graph between passes, 2 evaluates it before and after each pass"),
    Flag("REFERENCE", 0,                 "1 runs every op by its numpy meaning; nothing is compiled"),
    Flag("PROFILE",   0,                 "1 keeps when each thread began and ended each kernel, as `tinyflow profile` does"),
    Flag("CHECKPOINT", 1,                "0 keeps all values that gradients read; 1 computes cheap ones again, which takes less memory"),
    Flag("THREADS",   default_threads(), "how many threads run a program"),
    Flag("NAN",       0,                 "1 names the first node that made a NaN or an infinity"),
    Flag("TARGET",    "",                "the machine to compile for: a name of the table in runtime/target.py; empty: this machine"),
    Flag("CACHE",     default_cache(),   "folder of compiled kernels and of downloaded data; 0 keeps nothing on disk"),
]
# fmt: on


class Config:
    """The values of the flags, as attributes. Calling it changes some for the length of a `with` block."""

    def __init__(self) -> None:
        for flag in FLAGS:
            setattr(self, flag.name, from_environment(flag))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no flag {name!r}; the flags are {', '.join(f.name for f in FLAGS)}")

    @contextmanager
    def __call__(self, **changes: Any) -> Iterator[Config]:
        before = {name: getattr(self, name) for name in changes}
        try:
            for name, value in changes.items():
                setattr(self, name, value)
            yield self
        finally:
            for name, value in before.items():
                setattr(self, name, value)


def from_environment(flag: Flag) -> Any:
    """The flag's value, of the type of its default; a value that does not parse counts as absent (DEBUG is a common name)."""
    for name in (f"TINYFLOW_{flag.name}", flag.name):
        text = os.environ.get(name)
        if text is None or (name == "CACHE" or name == "TARGET"):
            continue
        try:
            return type(flag.default)(text)
        except ValueError:
            continue
    return flag.default


config = Config()
