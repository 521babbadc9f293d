"""The bars: what the figures of a run are held against, one row each. Nothing fails that misses one; the table says so.

bar := Bar(text, figure, limit, at_least, unit)         `figure` reads it from the results; None: it was not measured
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Results = dict[str, Any]
FRAMEWORKS = ("torch", "torch.compile", "jax", "tensorflow 1")


class Bar(NamedTuple):
    text: str
    figure: Callable[[Results], float | None]
    limit: float
    at_least: bool
    unit: str


def ratio(row: str, *sides: str) -> Callable[[Results], float | None]:
    """How many times as fast as the quickest of the sides we are."""

    def figure(results: Results) -> float | None:
        entries = results["rows"].get(row, {}).get("sides", {})
        return least(entries[s]["ratio"] for s in sides if "ratio" in entries.get(s, ()))

    return figure


def products(from_side: int) -> Callable[[Results], float | None]:
    """The least share of torch's rate over the square products of that size and larger."""

    def figure(results: Results) -> float | None:
        rows = [row for name, row in results["rows"].items() if name.startswith("mm") and int(name[2:]) >= from_side]
        return least(row["sides"]["torch"]["ratio"] for row in rows if "ratio" in row["sides"].get("torch", ()))

    return figure


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
    Bar("softmax, against the quickest framework",     ratio("softmax", *FRAMEWORKS), 3.0,  True,  "x"),
    Bar("softmax, against numpy by hand",              ratio("softmax", "numpy"),     1.5,  True,  "x"),
    Bar("mlp, against torch eager",                    ratio("mlp", "torch"),         1.5,  True,  "x"),
    Bar("matrix products from 256 up, against torch",  products(256),                 0.95, True,  "x"),
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
