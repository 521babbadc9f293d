"""Step tables run by any number of threads, by several Python threads, with guards and barriers."""

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.runtime.kernels import CELLS, World, check
from tinyflow.core.config import config
from tinyflow.runtime import runner, spmd
from tinyflow.runtime.runner import Step, StepTable, pool


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    with config(THREADS=2):
        yield


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("nthreads", range(1, 9))
def test_barriers_part_what_they_should(nthreads: int) -> None:
    check(nthreads, rounds=50)


def test_a_run_of_some_of_the_steps(world: World) -> None:
    table = StepTable([world.step("add", 10**i) for i in range(4)])
    slots, dims = world.slots.ctypes.data, world.dims.ctypes.data
    pool.run(table, slots, dims, 1, 3, 2)
    assert world.cells[:3].tolist() == [110, 110, 0]
    pool.run(table, slots, dims, 2, 2, 2)
    pool.run(table, slots, dims, 0, 1, 1)
    assert world.cells[:3].tolist() == [111, 110, 0]


@pytest.mark.parametrize("nthreads", [1, 2, 5])
def test_an_empty_table(world: World, nthreads: int) -> None:
    world.run([], nthreads)
    assert not world.cells.any()


@pytest.mark.parametrize("nthreads", [1, 2, 5])
def test_a_serial_step_is_told_that_it_is_alone(world: World, nthreads: int) -> None:
    world.run([world.step("add", 1), world.step("total", barrier=True, serial=True)], nthreads)
    assert world.cells.sum() == nthreads
    assert world.totals.tolist() == [1] + [0] * (CELLS - 1)


# fmt: off
GUARDS = [
    (1,   [],               True),
    (1,   [(2, 1)],         True),
    (0,   [(2, 1)],         False),
    (0,   [(2, 0)],         True),
    (255, [(2, 255)],       True),
    (1,   [(2, 1), (2, 0)], False),
    (1,   [(2, 0), (2, 1)], False),
    (1,   [(2, 1), (2, 1)], True),
]
# fmt: on


@pytest.mark.parametrize("byte, guards, runs", GUARDS)
@pytest.mark.parametrize("nthreads", [1, 3])
def test_guards(world: World, byte: int, guards: list[tuple[int, int]], runs: bool, nthreads: int) -> None:
    world.byte[0] = byte
    world.run([world.step("add", 1, guards=guards), world.step("add", 10)], nthreads)
    assert world.cells.sum() == nthreads * (10 + runs)


@pytest.mark.parametrize("nthreads", [1, 2, 4])
def test_a_step_decides_what_runs_after_it(world: World, nthreads: int) -> None:
    """A branch and its two sides, many times: all threads take the same one, and keep the skipped side's barriers."""
    steps = []
    for i in range(50):
        steps += [
            world.step("say", i % 2, barrier=True, serial=True),
            world.step("add", 1, barrier=True, guards=[(2, 1)]),
            world.step("add", 1000, barrier=True, guards=[(2, 0)]),
        ]
    world.run(steps, nthreads)
    assert world.cells.tolist() == [25025] * nthreads + [0] * (CELLS - nthreads)


