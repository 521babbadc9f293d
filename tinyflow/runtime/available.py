"""available: how much more memory this process may take, and a check before a run takes it.

The system's free memory, the limit of the process's group (containers), and the process's own limit: the least counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tinyflow.core.errors import OutOfMemory

MOST = 6  # buffers that an error names
PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class Limit(NamedTuple):
    bytes: int
    name: str


class Buffer(NamedTuple):
    bytes: int
    text: str  # what it holds, and the user's line


def limits() -> Iterator[Limit]:
    """What the system tells; nothing where it does not."""
    found = {name: 1024 * int(rest.split()[0]) for name, rest in fields(PROC / "meminfo") if rest.split()}
    if "MemAvailable" in found:
        yield Limit(found["MemAvailable"] + found.get("SwapFree", 0), "of the system's memory")
    for name, rest in fields(PROC / "self" / "cgroup"):
        kinds, _, path = rest.partition(":")
        if name == "0":
            yield from group(GROUPS / path.lstrip("/"), "memory.max", "memory.current", "inactive_file")
        elif kinds == "memory":
            for home in (GROUPS / "memory" / path.lstrip("/"), GROUPS / "memory"):
                yield from group(home, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit

        most = getrlimit(RLIMIT_AS)[0]
        if most != RLIM_INFINITY:
            used = int((PROC / "self" / "statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            yield Limit(max(most - used, 0), "of the process's own limit (ulimit -v)")
    except (ImportError, OSError):
        return


def group(home: Path, limit: str, used: str, spare: str) -> Iterator[Limit]:
    """What a group of processes may still take: files that are cached for it make room."""
    try:
        most = (home / limit).read_text().strip()
        if most == "max" or int(most) >= 1 << 60:
            return
        cached = dict(line.split() for line in (home / "memory.stat").read_text().splitlines())
        free = int(most) - int((home / used).read_text()) + int(cached.get(spare, 0))
        yield Limit(max(free, 0), "of the limit of its control group (container)")
    except (OSError, ValueError):
        return


def fields(path: Path) -> list[tuple[str, str]]:
    try:
        return [
            (name, rest.strip()) for name, _, rest in (line.partition(":") for line in path.read_text().splitlines())
        ]
    except OSError:
        return []


def check(needed: int, temporaries: int, results: int, largest: Callable[[], Iterable[Buffer]]) -> None:
    """An error if so many bytes more are not to be had; `largest` tells what is in use where most is."""
    least = min(limits(), default=None)
    if least is None or needed <= least.bytes:
        return
    names = "\n".join(f"  {amount(b.bytes):>9}  {b.text}" for b in sorted(largest(), reverse=True)[:MOST])
    raise OutOfMemory(
        f"this run takes {amount(needed)} more, and {amount(least.bytes)} {least.name} are left: "
        f"{amount(temporaries)} for temporaries and {amount(results)} for results. The largest at once:\n{names}\n"
        "Make these smaller (a smaller batch, a shorter sequence), or compute parts again for the gradient "
        "(torch.utils.checkpoint)"
    )


def amount(size: int) -> str:
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.3g} {unit}" if size < 1000 * bytes_ else f"{size / bytes_:,.0f} {unit}"
    return f"{size} bytes"
