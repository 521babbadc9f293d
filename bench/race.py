"""race: sides take turns at a workload, a block of steps each, A B C A B C, so that what disturbs one disturbs all.

    Crew := one worker process for each side
    row  := what the report prints of a workload: for each side its losses, times and how much faster we are

Correctness comes first: a side whose loss after three steps is not the reference's is not timed.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.sides import BY_NAME, Side, shapes_of
from bench.workloads import TABLE, Workload

ROOT = Path(__file__).parent.parent
ROUNDS = 8
FLOOR_TRIES = 3
PATIENCE = 300.0  # seconds until a side that does not answer is given up
TOLERANCE = 1e-4  # relative
CACHES = ("TINYFLOW_CACHE", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
# In this order, the first that runs is what the others are compared with.
REFERENCES = ("torch", "jax", "tensorflow 1", "numpy", "tinyflow session", "tinyflow", "tinyflow compiled")

Row = dict[str, Any]


def environment(threads: int, cache: str = "") -> dict[str, str]:
    """The process environment in which every side takes so many threads, and keeps what it has compiled in a folder."""
    count = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TINYFLOW_THREADS", "TF_NUM_INTRAOP_THREADS")
    quiet = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    kept = {name: f"{cache}/{name}" for name in CACHES} if cache else {}
    return {**os.environ, **dict.fromkeys(count, str(threads)), **quiet, **kept, "PYTHONPATH": path}


class Fault(Exception):
    """A worker that answers no more."""


class Worker:
    """The process of one side, seen from here."""

    def __init__(self, side: Side, threads: int, cache: str = "") -> None:
        self.side = side
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", side.name],
            env=environment(threads, cache), cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip

    def send(self, do: str, **request: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        except BrokenPipeError:
            raise Fault(self.complaint()) from None

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise Fault(f"no answer in {PATIENCE:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Fault(self.complaint())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.send(do, **request)
        return self.receive()

    def complaint(self) -> str:
        status = self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().strip().splitlines()[-1:]
        return f"the process ended with status {status}" + "".join(f": {line}" for line in last)

    def end(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Crew:
    """The workers of several sides. They run one at a time; where nothing is timed, they start together."""

    def __init__(self, sides: Sequence[Side], threads: int, caches: str = "", floors: Any = None) -> None:
        self.threads, self.caches, self.floors = threads, caches, floors
        self.workers = {side.name: Worker(side, threads, self.cache(side.name)) for side in sides}

    def cache(self, side: str) -> str:
        """The side's folder for what it compiles; none if it may use its own."""
        return f"{self.caches}/{side}" if self.caches else ""

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers.values():
            if kind is not None:
                worker.process.kill()
            worker.end()

    def run(self, workload: Workload, seconds: float) -> Row:
        """The workload's row: every side's losses and, unless `seconds` is 0, its times."""
        row: Row = {"text": workload.text, "sides": self.start(workload, together=not seconds)}
        compare(row)
        able = [name for name, entry in row["sides"].items() if "note" not in entry]
        for name in able:
            if BY_NAME[name].ours:
                self.tell(row, name, "work", workload=workload.name)
        if seconds and able:
            self.time(row, workload, able, seconds)
        return row

    def start(self, workload: Workload, together: bool) -> dict[str, Any]:
        """Each side's losses, and seconds to its first step; or a note why there are none."""
        shapes = shapes_of(workload)
        groups = [list(self.workers)] if together else [[name] for name in self.workers]
        found: dict[str, Any] = {}
        for names in groups:
            for name in names:
                with suppress(Fault):  # which it will say when it is to answer
                    self.workers[name].send("start", workload=workload.name, shapes=shapes)
            found.update({name: started(self.workers[name]) for name in names})
        return found

    def start_again(self, workload: Workload, row: Row) -> None:
        """Seconds to the first step in a new process that finds what the first one compiled."""
        shapes = shapes_of(workload)
        for name, entry in row["sides"].items():
            if "note" not in entry:
                worker = Worker(BY_NAME[name], self.threads, self.cache(name))
                with suppress(Fault):
                    worker.send("start", workload=workload.name, shapes=shapes)
                entry["warm"] = started(worker).get("first")
                worker.end()

    def tell(self, row: Row, name: str, do: str, **request: Any) -> dict[str, Any] | None:
        """A worker's answer, kept in the row where it is of the row; None and a note if there is none."""
        try:
            answer = self.workers[name].ask(do, **request)
            if "error" in answer:
                raise Fault(answer["error"])
        except Fault as fault:
            row["sides"][name].update(note=str(fault), failed=True)
            return None
        if do == "work":
            row.setdefault("work", answer)
            row["work"]["flops"] = TABLE[request["workload"]].flops or answer["flops"]
        return answer

    def time(self, row: Row, workload: Workload, able: Sequence[str], seconds: float) -> None:
        """Blocks in turn, until every side has had its seconds; the floors take their turn too."""
        blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in able}
        for _ in range(ROUNDS):
            if self.floors is not None:
                row.setdefault("floors", []).append(self.floors.now(FLOOR_TRIES)._asdict())
            for name in able:
                answer = self.tell(row, name, "block", workload=workload.name, seconds=seconds / ROUNDS)
                if answer is not None:
                    blocks[name].append(answer)
        for name in able:
            entry = row["sides"][name]
            if "note" not in entry:
                medians = [b["median"] for b in blocks[name]]
                entry["seconds"] = statistics.median(medians)
                entry["mean"] = statistics.fmean(b["mean"] for b in blocks[name])
                entry["steps"] = sum(b["steps"] for b in blocks[name])
                entry["range"] = quartiles(medians)
                entry["blocks"] = medians
                entry["peak"] = self.tell(row, name, "peak")
        faster(row)


