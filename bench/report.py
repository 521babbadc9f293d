"""report: the results as text. The JSON file holds the same and more."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bench.bars import share_of_floor
from bench.sides import BY_NAME

Results = dict[str, Any]
SCALES = {"s": [(1, "s"), (1e-3, "ms"), (1e-6, "us")], "B": [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")]}


def quantity(value: float, unit: str) -> str:
    """38.1 us, 1.2 MB, 3.10x"""
    if unit == "x":
        return f"{value:.2f}x"
    scale, name = next((s for s in SCALES[unit] if abs(value) >= s[0]), SCALES[unit][-1])
    return f"{value / scale:.3g} {name}" if abs(value) / scale < 999.5 else f"{value / scale:.0f} {name}"


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Aligned: the first column to the left, the others to the right, but for a last one that is a text."""
    count = max(map(len, rows))
    widths = [max((len(r[k]) for r in rows if k < len(r)), default=0) for k in range(count)]
    lines = []
    for r in rows:
        cells = [c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths))]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def machine(results: Results) -> str:
    m = results["machine"]
    lines = [f"{m['processor']}, {results['threads']} of {m['cores']} cores; Python {m['python']}, {m['versions']}"]
    if "floors" in results:
        floors = results["floors"]
        lines.append(f"floors: {floors['flops'] / 1e9:.0f} GFLOP/s of FMA, {floors['bytes'] / 1e9:.1f} GB/s of copying")
    if m["busy"] > 0.1:
        lines.append(f"other processes took {m['busy']:.0%} of the machine meanwhile: the figures are noisy")
    return "\n".join(lines)


def step(name: str, row: Results) -> str:
    """A workload: each side's time, its spread, how many times as fast we are, its share of the floor.

    `memory` is the most that the steps took above what the process had after its import; the first step is timed from the
    making of the model on, with nothing compiled before and in a second process.
    """
    head = f"{name}: {row['text']}"
    if "work" in row:
        work = row["work"]
        head += f" ({work['flops'] / 1e6:.4g} MFLOP, {quantity(work['bytes'], 'B')})"
    rows = [["", "a step", "blocks", "we are", "pairs", "of floor", "memory", "first, cold", "warm", "loss"]]
    notes = []
    for side, entry in row["sides"].items():
        if "note" in entry:
            rows.append([side, "-"])
            notes.append(f"  {side}: {entry['note']}")
        elif "seconds" not in entry:
            rows.append([side, *[""] * 8, f"{entry['loss']:.6g}"])
        else:
            rows.append(timed(side, entry, row))
    return "\n".join([head, columns(rows), *notes])


def timed(side: str, entry: Results, row: Results) -> list[str]:
    low, high = entry["range"]
    best = side == row.get("best")
    ratio = "best" if best else f"{entry['ratio']:.2f}x" if "ratio" in entry else ""
    pairs = "" if best or "ratios" not in entry else "{:.2f}-{:.2f}".format(*entry["ratios"])
    return [
        side, quantity(entry["seconds"], "s"), f"{quantity(low, 's')} - {quantity(high, 's')}", ratio, pairs,
        f"{share_of_floor(row, side):.0%}" if "work" in row else "",
        quantity(entry["peak"]["steps"], "B") if entry.get("peak") else "",
        quantity(entry["first"], "s"), quantity(entry["warm"], "s") if entry.get("warm") else "", f"{entry['loss']:.6g}",
    ]  # fmt: skip


def kernels(group: str, rows: dict[str, Results]) -> str:
    """One operation a line: the time of each side, and the best of ours against torch and the larger floor."""
    names = list(next(iter(rows.values()))["sides"])
    lines = [["", *names, "we are", "pairs", "GFLOP/s", "GB/s", "of floor", ""]]
    notes: dict[str, None] = {}
    for name, row in rows.items():
        entries = row["sides"]
        notes.update((f"  {n}: {entry['note']}", None) for n, entry in entries.items() if "note" in entry)
        line = [name, *(quantity(entries[n]["seconds"], "s") if "seconds" in entries[n] else "-" for n in names)]
        peer = entries.get("torch", {})
        line += [f"{peer['ratio']:.2f}x", "{:.2f}-{:.2f}".format(*peer["ratios"])] if "ratio" in peer else ["", ""]
        if "best" in row and "work" in row:
            rates = [row["work"][kind] / entries[row["best"]]["seconds"] for kind in ("flops", "bytes")]
            line += [f"{rate / 1e9:.4g}" for rate in rates]
            line.append(f"{share_of_floor(row, row['best']):.0%}")
        lines.append([*line, *[""] * (len(lines[0]) - 1 - len(line)), row["text"]])
    return "\n".join([f"{group}, with the result looked at; we are: against torch", columns(lines), *notes])


def process(results: Results) -> str:
    """Starts, size and memory."""
    lines = []
    for kind, text in (("import", "import tinyflow"), ("cold", "first step, cold"), ("warm", "first step, warm")):
        times = results.get("starts", {}).get(kind)
        if times:
            lines.append([text, quantity(statistics.median(times), "s"), f"{quantity(min(times), 's')} - {quantity(max(times), 's')}"])  # fmt: skip
    if "installed" in results:
        parts = ", ".join(f"{name} {quantity(n, 'B')}" for name, n in results["installed"].items())
        lines.append(["installed", quantity(sum(results["installed"].values()), "B"), parts])
    if "memory" in results:
        m = results["memory"]
        lines.append(["memory", quantity(m["after"] - m["before"], "B"), f"more after {m['steps']:,} steps, of {quantity(m['before'], 'B')}"])  # fmt: skip
    for layers, times in results.get("growth", {}).items():
        lines.append([f"compiling {layers} layers", quantity(statistics.median(times), "s"), f"{quantity(min(times), 's')} - {quantity(max(times), 's')}"])  # fmt: skip
    for name, found in results.get("scaling", {}).items():
        each = ", ".join(f"{quantity(s, 's')} by {count}" for count, s in found["seconds"].items())
        lines.append([f"{name}, threads", quantity(found["ratio"], "x"), each])
    return "\n".join(["a process of its own", columns(lines)])


def bars(judged: Sequence[Results]) -> str:
    lines = [["", "figure", "bar", ""]]
    for b in judged:
        limit = f"{'>=' if b['at_least'] else '<='} {quantity(b['limit'], b['unit'])}"
        verdict = "met" if b["met"] else f"short by {b['short']:.0%}"
        lines.append([b["bar"], quantity(b["value"], b["unit"]), limit, verdict])
    return "\n".join(["bars", columns(lines)])


def checked(rows: dict[str, Results]) -> str:
    """Who agrees, and who does not; rows of which the same is to say are told together."""
    told: dict[str, list[str]] = {}
    for name, row in rows.items():
        agree = [side for side, entry in row["sides"].items() if "note" not in entry]
        lines = [f"{', '.join(agree) or 'nobody'} {'agree' if len(agree) > 1 else 'alone'}"]
        lines += [f"  {side}: {entry['note']}" for side, entry in row["sides"].items() if "note" in entry]
        told.setdefault("\n".join(lines), []).append(name)
    return "\n".join(f"{' '.join(names)}: {text}" for text, names in told.items())


def failures(results: Results) -> list[str]:
    """What was wrong: ours that failed, and anyone whose loss differs."""
    found: dict[str, list[str]] = {}
    for name, row in results["rows"].items():
        for side, entry in row["sides"].items():
            if entry.get("failed") and (BY_NAME[side].ours or "loss" in entry):
                found.setdefault(f"{side}: {entry['note']}", []).append(name)
    return [f"{' '.join(names)} by {text}" for text, names in found.items()]