def test_python_threads_run_at_once() -> None:
    worlds = [World() for _ in range(4)]

    def work(world: World, nthreads: int) -> None:
        steps = [world.step("add", 1), world.step("total", barrier=True), world.step("add", 0, barrier=True)]
        for _ in range(200):
            world.run(steps, nthreads)

    threads = [threading.Thread(target=work, args=(world, 1 + i)) for i, world in enumerate(worlds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, world in enumerate(worlds):
        assert world.cells[: i + 2].tolist() == [200] * (i + 1) + [0]
        assert world.totals[: i + 1].tolist() == [(i + 1) * 200 * 201 // 2] * (i + 1)


def test_the_crew_follows_the_flag() -> None:
    before = None
    for size in (6, 3, 8, 2):
        with config(THREADS=size):
            check(2)
            assert pool.crew is not None
            assert pool.crew.size == size
            assert before is None or sorted(before.left) == list(range(1, before.size))
            before = pool.crew


def test_resizing_while_others_run() -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                check(2)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for size in (2, 3, 4) * 10:
        with config(THREADS=size):
            check(2)
            check(size)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_system_without_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    park = runner.park

    def stingy(function: object, tid: int) -> object:
        if tid > 2:
            raise RuntimeError("can't start new thread")
        return park(function, tid)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "park", stingy)
    world = World()
    with config(THREADS=5):
        world.run([world.step("add", 1)], 5)
        assert world.cells.tolist() == [1, 1, 1] + [0] * (CELLS - 3)
        world.run([world.step("add", 1)], 4)
        assert world.cells.tolist() == [2, 2, 2] + [0] * (CELLS - 3)


def test_one_thread_makes_no_crew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "Crew", None)
    monkeypatch.setattr(pool, "crew", None)
    check(1)


def test_a_step_may_call_python(world: World) -> None:
    called: list[tuple[int, int]] = []
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    kernel = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, number, number)
    host = kernel(lambda slots, dims, args, tid, n: called.append((tid, n)))
    function = ctypes.cast(host, pointer).value
    assert function is not None
    world.run([Step(function), Step(function, barrier=True, serial=True)], 3)
    assert sorted(called[:3]) == [(0, 3), (1, 3), (2, 3)]
    assert called[3:] == [(0, 1)]


def test_arguments_that_are_no_integers_are_refused(world: World) -> None:
    table = StepTable([world.step("add", 1)])
    with pytest.raises(TypeError):
        pool.run(table, "slots", 0, 0, 1, 1)  # type: ignore[arg-type]
    assert not world.cells.any()


# ------------------------------------------------------------------------------------------ loops


def turn(kind: int, counter: int, count: int, target: int, **how: Any) -> Step:
    return Step(0, (counter, count, target, 8), loop=kind, **how)


@pytest.mark.parametrize("nthreads", [1, 2, 3])
@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_loops_in_each_other(world: World, rounds: int, nthreads: int) -> None:
    """Each thread has counters of its own."""
    world.dims = np.zeros((nthreads, 8), np.int64)
    steps = [
        turn(spmd.ENTER, 0, rounds, 6),
        turn(spmd.ENTER, 1, 3, 4),
        world.step("add", 1),
        turn(spmd.AGAIN, 1, 3, 2),
        world.step("add", 100),
        turn(spmd.AGAIN, 0, rounds, 1, barrier=True),
        world.step("add", 10_000),
    ]
    world.run(steps, nthreads)
    assert world.cells[:nthreads].tolist() == [10_000 + rounds * 103] * nthreads
    assert (world.dims[:, 0] == rounds).all() and (world.dims[:, 1] == (3 if rounds else 0)).all()


@pytest.mark.parametrize("nthreads", [1, 2, 3])
@pytest.mark.parametrize("byte, rounds", [(0, 0), (1, 1)])
def test_a_loop_is_left_when_a_guard_forbids(world: World, byte: int, rounds: int, nthreads: int) -> None:
    world.dims = np.zeros((nthreads, 8), np.int64)
    world.byte[0] = byte
    steps = [
        turn(spmd.ENTER, 0, 9, 5),
        turn(spmd.LEAVE, 0, 0, 5, barrier=True, guards=[(2, 1)]),
        world.step("add", 1),
        world.step("say", 0, barrier=True, serial=True),
        turn(spmd.AGAIN, 0, 9, 1, barrier=True),
        world.step("add", 100),
    ]
    world.run(steps, nthreads)
    assert world.cells[:nthreads].tolist() == [100 + rounds] * nthreads
    assert (world.dims[:, 0] == rounds).all()


def test_a_loop_that_a_guard_forbids_is_not_entered(world: World) -> None:
    world.run([turn(spmd.ENTER, 0, 9, 3, guards=[(2, 1)]), world.step("add", 1), turn(spmd.AGAIN, 0, 9, 1)], 2)
    assert not world.cells.any()
