"""The `tinyflow` command, run as a user runs it: in a process of its own."""

import io
import json
import os
import re
import subprocess
import sys

import pytest

from tinyflow.core.config import FLAGS
from tinyflow.tools import progress


@pytest.fixture
def tinyflow(tmp_path):
    """Runs the command in an empty folder with an empty cache; gives (status, stdout, stderr)."""

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "tinyflow", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ
            | {"TINYFLOW_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            | environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_version_and_usage(tinyflow):
    status, out, _ = tinyflow("--version")
    assert status == 0 and out.startswith("tinyflow ")
    status, out, _ = tinyflow("--help")
    assert status == 0 and all(command in out for command in ("demo", "doctor", "graph", "profile", "cache"))
    status, _, err = tinyflow()
    assert status == 2 and "COMMAND" in err
    status, _, err = tinyflow("demo", "--steps", "0")
    assert status == 2 and "give 1 or more" in err


def test_doctor_finds_all_well(tinyflow, tmp_path):
    status, out, err = tinyflow("doctor")
    assert status == 0, out + err
    for line in ("python", "numpy", "llvm", "processor", "features", "target", "threads", "cache", "self-check"):
        assert re.search(rf"^{line} +\S", out, re.M), line
    assert all(flag.name in out for flag in FLAGS)
    assert str(tmp_path / "cache") in out and out.endswith("all is well\n")


# fmt: off
FAULTS = [
    (dict(TINYFLOW_THREADS="0"),               "THREADS=0; give 1 or more"),
    (dict(TINYFLOW_TARGET="abacus"),           "'abacus' is not a machine"),
    (dict(TINYFLOW_CACHE="/dev/null/nowhere"), "set TINYFLOW_CACHE to a folder that can"),
]
# fmt: on


@pytest.mark.parametrize("environment, fault", FAULTS)
def test_doctor_finds_a_fault(tinyflow, environment, fault):
    status, out, _ = tinyflow("doctor", **environment)
    assert status == 1 and fault in out and "checks found a fault" in out


def test_cache_shows_and_clears_the_kernels_alone(tinyflow, tmp_path):
    for part in ("kernels/one", "datasets/mnist/two", "mine"):
        path = tmp_path / "cache" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1_500_000))
    assert re.search(r"compiled kernels +1 files, 1\.5 MB", tinyflow("cache")[1])
    assert tinyflow("cache", "--clear")[1].startswith("removed 1 files, 1.5 MB")
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["datasets", "mine"]
    assert tinyflow("cache", "--clear")[:2] == (0, "there are no compiled kernels on disk\n")
    assert "nothing is kept" in tinyflow("cache", TINYFLOW_CACHE="0")[1]


def test_demo_learns_the_digits(tinyflow, tmp_path):
    status, out, err = tinyflow("demo", "-o", "pages/demo.html")
    assert status == 0, out + err
    assert float(re.search(r"accuracy +([\d.]+)", out)[1]) >= 0.90
    assert "first step" in out and "steps a second" in out and "training 1000/1000" in err
    assert "<html" in (tmp_path / "pages/demo.html").read_text(encoding="utf-8").lower()
    status, out, err = tinyflow("demo", "--steps", "1")
    assert status == 0 and (tmp_path / "cache/demo.html").exists(), out + err


def test_graph_draws_what_a_script_leaves(tinyflow, tmp_path):
    (tmp_path / "other.py").write_text("name = 'from_the_side'")
    (tmp_path / "script.py").write_text(
        "import sys, other, tinyflow as tf\n"
        "assert __name__ == '__main__'\n"
        "print(sys.argv)\n"
        "tf.placeholder(tf.float32, [None, 3], name=other.name)\n"
    )
    status, out, err = tinyflow("graph", "script.py", "-o", "out.html", "--", "-o", "x")
    assert status == 0, out + err
    assert "['script.py', '-o', 'x']" in out and "out.html: 1 operations" in out
    assert "from_the_side" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_graph_of_a_script_that_fails(tinyflow, tmp_path):
    (tmp_path / "script.py").write_text(
        "import tinyflow as tf\ntf.placeholder(tf.float32, name='before')\nraise ValueError('too bad')\n"
    )
    status, out, err = tinyflow("graph", "script.py")
    assert status == 1 and "up to where the script stopped" in out
    assert err.splitlines()[-1] == "ValueError: too bad" and "runpy" not in err
    assert "before" in (tmp_path / "graph.html").read_text(encoding="utf-8")


