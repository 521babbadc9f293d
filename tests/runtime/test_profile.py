"""What a profiled run says of itself, and what it leaves alone."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import bool_, float32, int64
from tinyflow.core.expr import dim
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.control import merge, switch
from tinyflow.ops.functions import softmax
from tinyflow.ops.indexing import gather
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.reduction import sum_
from tinyflow.runtime import floors, profile, target
from tinyflow.runtime.floors import Floor

SIDE = 192


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runs yet, and floors that need no measuring."""
    monkeypatch.setattr(profile, "RECORDS", {})
    monkeypatch.setattr(floors, "known", lambda threads: Floor(1e11 * threads, 1e10))


def network() -> tuple[list[Node], dict[Node, np.ndarray]]:
    x, w = placeholder(float32, (SIDE, SIDE), "x"), placeholder(float32, (SIDE, SIDE), "w")
    y = softmax(matmul(e.tanh(matmul(x, w)), w))
    rng = np.random.default_rng(0)
    return [y, sum_(y * y)], {n: rng.normal(size=n.shape).astype("f") for n in (x, w)}


def profiled(
    roots: list[Node], feeds: dict[Node, np.ndarray], threads: int = 2
) -> tuple[list[np.ndarray], profile.Run]:
    with config(THREADS=threads, PROFILE=1):
        got = execute.compile(roots)(feeds, {})
        return got, next(reversed(profile.RECORDS.values())).last[-1]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_stamps_are_in_order_and_results_the_same(threads: int) -> None:
    roots, feeds = network()
    got, run = profiled(roots, feeds, threads)
    want = execute.compile(roots)(feeds, {})
    assert all(np.array_equal(a, b) for a, b in zip(got, want))
    assert run.stamps.shape == (len(run.calls), threads, 2)
    for thread in range(threads):
        mine = [tuple(s) for s in run.stamps[:, thread].tolist() if s[0]]
        assert mine and all(a <= b for a, b in mine)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(mine))
    assert 0 < sum(x.ns for x in profile.lines(run)) and run.ns > 0
    assert all(x.threads in (1, threads) for x in profile.lines(run))


def test_arithmetic_and_bytes_are_counted() -> None:
    roots, feeds = network()
    _, run = profiled(roots, feeds)
    products = [x for x in profile.lines(run) if x.flops == 2 * SIDE**3]
    assert len(products) == 2
    assert all(3 * 4 * SIDE**2 <= x.bytes <= 4 * 4 * SIDE**2 for x in products)
    for x in profile.lines(run):
        assert x.share == pytest.approx(max(x.flops / 2e11, x.bytes / 1e10) * 1e9 / x.ns)
    same = profile.alike(run)
    assert sum(len(x.names) for x in same) == len(run.calls)
    assert [x.ns for x in same] == sorted((x.ns for x in same), reverse=True)


def test_a_row_that_is_read_counts_and_the_rest_of_its_table_does_not() -> None:
    table, index = placeholder(float32, (50_000, 64), "table"), placeholder(int64, (dim("n"),), "index")
    feeds = {table: np.zeros((50_000, 64), "f"), index: np.arange(7)}
    _, run = profiled([gather(table, index) * 2.0], feeds)
    (line,) = profile.lines(run)
    assert line.bytes == 7 * 64 * 4 * 2 + 7 * 8


def test_what_is_skipped_has_no_time() -> None:
    p, x = placeholder(bool_, (), "p"), placeholder(float32, (300, 300), "x")
    y = merge(p, sum_(e.sin(switch(x, p, False)), 1), sum_(e.exp(switch(x, p, True)), 1))
    _, run = profiled([y], {p: np.bool_(True), x: np.zeros((300, 300), "f")})
    assert any(x.ns == 0 for x in profile.lines(run)) and any(x.ns for x in profile.lines(run))
    assert "skipped" in profile.report(run)


def test_debug_prints_each_kernel_and_the_longest(capfd: pytest.CaptureFixture[str]) -> None:
    roots, feeds = network()
    runner = execute.compile(roots)
    runner(feeds, {})
    with config(DEBUG=2, THREADS=2):
        runner(feeds, {})
    said = capfd.readouterr().err
    each, longest = said.split("the longest:")
    count = int(re.search(r"run of (\d+) kernels", said)[1])  # type: ignore[index]
    row = re.compile(r"^k\w+( x\d+)? +[\d.]+ +[\d.]+% +[\d.]+ +[\d.]+ +\d+% +[12]  .+test_profile\.py:\d+$", re.M)
    assert len(row.findall(each)) == count and row.search(longest)
    times = [float(line.split()[2]) for line in longest.splitlines() if " x" in line]
    assert times == sorted(times, reverse=True)
    assert re.search(rf"{count} kernels: [\d,.]+ us on 2 threads", longest)


def test_runs_are_kept_under_the_flag_alone() -> None:
    roots, feeds = network()
    runner = execute.compile(roots)
    with config(PROFILE=1):
        for _ in range(profile.KEPT + 3):
            runner(feeds, {})
    record = next(reversed(profile.RECORDS.values()))
    runner(feeds, {})
    assert record.count == profile.KEPT + 3 and len(record.last) == profile.KEPT


# ------------------------------------------------------------------------------------------ floors


def test_the_best_floors_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(floors, "ROUNDS", 100)
    monkeypatch.setattr(floors, "COPIED", 1 << 16)
    known = floors.known.__wrapped__
    with config(CACHE=str(tmp_path)):
        assert known(1).flops > 1e8 and known(1).bytes > 1e8
        (path,) = (tmp_path / "floors").iterdir()
        path.write_text(json.dumps({"flops": 1e20, "bytes": 1e20}))
        assert known(1) == Floor(1e20, 1e20)
        for damage in ("", "{", "[1, 2, 3]", '{"flops": "x", "bytes": 1}'):
            path.write_text(damage)
            assert 1e8 < known(1).flops < 1e19
    with config(CACHE="0"):
        assert known(1).flops > 1e8
    with config(CACHE="/dev/null/nowhere"):
        assert known(1).flops > 1e8


def test_floor_is_the_slower_of_both() -> None:
    assert Floor(2.0, 4.0).seconds(6, 4) == 3 and Floor(2.0, 4.0).seconds(1, 8) == 2


@pytest.mark.parametrize("name", ["", "avx2", "sse2"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_floors_are_measured_in_memory_of_their_own(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors may be shorter than a cache line, at which the memory begins."""
    if name and not target.runs_here(target.named(name)):
        pytest.skip(f"needs {name}")
    monkeypatch.setattr(floors, "ROUNDS", 100)
    monkeypatch.setattr(floors, "COPIED", 1 << 16)
    with config(TARGET=name):
        found = floors.Floors(threads)
        assert found.halves.size == (threads + 1) * found.lanes and found.halves.ctypes.data % 64 == 0
        whole = floors.aligned(found.halves.size + 64, 7.0)
        found.halves = whole[: found.halves.size]
        found.measure()
    assert (whole[found.halves.size :] == 7.0).all() and (whole[: found.halves.size] != 7.0).any()
