"""Running out of memory is told before anything is computed, and what a run takes is known before."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.core.errors import OutOfMemory
from tinyflow.core.expr import dim
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.reduction import sum_
from tinyflow.runtime import available, program
from tinyflow.runtime.available import Limit, amount

WIDTH = 3000
N = dim("n")
X, V = placeholder(float32, (N, 8), "x"), variable(float32, (), "v")


def wide() -> Node:
    """For each row of x some thousand numbers."""
    w, u = placeholder(float32, (8, WIDTH), "w"), placeholder(float32, (WIDTH, 8), "u")
    hidden = e.exp(matmul(X, w))
    return sum_(matmul(hidden / sum_(hidden, 0, keepdims=True), u))


def feeds(rows: int, root: Node) -> dict[Node, np.ndarray]:
    given = execute.compile([root]).placeholders
    return {p: np.ones([rows if d is N else d for d in p.shape], "f") for p in given}


def test_the_error_names_what_is_largest_and_nothing_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    y = wide()
    runner = execute.compile([y], {V: V + 1.0})
    store = {V: np.zeros((), "f")}
    runner(feeds(10, y), store)
    assert store[V] == 1
    monkeypatch.setattr(available, "limits", lambda: iter([Limit(50 << 20, "of the test")]))
    monkeypatch.setattr(program, "ARENAS", [])
    with pytest.raises(OutOfMemory) as caught:
        runner(feeds(20_000, y), store)
    said = str(caught.value)
    assert "52.4 MB of the test are left" in said and "test_available.py" in said and "240 MB" in said
    assert store[V] == 1
    runner(feeds(100, y), store)
    assert store[V] == 2


def test_what_is_free_already_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    y = wide()
    runner = execute.compile([y])
    runner(feeds(9000, y), {})
    monkeypatch.setattr(available, "limits", lambda: iter([Limit(1 << 20, "of the test")]))
    runner(feeds(8999, y), {})


def test_memory_is_known_before_a_run_and_is_what_is_used(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "ARENAS", [])
    y = wide()
    runner = execute.compile([y, X * 2.0])
    found = runner.memory(feeds(700, y), {})
    assert program.ARENAS == [] and found.results == 4 + 700 * 8 * 4 and found.temporaries > 700 * WIDTH * 4
    with config(DEBUG=1):
        runner(feeds(700, y), {})
    assert f"{found.temporaries:,} bytes of temporaries, {found.results:,} bytes of results" in capfd.readouterr().err
    (arena,) = program.ARENAS
    assert arena.bytes == found.temporaries


LIMITED = """
import resource, sys
import tinyflow.torch as torch
x = torch.ones(2000, 2000)
assert float((x @ x).sum()) == 2000.0 ** 3
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)
try:
    big = (torch.ones(40000, 1) @ torch.ones(1, 40000)).exp()
    float((big @ big).sum())
except MemoryError as error:
    print(type(error).__name__, error)
print(float((x @ x).sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_under_a_limit_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(LIMITED)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert "OutOfMemory" in done.stdout and "ulimit -v" in done.stdout and "script.py:" in done.stdout
    assert done.stdout.splitlines()[-1] == "8000000000.0"


def test_limits_are_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (groups / "job").mkdir(parents=True)
    (groups / "memory" / "old").mkdir(parents=True)
    monkeypatch.setattr(available, "PROC", proc)
    monkeypatch.setattr(available, "GROUPS", groups)
    assert not [x for x in available.limits() if "process's own" not in x.name]
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\nSwapFree: 1000 kB\nHugePages_Total: 0\n")
    (proc / "self" / "cgroup").write_text("3:memory:/old\n0::/job\n")
    (groups / "job" / "memory.max").write_text("4000000\n")
    (groups / "job" / "memory.current").write_text("1500000\n")
    (groups / "job" / "memory.stat").write_text("anon 1000000\ninactive_file 500000\n")
    old = groups / "memory" / "old"
    (old / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    found = {x.bytes for x in available.limits() if "process's own" not in x.name}
    assert found == {6000 * 1024, 3_000_000}
    (old / "memory.limit_in_bytes").write_text("1000\n")
    (old / "memory.usage_in_bytes").write_text("2000\n")
    (old / "memory.stat").write_text("total_inactive_file 100\n")
    assert min(available.limits()).bytes == 0
    (groups / "job" / "memory.max").write_text("damaged")
    assert {x.bytes for x in available.limits() if "container" in x.name} == {0}


def test_amounts_read_well() -> None:
    assert [amount(n) for n in (12, 3_400, 5_060_000, 123_456_789, 7_000_000_000, 4_321_000_000_000)] == [
        "12 bytes", "3.4 KB", "5.06 MB", "123 MB", "7 GB", "4,321 GB",
    ]  # fmt: skip