def test_graph_of_nothing(tinyflow, tmp_path):
    (tmp_path / "script.py").write_text("import tinyflow\n")
    status, _, err = tinyflow("graph", "script.py")
    assert status == 1 and "left no node in the default graph" in err and not (tmp_path / "graph.html").exists()
    status, _, err = tinyflow("graph", "nowhere.py")
    assert status == 2 and "there is no file nowhere.py" in err


def test_profile_of_a_script(tinyflow, tmp_path):
    (tmp_path / "script.py").write_text(
        "import sys, tinyflow.torch as torch\n"
        "x = torch.ones(64, 64)\n"
        "print(float((x @ x).tanh().sum()), sys.argv[1:])\n"
        "if sys.argv[1:]: raise ValueError('too bad')\n"
    )
    status, out, err = tinyflow("profile", "script.py", "-o", "pages/out.html")
    assert status == 0, out + err
    assert out.startswith("4096.0 []") and re.search(r"out\.html: [12] runs of [12] programs\n", out)
    assert "tanh" in (tmp_path / "pages/out.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "pages/out.trace.json").read_text())["traceEvents"]
    status, out, err = tinyflow("profile", "script.py", "--", "fail")
    assert status == 1 and "up to where the script stopped" in out and "ValueError: too bad" in err


def test_profile_names_the_lines_of_the_model(tinyflow, tmp_path):
    (tmp_path / "script.py").write_text(
        "import tinyflow.torch as torch\n"
        "w = torch.ones(64, 64, requires_grad=True)\n"
        "y = torch.ones(8, 64) @ w\n"
        "z = y.exp()\n"
        "z.sum().backward()\n"
        "with torch.no_grad():\n"
        "    print(float(w.grad.sum()))\n"
    )
    status, out, err = tinyflow("profile", "script.py")
    assert status == 0, out + err
    events = json.loads((tmp_path / "profile.trace.json").read_text())["traceEvents"]
    lines = {e["args"]["line"] for e in events if "line" in e.get("args", ())}
    assert "script.py:3" in lines and lines <= {f"script.py:{k}" for k in range(2, 8)}


def test_profile_of_nothing(tinyflow, tmp_path):
    (tmp_path / "script.py").write_text("import tinyflow\n")
    status, _, err = tinyflow("profile", "script.py")
    assert status == 1 and "ran no program: it computed nothing" in err and not (tmp_path / "profile.html").exists()
    assert tinyflow("profile", "nowhere.py")[0] == 2
    (tmp_path / "script.py").write_text("import tinyflow.torch as torch\nprint(torch.ones(3) + 1)\n")
    assert "the flag REFERENCE is set" in tinyflow("profile", "script.py", TINYFLOW_REFERENCE="1")[2]


def test_progress_in_lines_and_as_a_bar(monkeypatch):
    log = io.StringIO()
    assert list(progress.counted(8, "training", log)) == list(range(8))
    assert re.findall(r"training (\d)/8", log.getvalue()) == ["2", "4", "6", "8"]
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    list(progress.counted(3, "training", terminal))
    assert terminal.getvalue().startswith("\rtraining [====") and terminal.getvalue().endswith("0 s to go \n")
    assert all(len(progress.bar(i, 1000, "training", 2.0)) <= 80 for i in (1, 10, 1000))
