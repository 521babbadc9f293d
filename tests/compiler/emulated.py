"""Programs for a machine that is not here: compiled to object files, linked with a driver in C, run under emulation.

The driver does what runtime/program.py does: a table of slots, a table of sizes, the calls in order, each for every thread.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyflow.compiler.pipeline import Build, build
from tinyflow.core.config import config
from tinyflow.graph.node import Node
from tinyflow.passes import pipeline
from tinyflow.runtime import machine, target
from tinyflow.runtime.items import number
from tinyflow.runtime.memory import aligned

CC, EMULATOR = (
    shutil.which("aarch64-linux-gnu-gcc"),
    shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static"),
)
needs_emulator = pytest.mark.skipif(
    not (CC and EMULATOR),
    reason="needs aarch64-linux-gnu-gcc and qemu-aarch64: apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
)

DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef long long i64;
typedef void kernel(void **, i64 *, i64 *, i64, i64);
%(declarations)s
static struct { kernel *run; i64 args[%(most)d]; } calls[] = { %(calls)s };
static i64 sizes[] = { %(sizes)s }, dims[] = { %(dims)s, 0 }, given[] = { %(given)s, -1 }, results[] = { %(results)s, -1 };
int main(int count, char **paths) {
  i64 threads = atoi(paths[3]), slots = sizeof sizes / sizeof *sizes;
  void *slot[slots];
  for (i64 s = 0; s < slots; s++) memset(slot[s] = aligned_alloc(64, sizes[s]), s ? 255 : 0, sizes[s]);
  FILE *in = fopen(paths[1], "rb"), *out = fopen(paths[2], "wb");
  for (i64 *g = given; *g >= 0; g += 2) if (fread(slot[*g], 1, g[1], in) != g[1]) return 1;
  for (i64 c = 0; c < sizeof calls / sizeof *calls; c++)
    for (i64 t = 0; t < threads; t++) calls[c].run(slot, dims, calls[c].args, t, threads);
  for (i64 *r = results; *r >= 0; r += 2) fwrite(slot[*r], 1, r[1], out);
  fclose(out);
  return *(i64 *)slot[0] != 0;
}
"""


def run_emulated(nodes: Sequence[Node], fed: Mapping[Node, Any], folder: Path, threads: Sequence[int], name: str = "neon") -> list[list[Any]]:  # fmt: skip
    """The values of the nodes for each number of threads, as the row of that name computes them."""
    with config(TARGET=name):
        wanted = pipeline.run(list(nodes))
        outputs = list(dict.fromkeys(wanted))
        made = build(outputs, {})
        program = linked(made, folder, max(threads))
    arrays = [np.ascontiguousarray(fed[n], n.dtype.numpy) for n in made.leaves]
    (folder / "in").write_bytes(b"".join(a.tobytes() for a in arrays))
    found = []
    for count in threads:
        done = subprocess.run([EMULATOR, program, folder / "in", folder / "out", str(count)], capture_output=True, timeout=300)  # type: ignore[list-item]  # fmt: skip
        assert done.returncode == 0, f"the driver ended with {done.returncode}: {done.stderr.decode()}"
        values = dict(zip(outputs, read((folder / "out").read_bytes(), outputs), strict=True))
        found.append([values[n] for n in wanted])
    return found


def read(data: bytes, outputs: Sequence[Node]) -> list[np.ndarray]:
    found, at = [], 0
    for n in outputs:
        shape: Any = n.shape
        size = int(np.prod(shape, dtype=np.int64)) * n.dtype.size
        found.append(np.frombuffer(data[at : at + size], n.dtype.numpy).reshape(shape))
        at += size
    assert at == len(data)
    return found


def linked(made: Build, folder: Path, threads: int) -> Path:
    """An executable of the driver and the kernels."""
    row, texts = target.current(), {}
    for code in made.codes:
        texts.setdefault(code.text, len(texts))
    objects = []
    for text, k in texts.items():
        source = machine.Source(f"k{k}", f"k{k}", text.replace("define void @kernel(", f"define void @kernel{k}("))
        objects.append(folder / f"k{k}.o")
        objects[-1].write_bytes(machine.build(source, row).code)
    (folder / "driver.c").write_text(driver(made, texts, threads))
    path = folder / "program"
    subprocess.run([CC, "-O1", "-w", "-static", "-o", path, folder / "driver.c", *objects, "-lm"], check=True)  # type: ignore[list-item]
    return path


def driver(made: Build, texts: Mapping[str, int], threads: int) -> str:
    program = made.program
    assert len(program.items) == len(made.codes) and not program.dims, "calls in loops, and sizes known when running, are not driven"  # fmt: skip
    assert not any(c.guards for c in program.items), "branches are not driven"
    calls = [(texts[code.text], (*c.buffers, *c.dims, *c.checks)) for c, code in zip(program.items, made.codes, strict=True)]  # fmt: skip
    sizes = [aligned(number(s.size, {})) * (threads if s.per_thread else 1) for s in program.slots]
    held = [(k, number(program.slots[k].size, {})) for k in range(1, len(made.leaves) + 1)]
    results = [(k, number(program.slots[k].size, {})) for k in made.outputs]
    numbers = lambda pairs: ", ".join(f"{a}, {b}" for a, b in pairs) or "-1"
    return DRIVER % {
        "declarations": "\n".join(f"kernel kernel{k};" for k in texts.values()),
        "most": max((len(args) for _, args in calls), default=0) + 1,
        "calls": ", ".join(f"{{ kernel{k}, {{ {', '.join(map(str, (*args, 0)))} }} }}" for k, args in calls),
        "sizes": ", ".join(map(str, sizes)), "dims": "0", "given": numbers(held), "results": numbers(results),
    }  # fmt: skip
