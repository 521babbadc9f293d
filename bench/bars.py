"""The bars: what the figures of a run are held against, one row each. Nothing fails that misses one; the table says so.

bar := Bar(text, figure, limit, at_least, unit)         `figure` reads it from the results; None: it was not measured
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from bench.sides import BY_NAME
from bench.workloads import CONVS, PRODUCTS, SIZES, STEPS, STREAMS, Workload
from tinyflow.runtime.floors import Floor

Results = dict[str, Any]
FRAMEWORKS = ("torch", "torch.compile", "jax", "tensorflow 1")


class Bar(NamedTuple):
    text: str
    figure: Callable[[Results], float | None]
    limit: float
    at_least: bool
    unit: str


def against_best(results: Results) -> list[float]:
    """For each training step how many times as fast as the best of its peers we are; 0 where we failed."""
    found = []
    for workload in STEPS:
        entries = results["rows"].get(workload.name, {}).get("sides", {})
        if any(BY_NAME[side].ours for side in entries) and not any(
            BY_NAME[side].ours and "ratio" in e for side, e in entries.items()
        ):
            found.append(0.0)
        peers = [e["ratio"] for side, e in entries.items() if "ratio" in e and not BY_NAME[side].ours]
        found += [min(peers)] if peers else []
    return found


def geometric(results: Results) -> float | None:
    found = against_best(results)
    return math.prod(found) ** (1 / len(found)) if found else None


def slowest(results: Results) -> float | None:
    return least(against_best(results))


def first(row: str, kind: str) -> Callable[[Results], float | None]:
    """Seconds to the first step of the quickest of our sides."""

    def figure(results: Results) -> float | None:
        entries = results["rows"].get(row, {}).get("sides", {})
        return least(e[kind] for side, e in entries.items() if BY_NAME[side].ours and e.get(kind) and "warm" in e)

    return figure


def memory(row: str) -> Callable[[Results], float | None]:
    """What the steps of our best side took at most, in the peak of torch's."""

    def figure(results: Results) -> float | None:
        found = results["rows"].get(row, {})
        ours, peer = (found.get("sides", {}).get(side, {}).get("peak") for side in (found.get("best"), "torch"))
        return ours["steps"] / peer["steps"] if ours and peer else None

    return figure


def scaling(row: str) -> Callable[[Results], float | None]:
    return lambda results: results.get("scaling", {}).get(row, {}).get("ratio")


def layers(results: Results) -> float | None:
    """The longest time to compile a network in the shortest one, over its numbers of layers."""
    times = [statistics.median(found) for found in results.get("growth", {}).values()]
    return max(times) / min(times) if times else None


def share_of_floor(row: Results, side: str) -> float:
    """How much of the larger floor a side reaches: of the best floors found between the row's blocks, since threads of a side that
    go on spinning after their block halve some."""
    work = row["work"]
    best = Floor(*(max(f[rate] for f in row["floors"]) for rate in Floor._fields))
    return best.seconds(work["flops"], work["bytes"]) / float(row["sides"][side]["seconds"])


def floor_share(names: Sequence[str]) -> Callable[[Results], float | None]:
    """The least share of the larger floor over these rows."""

    def figure(results: Results) -> float | None:
        rows = [row for name, row in results["rows"].items() if name in names and "best" in row and "work" in row]
        return least(share_of_floor(row, row["best"]) for row in rows)

    return figure


def ratio(row: str, *sides: str) -> Callable[[Results], float | None]:
    """How many times as fast as the quickest of the sides we are."""

    def figure(results: Results) -> float | None:
        entries = results["rows"].get(row, {}).get("sides", {})
        return least(entries[s]["ratio"] for s in sides if "ratio" in entries.get(s, ()))

    return figure


def against_torch(names: Sequence[str]) -> Callable[[Results], float | None]:
    """The least of how many times as fast as torch we are over these rows."""

    def figure(results: Results) -> float | None:
        rows = [row for name, row in results["rows"].items() if name in names]
        return least(row["sides"]["torch"]["ratio"] for row in rows if "ratio" in row["sides"].get("torch", ()))

    return figure


def squares(least_side: int) -> list[str]:
    return [f"mm{side}" for side in SIZES if side >= least_side]


