"""`tinyflow doctor`: what tinyflow stands on here, and whether it works."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

from tinyflow.core.config import FLAGS, config
from tinyflow.tools import cache
from tinyflow.tools.cli import version

Check = Callable[[], str]


class Fault(Exception):
    """Something that is wrong with this machine or installation."""


def doctor() -> int:
    """Print a line for each check of the table; 1 if one of them found a fault."""
    width = max(map(len, CHECKS))
    faults = 0
    for name, check in CHECKS.items():
        try:
            text = check()
        except Exception as error:
            faults += 1
            text = f"WRONG: {error if isinstance(error, Fault) else f'{type(error).__name__}: {error}'}"
        print(f"{name:{width}}  " + text.replace("\n", "\n" + " " * (width + 2)))
    print(f"\n{faults} of {len(CHECKS)} checks found a fault" if faults else "\nall is well")
    return 1 if faults else 0


def tinyflow() -> str:
    return f"{version()} in {Path(__file__).parent.parent}"


def python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"


def numpy() -> str:
    return np.__version__


def llvm() -> str:
    from tinyflow.runtime import machine

    return machine.LLVM


def processor() -> str:
    """The name that the system knows it by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {platform.system()}"


def features() -> str:
    """Of what the targets ask of a processor of this kind: what this one has, and what it lacks."""
    from tinyflow.runtime import machine
    from tinyflow.runtime.target import TARGETS, host_arch

    present = machine.cpu_features()
    asked = sorted({need for row in TARGETS if row.arch == host_arch() for need in row.needs})
    has, lacks = ([name for name in asked if bool(present.get(name)) is there] for there in (True, False))
    return (" ".join(has) or "none that matter") + (f" (not {' '.join(lacks)})" if lacks else "")


def target() -> str:
    from tinyflow.runtime.target import current, runs_here

    row = current()
    if not runs_here(row):
        raise Fault(f"{row.name} (the flag TARGET) needs {', '.join(row.needs)}, which this processor lacks")
    tiles = f"{row.float32[0]} x {row.float32[1]} vectors"
    return f"{row.name}: {row.vector_registers} registers of {row.vector_bytes * 8} bits, matrix tile {tiles}"


def threads() -> str:
    from tinyflow.core.config import default_threads

    if config.THREADS < 1:
        raise Fault(f"THREADS={config.THREADS}; give 1 or more")
    cores = default_threads()
    return f"{config.THREADS} of {cores} cores" + (", more than there are" if config.THREADS > cores else "")


def cache_folder() -> str:
    home = cache.folder()
    if home is None:
        return "none: CACHE is 0, every start compiles anew"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise Fault(f"{home} cannot be written ({error.strerror}); set TINYFLOW_CACHE to a folder that can") from error
    return f"{home}, writable, {cache.describe(home)}"


def flags() -> str:
    """Each flag with its value, a star where it is not the default, and its meaning."""
    rows = []
    for flag in FLAGS:
        value = getattr(config, flag.name)
        shown = str(value) + ("" if value == flag.default else " *")
        rows.append(f"{flag.name:9} {shown:4} {flag.meaning}")
    return "\n".join(rows)


def self_check() -> str:
    """A small graph and its gradient, compiled and by their numpy meaning."""
    import tinyflow as tf

    random = np.random.default_rng(0)
    table, weights = random.standard_normal((33, 17)), random.standard_normal((17, 5))
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 17])
        w = tf.placeholder(tf.float32, [17, 5])
        loss = -tf.reduce_mean(tf.log(tf.nn.softmax(tf.matmul(x, w))))
        fetches = [loss, *tf.gradients(loss, [x, w])]
        feeds = {x: table.astype(np.float32), w: weights.astype(np.float32)}
        with config(REFERENCE=0), tf.Session() as sess:
            start = time.perf_counter()
            native = sess.run(fetches, feeds)
            first = time.perf_counter()
            sess.run(fetches, feeds)
            again = time.perf_counter()
        with config(REFERENCE=1), tf.Session() as sess:
            meaning = sess.run(fetches, feeds)
    for got, expected in zip(native, meaning, strict=True):
        if not np.allclose(got, expected, rtol=1e-4, atol=1e-6):
            raise Fault(f"compiled code and numpy differ by {np.abs(got - expected).max():.3g}")
    return (
        f"compiled code agrees with numpy; {(first - start) * 1e3:.0f} ms at first, {(again - first) * 1e6:.0f} us then"
    )


def packages() -> str:
    """The optional packages that are here."""
    found = []
    for name in ("torch", "jax", "pytest", "hypothesis", "selenium"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found) or "none (none is needed)"


CHECKS: dict[str, Check] = {
    "tinyflow": tinyflow,
    "python": python,
    "numpy": numpy,
    "llvm": llvm,
    "processor": processor,
    "features": features,
    "target": target,
    "threads": threads,
    "cache": cache_folder,
    "flags": flags,
    "optional": packages,
    "self-check": self_check,
}
