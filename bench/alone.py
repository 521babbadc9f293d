"""alone: what needs a process that has done nothing yet. The softmax program, from `import tinyflow` on.

python -m bench.alone first      seconds of the import, and to the end of the first step
python -m bench.alone memory N   resident bytes before and after N steps
python -m bench.alone growth N   seconds to compile the first step of a transformer of N equal layers, from its graph on
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

REPEATS = 5
LAYERS = (6, 12, 24)
SETTLED = 2_000  # steps until buffers and caches have the size that they keep


def first() -> dict[str, float]:
    """Seconds of the import; and of the import, the graph and its first step. Making the data does not count."""
    start = perf_counter()
    import tinyflow

    imported = perf_counter()
    from bench.sides import BY_NAME, step_of
    from bench.workloads import TABLE

    row, side = TABLE["softmax"], BY_NAME["tinyflow session"]
    batch = row.batches(1)[0]
    begun = perf_counter()
    step_of(side, row)(*batch)
    done = perf_counter()
    del tinyflow
    return {"import": imported - start, "first": imported - start + done - begun}


def memory(steps: int) -> dict[str, int]:
    from bench.sides import BY_NAME, step_of
    from bench.workloads import TABLE

    row = TABLE["softmax"]
    step, batches = step_of(BY_NAME["tinyflow session"], row), row.batches()
    for k in range(min(SETTLED, steps)):
        step(*batches[k % len(batches)])
    before = resident()
    for k in range(steps):
        step(*batches[k % len(batches)])
    return {"before": before, "after": resident(), "steps": steps}


def growth(layers: int) -> dict[str, float]:
    """The graph is there, no kernel is: the passes, the schedule, the loops, the machine code."""
    from bench.sides import BY_NAME, step_of
    from bench.workloads import TABLE
    from tinyflow import programs

    compiled, seconds = programs.compiled, 0.0

    def timed(*graph: Any) -> programs.Native:
        nonlocal seconds
        start = perf_counter()
        native = compiled(*graph)
        for item in native.program.items:  # no loops in these
            item.function()  # compiles all that it belongs to
        seconds += perf_counter() - start
        return native

    programs.compiled = timed
    row = TABLE["gpt-tiny"]
    row = row._replace(settings={**row.settings, "layers": layers})
    float(step_of(BY_NAME["tinyflow"], row)(*row.batches(1)[0]))
    return {"seconds": seconds}


def resident() -> int:
    """The memory that the process has now; where the system does not tell, the most it had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# ------------------------------------------------------------------------------------------ asked from outside


def ask(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """What this file says in a process of its own."""
    command = [sys.executable, "-m", "bench.alone", *arguments]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{' '.join(command[1:])} ended with status {done.returncode}: {''.join(last)}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def starts(environment: dict[str, str], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Seconds of imports and first steps, with an empty cache folder and with a full one."""
    found: dict[str, list[float]] = {"import": [], "cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        ask({**environment, "TINYFLOW_CACHE": "0"}, "first")  # Python's own cache of compiled modules is filled
        for k in range(repeats):
            here = {**environment, "TINYFLOW_CACHE": f"{folder}/{k}"}
            cold, warm = ask(here, "first"), ask(here, "first")
            found["import"] += [cold["import"], warm["import"]]
            found["cold"].append(cold["first"])
            found["warm"].append(warm["first"])
    return found


def growths(environment: dict[str, str], repeats: int) -> dict[str, list[float]]:
    """Seconds to compile, by the number of layers; those of a repetition beside each other."""
    found: dict[str, list[float]] = {str(layers): [] for layers in LAYERS}
    for _ in range(repeats):
        for layers, times in found.items():
            with tempfile.TemporaryDirectory() as folder:
                times.append(ask({**environment, "TINYFLOW_CACHE": folder}, "growth", layers)["seconds"])
    return found


def installed() -> dict[str, int]:
    """Bytes on disk of tinyflow and all that it needs, without Python's own cache."""
    found = {}
    for name in ("tinyflow", "numpy", "llvmlite"):
        spec = find_spec(name)
        assert spec is not None and spec.submodule_search_locations is not None
        home = Path(spec.submodule_search_locations[0])
        folders = [home, *home.parent.glob(f"{name}.libs")]
        files = (f for folder in folders for f in folder.rglob("*") if "__pycache__" not in f.parts)
        found[name] = sum(f.stat().st_size for f in files if f.is_file())
    return found


if __name__ == "__main__":
    ASKED = {"first": first, "memory": memory, "growth": growth}
    print(json.dumps(ASKED[sys.argv[1]](*map(int, sys.argv[2:]))))
