"""A progress bar: all of one that a training loop needs, so that no package has to be installed for it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from typing import TextIO


def counted(total: int, label: str, stream: TextIO | None = None) -> Iterator[int]:
    """Count from 0 to total - 1 and show how far it is: a moving bar on a terminal, a line each quarter elsewhere."""
    out = stream or sys.stderr
    moving = out.isatty()
    start = drawn = time.perf_counter()
    for i in range(total):
        yield i
        done, now = i + 1, time.perf_counter()
        if moving and (now - drawn > 0.1 or done == total):
            out.write("\r" + bar(done, total, label, now - start) + ("\n" if done == total else ""))
            out.flush()
            drawn = now
        elif not moving and done * 4 // total > i * 4 // total:
            print(f"{label} {done}/{total}, {now - start:.1f} s", file=out, flush=True)


def bar(done: int, total: int, label: str, seconds: float) -> str:
    """One line, as wide as the terminal allows up to 80 signs: label, bar, count, steps a second, seconds to go."""
    text = f" {done}/{total}  {done / max(seconds, 1e-9):,.0f}/s  {seconds * (total - done) / done:.0f} s to go "
    room = max(min(shutil.get_terminal_size().columns, 80) - len(label) - len(text) - 4, 5)
    full = room * done // total
    return f"{label} [{'=' * full}{' ' * (room - full)}]{text}"
