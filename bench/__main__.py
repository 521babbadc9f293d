"""python -m bench: how fast tinyflow is, beside its peers in the same run.

    python -m bench                     everything, some minutes
    python -m bench softmax mlp         these alone
    python -m bench --quick             everything, coarsely
    python -m bench --check             whether all sides compute the same; no clock

Sides take turns in blocks, each in a process of its own, with the same threads, types, batches and arithmetic. The
ratios are the medians of blocks beside each other. A side whose loss after three steps differs is not timed, and the
exit status is 1. Nothing fails for being slow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import report
from bench.alone import ask, growths, installed, starts
from bench.bars import judged
from bench.race import Crew, environment, scaling
from bench.sides import BY_NAME, SIDES, Side, sides_of
from bench.workloads import GROUPS, KERNELS, SEVERAL, STEPS, TABLE, Workload

ALONE = "process"
OUT = Path(__file__).parent / "results.json"
STEPS_OF_MEMORY = 100_000
SCALED = ("resnet18", "gpt-small")  # workloads of which one thread is held against several


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    head, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python -m bench", description=f"{head}\n\n{rest}", formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    known = [*GROUPS, *SEVERAL, ALONE]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(known)}; all of it if none is named"
    )
    parser.add_argument("--check", action="store_true", help="compare the results of all sides, and time nothing")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time, and no torch.compile")
    parser.add_argument("--seconds", type=float, default=None, help="for each side of a workload (default: 2)")
    parser.add_argument("--threads", type=int, default=len(cores()), help="for every side (default: the cores)")
    parser.add_argument("--sides", nargs="+", metavar="SIDE", help=f"only these: {', '.join(BY_NAME)}")
    parser.add_argument("--json", type=Path, default=OUT, metavar="PATH", help="where the results go as JSON")
    args = parser.parse_args(argv)
    for given, table in ((args.names, known), (args.sides or [], list(BY_NAME))):
        for name in given:
            if name not in table:
                parser.error(f"{name!r} is none of {', '.join(table)}")
    if args.threads < 1 or (args.seconds is not None and args.seconds <= 0):
        parser.error("--threads and --seconds are greater than 0")
    if args.seconds is None:
        args.seconds = 0.5 if args.quick else 2.0
    return args


def cores() -> list[int]:
    """Those that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


