"""The order of steps, the plan of the arena, and that programs share one."""

import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.reduction import sum_
from tinyflow.passes.gradient import gradients
from tinyflow.runtime import layout, program
from tinyflow.runtime.memory import ALIGN, Life, plan
from tinyflow.runtime.order import Touch, order, peak
from tinyflow.runtime.program import Binding

MEGABYTE = 1 << 20


def meet(a: Life, b: Life) -> bool:
    return a.first <= b.last and b.first <= a.last


lives = st.builds(
    lambda size, first, long: Life(size, first, first + long),
    st.integers(0, 5000), st.integers(0, 30), st.integers(0, 12),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(lives, max_size=40))
def test_buffers_that_live_together_lie_apart(found: list[Life]) -> None:
    offsets, total = plan(found)
    for k, (a, at) in enumerate(zip(found, offsets)):
        assert at % ALIGN == 0 and at + a.size <= total
        for b, other in zip(found[:k], offsets):
            assert not meet(a, b) or at + a.size <= other or other + b.size <= at


# ------------------------------------------------------------------------------------------ order


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[Touch], dict[int, int]]:
    """Steps that read what others have written; slots 0 to 3 are no temporaries and may be written again."""
    steps = []
    for k in range(draw(st.integers(1, 25))):
        made = [4 + j for j in range(k)]
        reads = draw(st.sets(st.sampled_from([0, 1, 2, 3, *made]), max_size=4))
        writes = {4 + k} | draw(st.sets(st.integers(0, 3), max_size=1))
        steps.append(Touch(frozenset(reads - writes), frozenset(writes)))
    sizes = {4 + k: draw(st.integers(0, 1000)) for k in range(len(steps))}
    return steps, sizes


@settings(max_examples=300, deadline=None)
@given(programs())
def test_an_order_keeps_what_must_come_first_and_never_takes_more(case: tuple[list[Touch], dict[int, int]]) -> None:
    steps, sizes = case
    found = order(steps, sizes)
    assert sorted(found) == list(range(len(steps)))
    place = {k: at for at, k in enumerate(found)}
    for k, b in enumerate(steps):
        for j, a in enumerate(steps[:k]):
            if a.writes & (b.reads | b.writes) or a.reads & b.writes:
                assert place[j] < place[k]
    assert peak(steps, found, sizes) <= peak(steps, list(range(len(steps))), sizes)


def test_a_gradient_is_used_up_before_the_next() -> None:
    layers = 6
    down = [Touch(frozenset([k]), frozenset([k + 1])) for k in range(layers)]  # the gradient of each layer's input
    update = [Touch(frozenset([k]), frozenset([100 + k])) for k in range(layers)]
    sizes = dict.fromkeys(range(1, layers + 1), 10)
    assert peak([*down, *update], list(range(2 * layers)), sizes) == 10 * layers
    found = order([*down, *update], sizes)
    assert peak([*down, *update], found, sizes) == 20


def test_what_is_only_packed_for_another_stays_with_it() -> None:
    steps = [
        Touch(frozenset([0]), frozenset([10])),  # packs for step 3
        Touch(frozenset([1]), frozenset([11])),
        Touch(frozenset([11]), frozenset([1])),
        Touch(frozenset([10, 1]), frozenset([2])),
    ]
    assert order(steps, {10: 100, 11: 100}) == [1, 2, 0, 3]


def test_a_step_whose_operand_is_written_over_later_stays_with_its_reader() -> None:
    """A value computed again of what an update changes is not kept until all else is done."""
    steps = [
        Touch(frozenset([0]), frozenset([10])),  # a large value
        Touch(frozenset([10]), frozenset([2])),
        Touch(frozenset([1]), frozenset([11])),  # computed again of variable 1, for step 5
        Touch(frozenset([2]), frozenset([12])),
        Touch(frozenset([12]), frozenset([1])),  # the update of variable 1
        Touch(frozenset([10, 11]), frozenset([3])),
    ]
    sizes = {10: 100, 11: 50, 12: 100}
    assert peak(steps, list(range(6)), sizes) == 250
    assert peak(steps, order(steps, sizes), sizes) == 150


# ------------------------------------------------------------------------------------------ networks


def step(layers: int, width: int = 256) -> tuple[list[Node], dict[Node, Node], dict[Node, np.ndarray]]:
    """A deep network and its update by gradient descent."""
    x = variable(float32, (width, width), "x")
    weights = [variable(float32, (width, width), f"w{k}") for k in range(layers)]
    h: Node = x
    for w in weights:
        h = e.tanh(matmul(h, w))
    loss = sum_(h * h)
    new = {w: w - 0.01 * g for w, g in zip(weights, gradients([loss], weights))}
    rng = np.random.default_rng(0)
    store = {v: rng.normal(0, 1 / 16, v.shape).astype("f") for v in (x, *weights)}
    return [loss], new, store


def binding_of(runner: execute.Runner) -> Binding:
    return runner.native.program.take(())


def test_a_deep_network_keeps_what_its_gradient_needs_and_little_more() -> None:
    loss, new, store = step(12)
    runner = execute.compile(loss, new)
    runner({}, store)
    binding = binding_of(runner)
    touches = [layout.touch(c) for c in binding.calls]
    least = peak(touches, range(len(touches)), layout.temporaries(binding.program, {}, binding.threads))
    assert least <= binding.bytes <= 1.05 * least
    assert binding.bytes < (12 + 4) * 256 * 256 * 4 + MEGABYTE


def test_reordered_steps_compute_the_same() -> None:
    loss, new, store = step(5, 64)
    want = {v: a.copy() for v, a in store.items()}
    with config(REFERENCE=1):
        (expected,) = execute.compile(loss, new)({}, want)
    for threads in (1, 2, 3):
        got = {v: a.copy() for v, a in store.items()}
        with config(THREADS=threads):
            (value,) = execute.compile(loss, new)({}, got)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for v in store:
            np.testing.assert_allclose(got[v], want[v], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------ one arena for all


def chain(width: int) -> tuple[Node, Node]:
    x = placeholder(float32, (width, width), "x")
    return x, sum_(matmul(matmul(x, x), x), 0)


def test_programs_share_an_arena() -> None:
    program.ARENAS.clear()
    runs = [(x, execute.compile([y])) for x, y in map(chain, (60, 300, 120))]
    for _ in range(2):
        for x, runner in runs:
            a = np.eye(x.shape[0], dtype="f")
            np.testing.assert_array_equal(runner({x: a}, {})[0], np.ones(x.shape[0], "f"))
    (arena,) = program.ARENAS
    assert arena.bytes == max(binding_of(runner).bytes for _, runner in runs)


def test_runs_at_once_have_an_arena_each() -> None:
    runs = [(x, execute.compile([y])) for x, y in map(chain, (128, 160))]
    wrong = []

    def work(x: Node, runner: execute.Runner, scale: float) -> None:
        a = np.eye(x.shape[0], dtype="f") * np.float32(scale)
        for _ in range(60):
            if not np.array_equal(runner({x: a}, {})[0], np.full(x.shape[0], scale**3, "f")):
                wrong.append(scale)

    with config(THREADS=1):
        threads = [threading.Thread(target=work, args=(*runs[k % 2], 1.0 + k)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong
