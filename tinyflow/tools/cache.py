"""`tinyflow cache`: what is kept on disk, and how to be rid of it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from tinyflow.core.config import config


def folder() -> Path | None:
    """The cache folder, or None where the flag CACHE says to keep nothing."""
    return None if str(config.CACHE) in ("", "0") else Path(config.CACHE)


def weight(path: Path) -> tuple[int, int]:
    """(files, bytes) below a folder; files that vanish meanwhile do not count."""
    sizes = []
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            sizes += [file.stat().st_size] if file.is_file() else []
    return len(sizes), sum(sizes)


def describe(path: Path) -> str:
    files, size = weight(path)
    return f"{files:,} files, {size / 1e6:,.1f} MB"


def contents() -> int:
    """Print what the cache folder holds."""
    home = folder()
    if home is None:
        print("nothing is kept on disk (the flag CACHE is 0)")
        return 0
    print(home)
    for part, what in (
        ("kernels", "compiled kernels"),
        ("programs", "programs of them"),
        ("datasets", "downloaded data"),
    ):
        print(f"  {what:18} {describe(home / part)}")
    return 0


def clear() -> int:
    """Remove the compiled kernels, and what programs are made of them. Downloaded data stays."""
    home = folder()
    kernels = home / "kernels" if home else None
    if home is None or kernels is None or not kernels.is_dir():
        print("there are no compiled kernels on disk")
        return 0
    what = describe(kernels)
    shutil.rmtree(home / "programs", ignore_errors=True)
    shutil.rmtree(kernels)
    print(f"removed {what} of compiled kernels from {kernels}")
    return 0