def started(worker: Worker) -> dict[str, Any]:
    """What a worker answers to `start`, as the row's entry."""
    try:
        answer = worker.receive()
    except Fault as fault:
        answer = {"error": str(fault)}
    if "missing" in answer:
        return {"note": answer["missing"], "missing": True}
    if "error" in answer:
        return {"note": answer["error"], "failed": True}
    return {"loss": answer["losses"][-1], "losses": answer["losses"], "first": answer["first"]}


def scaling(workload: Workload, side: Side, threads: int, seconds: float) -> dict[str, Any]:
    """Seconds a step of one thread and of several, and how many times as fast these are: medians over blocks in turn."""
    workers = {count: Worker(side, count) for count in (1, threads)}
    try:
        for worker in workers.values():
            worker.ask("start", workload=workload.name, shapes=shapes_of(workload))
        blocks: dict[int, list[float]] = {count: [] for count in workers}
        for _ in range(ROUNDS):
            for count, worker in workers.items():
                blocks[count].append(worker.ask("block", workload=workload.name, seconds=seconds / ROUNDS)["median"])
    finally:
        for worker in workers.values():
            worker.end()
    ratios = [one / many for one, many in zip(*blocks.values())]
    medians = {count: statistics.median(times) for count, times in blocks.items()}
    return {"seconds": medians, "ratio": statistics.median(ratios), "ratios": quartiles(ratios)}


def compare(row: Row) -> None:
    """Puts a note where a loss is not the reference's."""
    sides = row["sides"]
    row["reference"] = next((name for name in REFERENCES if "loss" in sides.get(name, ())), None)
    if row["reference"] is None:
        return
    want = sides[row["reference"]]["loss"]
    for entry in sides.values():
        if "loss" in entry and not close(entry["loss"], want):
            entry["note"] = f"loss after 3 steps {entry['loss']:.6g}, and {want:.6g} by {row['reference']}"
            entry["failed"] = True


def close(a: float, b: float) -> bool:
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b))


def faster(row: Row) -> None:
    """How many times as fast as each side the best of ours is: the median over pairs of blocks, and quartiles."""
    timed = {name: entry for name, entry in row["sides"].items() if "seconds" in entry}
    ours = [name for name in timed if BY_NAME[name].ours]
    if not ours:
        return
    row["best"] = min(ours, key=lambda name: timed[name]["seconds"])
    best = timed[row["best"]]["blocks"]
    for entry in timed.values():
        ratios = [b / a for a, b in zip(best, entry["blocks"])]
        entry["ratio"], entry["ratios"] = statistics.median(ratios), quartiles(ratios)


def quartiles(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return [values[0], values[0]]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [low, high]
