"""Programs run from several Python threads at once, with any number of threads of their own."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.compiler.native import check, check_close
from tinyflow import execute
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, int32
from tinyflow.core.errors import IndexOutOfRange
from tinyflow.core.expr import fresh_dim
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.indexing import gather
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.sorting import argsort
from tinyflow.passes import pipeline
from tinyflow.runtime.program import Binding

CALLERS, RUNS = 4, 40


def from_all(run):
    """run(k) in each of some Python threads, k being its number; what goes wrong there goes wrong here."""
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(run, range(CALLERS)))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_one_program_many_callers(threads):
    """Each call has its own arrays and temporaries, whatever the sizes of the others."""
    n = fresh_dim()
    x, w = placeholder(float32, (n, 40), "x"), placeholder(float32, (40, 33), "w")
    runner = execute.compile([f.softmax(e.tanh(matmul(x, w)) * 3.0)])

    def run(k):
        rng = np.random.default_rng(k)
        for _ in range(RUNS):
            a, b = rng.uniform(-1, 1, (rng.integers(1, 50), 40)), rng.uniform(-1, 1, (40, 33))
            (got,) = runner({x: a, w: b}, {})
            powers = np.exp(3 * np.tanh(a @ b))
            check_close(got, (powers / powers.sum(1, keepdims=True)).astype(np.float32), 40)

    with config(THREADS=threads):
        from_all(run)


def test_many_programs_compiled_at_once():
    x = placeholder(float32, (50,), "x")

    def run(k):
        for step in range(8):
            (got,) = execute.compile([e.sin(x * float(step // 2)) + float(k % 2)])({x: np.ones(50, np.float32)}, {})
            check_close(got, np.full(50, np.sin(step // 2) + k % 2, np.float32))

    with config(THREADS=2):
        from_all(run)


def test_every_caller_has_its_own_variables():
    v, x = variable(float32, (60,), "v"), placeholder(float32, (60,), "x")
    runner = execute.compile([], {v: v * 0.5 + x})

    def run(k):
        store, want = {v: np.zeros(60, np.float32)}, np.zeros(60, np.float32)
        for step in range(RUNS):
            a = np.full(60, k + step, np.float32)
            runner({x: a}, store)
            want = want * np.float32(0.5) + a
        np.testing.assert_array_equal(store[v], want)

    with config(THREADS=2):
        from_all(run)


def test_errors_reach_the_caller_whose_they_are():
    x, i = placeholder(float32, (30,), "x"), placeholder(int32, (100,), "i")
    runner = execute.compile([gather(x, i) * 2.0])

    def run(k):
        failures = 0
        for step in range(RUNS):
            index = np.full(100, 30 + k if step % CALLERS == k else k, np.int32)
            try:
                (got,) = runner({x: np.arange(30, dtype=np.float32)} | {i: index}, {})
                assert np.all(got == 2 * k)
            except IndexOutOfRange as error:
                assert f"index {30 + k} " in str(error) and step % CALLERS == k
                failures += 1
        return failures

    with config(THREADS=2):
        assert from_all(run) == [RUNS // CALLERS] * CALLERS


def test_long_steps_that_cannot_be_shared_run_beside_each_other():
    """Sorts of one row each: every other one belongs to the second thread, and what reads two of them waits for both."""
    xs = [placeholder(float32, (20_000,), f"x{k}") for k in range(3)]
    orders = [argsort(x, 0) for x in xs]
    both = orders[0] + orders[1]
    with config(THREADS=2):
        made = build(pipeline.run([*orders, both]), {})
        binding = Binding(made.program, ())
        steps = binding.table.steps
        assert [(s.owner, s.barrier) for s in steps[:3]] == [(0, False), (1, False), (0, False)]
        assert any(s.barrier for s in steps[3:])
    rng = np.random.default_rng(0)
    check([*orders, both], {x: rng.normal(size=x.shape).astype(np.float32) for x in xs})