def dense(row: Workload) -> bool:
    """A convolution of at least 64 channels to as many, with both its gradients."""
    (_, channels, *_), (out, inner, *_) = row.shapes["x"], row.shapes["w"]  # type: ignore[index]
    return bool(row.settings["trained"]) and inner == channels >= 64 and out >= 64


def seconds(row: str) -> Callable[[Results], float | None]:
    def figure(results: Results) -> float | None:
        found = results["rows"].get(row, {})
        return found["sides"][found["best"]]["seconds"] if "best" in found else None

    return figure


def start(kind: str) -> Callable[[Results], float | None]:
    def figure(results: Results) -> float | None:
        times = results.get("starts", {}).get(kind)
        return statistics.median(times) if times else None

    return figure


def growth(results: Results) -> float | None:
    """Bytes by which the process grew, for 100,000 steps."""
    found = results.get("memory")
    return (found["after"] - found["before"]) * 100_000 / found["steps"] if found else None


def size(results: Results) -> float | None:
    return float(sum(results["installed"].values())) if "installed" in results else None


def least(values: Iterable[float]) -> float | None:
    return min(values, default=None)


# fmt: off
BARS = [
    Bar("training steps, against the best peer of each: geometric mean", geometric,   1.5,  True,  "x"),
    Bar("training steps, against the best peer of each: the least", slowest,          1.0,  True,  "x"),
    Bar("softmax, against the quickest framework",     ratio("softmax", *FRAMEWORKS), 4.0,  True,  "x"),
    Bar("softmax, against numpy by hand",              ratio("softmax", "numpy"),     2.0,  True,  "x"),
    Bar("matrix products from 64 up, against torch",   against_torch(squares(64)),    1.0,  True,  "x"),
    Bar("matrix products from 512 up, of the floor",   floor_share(squares(512)),     0.95, True,  "x"),
    Bar("products tall, wide, batched, turned, against torch", against_torch([w.name for w in PRODUCTS]), 1.0, True, "x"),
    Bar("convolutions of 64 channels and more, three passes, of the floor", floor_share([w.name for w in CONVS if dense(w)]), 0.8, True, "x"),
    Bar("operations on 16M floats, of the floor",      floor_share([w.name for w in STREAMS]), 0.85, True, "x"),
    Bar("first step of resnet18, nothing cached",      first("resnet18", "first"),    4.0,  False, "s"),
    Bar("first step of resnet18, kernels on disk",     first("resnet18", "warm"),     0.4,  False, "s"),
    Bar("first step of gpt-small, nothing cached",     first("gpt-small", "first"),   4.0,  False, "s"),
    Bar("first step of gpt-small, kernels on disk",    first("gpt-small", "warm"),    0.4,  False, "s"),
    Bar("compiling 6, 12, 24 equal layers, longest in shortest", layers,              1.2,  False, "x"),
    Bar("memory of resnet18's steps, in torch's",      memory("resnet18"),            0.7,  False, "x"),
    Bar("memory of gpt-small's steps, in torch's",     memory("gpt-small"),           0.7,  False, "x"),
    Bar("resnet18, all threads against one",           scaling("resnet18"),           1.8,  True,  "x"),
    Bar("gpt-small, all threads against one",          scaling("gpt-small"),          1.8,  True,  "x"),
    Bar("a cached run of one operation",               seconds("one-op"),             5e-6, False, "s"),
    Bar("first step of softmax, nothing cached",       start("cold"),                 1.0,  False, "s"),
    Bar("first step of softmax, kernels on disk",      start("warm"),                 0.3,  False, "s"),
    Bar("import tinyflow",                             start("import"),               0.3,  False, "s"),
    Bar("memory gained in 100,000 steps",              growth,                        2e6,  False, "B"),
    Bar("installed, with numpy and llvmlite",          size,                          2.5e8, False, "B"),
]
# fmt: on


def judged(results: Results) -> list[dict[str, Any]]:
    """Every bar whose figure was measured: met, or short of it by how much."""
    found = []
    for bar in BARS:
        value = bar.figure(results)
        if value is not None:
            met = value >= bar.limit if bar.at_least else value <= bar.limit
            short = 0.0 if met else (1 - value / bar.limit if bar.at_least else value / bar.limit - 1)
            found.append({"bar": bar.text, "value": value, "limit": bar.limit, "at_least": bar.at_least, "unit": bar.unit, "met": met, "short": short})  # fmt: skip
    return found