class Bench:
    """A run: what was asked for, and what has been found so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        names = args.names or [*GROUPS, *([] if args.check else [ALONE])]
        self.names = list(dict.fromkeys(one for name in names for one in SEVERAL.get(name, [name])))
        self.results: dict[str, Any] = {"threads": args.threads, "rows": {}}
        self.usage = Usage()
        self.floors: Any = None

    def run(self) -> int:
        if not self.args.check:
            from tinyflow.runtime.floors import Floors

            self.floors = Floors(self.args.threads)
        for name in self.names:
            if name in GROUPS:
                self.group(name, GROUPS[name])
        if ALONE in self.names:
            self.alone()
        return self.end()

    def sides(self, workload: Workload) -> list[Side]:
        """Who takes part. torch.compile takes its time to start; one operation is the same, compiled or not."""
        alone = any(workload in rows for rows in KERNELS.values())
        hasty = self.args.check or self.args.quick
        chosen = self.args.sides or [s.name for s in SIDES if not (s.name == "torch.compile" and hasty)]
        return [s for s in sides_of(workload) if s.name in chosen and not (s.compiled and alone)]

    def group(self, name: str, workloads: Sequence[Workload]) -> None:
        """The rows of one group. Those of one program are run by the same processes."""
        seconds = 0.0 if self.args.check else self.args.seconds / (1 if workloads[0] in STEPS else 4)
        rows = {}
        for program in dict.fromkeys(w.program for w in workloads):
            mine = [w for w in workloads if w.program == program]
            self.measure_floors()  # before workers start and are busy with that
            with self.caches(mine[0]) as caches:
                with Crew(self.sides(mine[0]), self.args.threads, caches, self.floors) as crew:
                    for workload in mine:
                        rows[workload.name] = crew.run(workload, seconds)
                        self.measure_floors()
                if caches:
                    crew.start_again(mine[0], rows[mine[0].name])
                for workload in mine:
                    if name not in KERNELS:
                        self.show(workload.name, rows[workload.name])
        self.results["rows"].update(rows)
        if name in KERNELS:
            self.show_kernels(name, rows)

    def caches(self, workload: Workload) -> AbstractContextManager[str]:
        """An empty folder for what is compiled, where first steps count."""
        counts = workload in STEPS and not self.args.check and not self.args.quick
        return tempfile.TemporaryDirectory() if counts else nullcontext("")

    def measure_floors(self) -> None:
        if self.floors is not None:
            self.floors.measure()
            self.results["floors"] = {"flops": self.floors.flops, "bytes": self.floors.bytes}

    def show(self, name: str, row: dict[str, Any]) -> None:
        if self.args.check:
            print(report.checked({name: row}), flush=True)
        else:
            print(report.step(name, row), end="\n\n", flush=True)

    def show_kernels(self, name: str, rows: dict[str, dict[str, Any]]) -> None:
        if self.args.check:
            print(report.checked(rows), flush=True)
        else:
            print(report.kernels(name, rows), end="\n\n", flush=True)

    def alone(self) -> None:
        """Starts, size and memory: each in a process that has done nothing else."""
        here = environment(self.args.threads)
        self.results["starts"] = starts(here, 2 if self.args.quick else 5)
        self.results["installed"] = installed()
        steps = STEPS_OF_MEMORY // (20 if self.args.quick else 1)
        self.results["memory"] = ask(here, "memory", str(steps))
        self.results["growth"] = growths(here, 1 if self.args.quick else 3)
        if self.args.threads > 1:
            side, seconds = BY_NAME["tinyflow compiled"], 4 * self.args.seconds
            self.results["scaling"] = {name: scaling(TABLE[name], side, self.args.threads, seconds) for name in SCALED}
        print(report.process(self.results), end="\n\n", flush=True)

    def end(self) -> int:
        self.results["machine"] = {"cores": self.args.cores, "busy": self.usage.others(), **about()}
        failures = report.failures(self.results)
        if not self.args.check:
            self.results["bars"] = judged(self.results)
            if self.results["bars"]:
                print(report.bars(self.results["bars"]), end="\n\n")
            print(report.machine(self.results))
            self.args.json.parent.mkdir(parents=True, exist_ok=True)
            self.args.json.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
            print(f"all figures: {self.args.json}")
        for failure in failures:
            print(f"wrong: {failure}", file=sys.stderr)
        return 1 if failures else 0


class Usage:
    """Who used the processor since this was made."""

    def __init__(self) -> None:
        self.before = self.now()

    def now(self) -> tuple[float, float, float]:
        """Seconds of all cores, of those at work, and of this process and those that it waited for."""
        mine = sum(os.times()[:4])
        stat = Path("/proc/stat")
        if not stat.exists():
            return 0.0, 0.0, mine
        ticks = [float(t) / os.sysconf("SC_CLK_TCK") for t in stat.read_text().splitlines()[0].split()[1:9]]
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4], mine

    def others(self) -> float:
        """The share of the machine that other processes took; 0 where the system does not tell."""
        total, busy, mine = (b - a for a, b in zip(self.before, self.now()))
        return max(0.0, (busy - mine) / total) if total else 0.0


def about() -> dict[str, Any]:
    """The machine and what ran on it."""
    versions = []
    for name in ("numpy", "llvmlite", "torch", "jax", "tensorflow"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return {"processor": processor(), "python": platform.python_version(), "versions": ", ".join(versions)}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    args.cores = len(cores())
    if args.threads < args.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[: args.threads])  # some peers take as many threads as there are cores
    os.environ["TINYFLOW_THREADS"] = str(args.threads)
    return Bench(args).run()


if __name__ == "__main__":
    sys.exit(main())
