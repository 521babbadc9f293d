"""Whole programs under what a process can go through: forks, several Python threads, interrupts, exit, damaged caches."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.core.expr import fresh_dim
from tinyflow.ops import contraction, elementwise, functions, leaf, reduction

PROGRAM = """
    import os, sys, threading, time
    import numpy as np
    from tinyflow import execute
    from tinyflow.core.config import config
    from tinyflow.core.dtypes import float32
    from tinyflow.ops import contraction, elementwise, leaf
    x = leaf.placeholder(float32, (400, 400), "x")
    y = x
    for _ in range(20):
        y = elementwise.tanh(contraction.matmul(y, x))
    runner = execute.compile([y])
    feeds = {x: np.random.default_rng(0).normal(size=(400, 400)).astype("f") / 20}
    run = lambda: runner(feeds, {})[0]
    first = run()
"""


def python(text, *, threads=2, timeout=120, **options):
    code = textwrap.dedent(PROGRAM) + textwrap.dedent(text)
    env = {**os.environ, "TINYFLOW_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, env=env, **options
    )


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_program_ends_with_its_own_status(threads):
    done = python("assert np.array_equal(run(), first); sys.exit(7)", threads=threads)
    assert done.returncode == 7, done.stderr


def test_exit_while_a_run_is_under_way():
    done = python(
        """
        def forever():
            while True:
                run()
        threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.3)
        sys.exit(5)
        """
    )
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr and "Fatal" not in done.stderr


def test_a_forked_child_runs_on_threads_of_its_own():
    done = python(
        """
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(run(), first) else 3)
        _, status = os.waitpid(child, 0)
        assert np.array_equal(run(), first)
        sys.exit(os.waitstatus_to_exitcode(status))
        """
    )
    assert done.returncode == 0, done.stderr


def test_an_interrupt_leaves_the_process_usable():
    code = textwrap.dedent(PROGRAM) + textwrap.dedent(
        """
        print("ready", flush=True)
        try:
            while True:
                run()
        except KeyboardInterrupt:
            assert np.array_equal(run(), first)
            sys.exit(9)
        """
    )
    env = {**os.environ, "TINYFLOW_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 9, err


def test_four_python_threads_run_one_program():
    x = leaf.placeholder(float32, (fresh_dim(), 64), "x")
    w = leaf.variable(float32, (64, 32), "w")
    runner = execute.compile([functions.softmax(contraction.matmul(x, w))])
    rng = np.random.default_rng(0)
    store = {w: rng.normal(size=(64, 32)).astype("f")}
    feeds = [rng.normal(size=(n, 64)).astype("f") for n in (1, 17, 100, 256)]
    want = [runner({x: f}, store)[0] for f in feeds]

    def work(k):
        return all(np.array_equal(runner({x: feeds[k]}, store)[0], want[k]) for _ in range(100))

    with config(THREADS=2), ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_more_threads_than_cores():
    x = leaf.placeholder(float32, (300, 200), "x")
    runner = execute.compile([reduction.sum_(elementwise.exp(contraction.matmul(x, x, transpose_b=True) * 1e-3), 0)])
    a = np.random.default_rng(0).normal(size=(300, 200)).astype("f")
    with config(THREADS=1):
        want = runner({x: a}, {})[0]
    with config(THREADS=(os.cpu_count() or 1) * 2 + 1):
        for _ in range(5):
            assert np.array_equal(runner({x: a}, {})[0], want)


def test_a_damaged_cache_is_compiled_again(tmp_path):
    code = "from tinyflow.core.dtypes import int32\nz = leaf.placeholder(int32, (7,), 'z')\nprint(execute.compile([z * 3 + 1])({z: np.arange(7)}, {})[0].tolist())"
    for damage in (
        lambda b: b"",
        lambda b: b[: len(b) // 2],
        lambda b: b[:-3] + b"abc",
        lambda b: b"\0" * len(b),
        None,
    ):
        env = {**os.environ, "TINYFLOW_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM) + code],
            capture_output=True,
            text=True,
            timeout=120,
            env=env,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str([3 * k + 1 for k in range(7)])
        kept = [f for f in (tmp_path / "kernels").rglob("*") if f.is_file()]
        assert kept
        if damage is not None:
            for f in kept:
                f.write_bytes(damage(f.read_bytes()))


def test_nan_flag_names_the_first_node():
    x = leaf.placeholder(float32, (3,), "x")
    y = elementwise.log(x) * 2.0
    runner = execute.compile([y])
    with config(NAN=1), pytest.raises(FloatingPointError, match=r"log.*NaN.*test_robust.py"):
        runner({x: np.array([1.0, -1.0, 2.0])}, {})
    assert np.isnan(runner({x: np.array([1.0, -1.0, 2.0])}, {})[0][1])
