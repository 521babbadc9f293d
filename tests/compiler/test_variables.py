"""Updates in place: the new value is that of the old ones, wherever it is read and however it lies in memory."""

import numpy as np
import pytest

from tests.compiler.native import THREADS, check_close, same_bits
from tinyflow import execute, programs
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, float64, int32
from tinyflow.core.errors import IndexOutOfRange
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.evaluate import evaluate
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import matmul
from tinyflow.ops.indexing import gather, scatter_add, scatter_onto, scatter_set
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.movement import concat, expand, flip, pad, permute, reshape, slice_
from tinyflow.ops.reduction import max_, mean, sum_

N = 37
V, W = variable(float32, (N, N), "v"), variable(float32, (N, N), "w")
# fmt: off
UPDATES = {  # variable -> its new value
    "count":             {V: V + 1.0},
    "decay":             {V: V * 0.9 - W * 0.1},
    "both":              {V: V + W, W: V * W},
    "swap":              {V: W, W: V},
    "copy":              {V: W},
    "copy and change":   {V: W, W: W * 2.0},
    "one value twice":   {V: V * W, W: V * W},
    "constant":          {V: f.zeros((N, N)), W: f.ones((N, N)) * 3.0},
    "transpose":         {V: permute(V, (1, 0))},
    "transposed sum":    {V: V + permute(V, (1, 0))},
    "crossed":           {V: permute(W, (1, 0)), W: permute(V, (1, 0)) + 1.0},
    "reversed":          {V: flip(V, (0, 1))},
    "shifted":           {V: pad(slice_(V, (1, 0), (N - 1, N)), (0, 0), (1, 0))},
    "turned":            {V: concat([slice_(V, (5, 0), (N - 5, N)), slice_(V, (0, 0), (5, N))], 0)},
    "gathered":          {V: gather(V, f.arange(N - 1, -1, -1))},
    "scattered":         {V: scatter_add(V, f.arange(N - 1, -1, -1), N)},
    "rows replaced":     {V: scatter_set(V, slice_(W, (0, 0), (3, N)), f.arange(5, 2, -1), 0)},
    "rows added to":     {V: scatter_onto(V, slice_(W, (0, 0), (3, N)) * 2.0, f.arange(5, 2, -1), 0)},
    "columns replaced":  {V: scatter_set(V, slice_(W, (0, 0), (N, 3)), expand(f.arange(5, 2, -1), (N, 3)), 1)},
    "replaced by itself": {V: scatter_set(V, slice_(V, (4, 0), (3, N)), f.arange(5, 2, -1), 0)},
    "both replaced":     {V: scatter_set(V, slice_(W, (0, 0), (3, N)), f.arange(0, 3), 0), W: scatter_set(W, slice_(V, (0, 0), (3, N)), f.arange(0, 3), 0)},
    "replaced and read": {V: scatter_set(V, W, f.arange(N - 1, -1, -1), 0), W: matmul(scatter_set(V, W, f.arange(N - 1, -1, -1), 0), W)},
    "softmax":           {V: f.softmax(V)},
    "centred rows":      {V: V - mean(V, 1, keepdims=True)},
    "centred columns":   {V: V - mean(V, 0, keepdims=True)},
    "centred":           {V: V - mean(V)},
    "row of the other":  {V: V + expand(slice_(W, (0, 0), (1, N)), (N, N)), W: W + expand(slice_(V, (N - 1, 0), (1, N)), (N, N))},
    "first element":     {V: V - expand(reshape(slice_(V, (0, 0), (1, 1)), ()), (N, N))},
    "last element":      {V: V - expand(reshape(slice_(V, (N - 1, N - 1), (1, 1)), ()), (N, N))},
    "greatest":          {V: V / max_(e.abs_(V)), W: W / max_(e.abs_(V))},
    "product":           {V: matmul(V, W)},
    "products":          {V: matmul(V, W), W: matmul(W, V)},
    "square":            {V: matmul(V, V)},
    "step":              {V: V - matmul(W, W, transpose_a=True) * 0.01},
    "rows then columns": {V: V - sum_(W, 0, keepdims=True), W: W - sum_(V, 1, keepdims=True)},
    "reshaped":          {V: reshape(permute(reshape(V, (1, N, N)), (0, 2, 1)), (N, N)) * 2.0},
    "select":            {V: e.where(e.less(V, W), W, V), W: e.where(e.less(V, W), V, W)},
}
FETCHES = {  # beside the updates
    "nothing":           [],
    "old values":        [V, W],
    "of old values":     [sum_(V, 0), V * 2.0, matmul(W, V)],
}
# fmt: on


def old():
    rng = np.random.default_rng(0)
    return {V: rng.uniform(-1, 1, (N, N)).astype(np.float32), W: rng.uniform(-1, 1, (N, N)).astype(np.float32)}


def check_update(changes, fetches=(), threads=THREADS, arranged=np.copy, fed=None):
    """The store holds the numpy meaning of the new values, in the arrays it had, and the fetches are of old values."""
    given = old()
    want = evaluate([*changes.values(), *fetches], {**given, **(fed or {})})
    runner, first = execute.compile(list(fetches), changes), None
    for count in threads:
        store = {v: arranged(a) for v, a in given.items()}
        with config(THREADS=count):
            got = runner(fed or {}, store)
        for v, new in changes.items():
            check_close(np.asarray(store[v]), want[new], 100)
        for v in {V, W} - changes.keys():
            np.testing.assert_array_equal(store[v], given[v])
        for node, a in zip(fetches, got, strict=True):
            check_close(a, want[node], 100)
        first = first or store
        assert all(same_bits(np.ascontiguousarray(first[v]), np.ascontiguousarray(store[v])) for v in changes)
    return store


@pytest.mark.parametrize("fetches", FETCHES)
@pytest.mark.parametrize("name", UPDATES)
def test_updates(name, fetches):
    check_update(UPDATES[name], FETCHES[fetches], threads=THREADS if fetches == "nothing" else (1, 3))


def test_the_arrays_stay_where_they_are():
    for name in ("count", "decay", "both", "step", "centred rows", "softmax"):
        store = old()
        held = dict(store)
        execute.compile([], UPDATES[name])({}, store)
        assert all(store[v] is held[v] for v in held)


I = placeholder(int32, (2,), "i")
ROWS = {
    "rows": scatter_set(V, slice_(W, (0, 0), (2, N)), I, 0),
    "columns": scatter_set(V, slice_(W, (0, 0), (N, 2)), expand(I, (N, 2)), 1),
    "added": scatter_onto(V, slice_(W, (0, 0), (2, N)), I, 0),
}


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", ROWS)
def test_entries_that_data_tells(name, checked):
    """Written where they are, if the index is known to be in range by then; and never when it is not."""
    roots = [gather(W, I) if checked else sum_(W)]
    runner = execute.compile(roots, {V: ROWS[name]})
    for count in THREADS:
        with config(THREADS=count):
            store = old()
            held, given = store[V], {**old(), I: np.array([7, 3], np.int32)}
            before = execute.compile(roots, {V: ROWS[name]}).memory({I: given[I]}, store).temporaries
            runner({I: given[I]}, store)
            np.testing.assert_array_equal(store[V], evaluate([ROWS[name]], given)[ROWS[name]])
            assert store[V] is held and before == 0
            for bad in ([0, N], [-1, 1]):
                kept = store[V].copy()
                with pytest.raises(IndexOutOfRange):
                    runner({I: np.array(bad, np.int32)}, store)
                np.testing.assert_array_equal(store[V], kept)


ARRANGED = {
    "columns first": np.asfortranarray,
    "a view": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "backwards": lambda a: a[::-1].copy()[::-1],
    "not aligned": lambda a: np.frombuffer(bytearray(b"x" + a.tobytes()), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("name", ["count", "swap", "transpose", "step", "both"])
@pytest.mark.parametrize("arranged", ARRANGED)
def test_arrays_that_lie_otherwise(name, arranged):
    check_update(UPDATES[name], FETCHES["old values"], threads=(1, 2), arranged=ARRANGED[arranged])


def test_a_read_only_array_is_not_written():
    frozen = old()[V]
    frozen.flags.writeable = False
    kept, store = frozen.copy(), {V: frozen, W: old()[W]}
    execute.compile([], {V: V + 1.0})({}, store)
    np.testing.assert_array_equal(frozen, kept)
    np.testing.assert_array_equal(store[V], kept + 1)


def test_a_variable_without_a_value_gets_one():
    store = {W: old()[W]}
    execute.compile([], {V: W * 2.0})({}, store)
    np.testing.assert_array_equal(store[V], old()[W] * 2)


def test_a_variable_of_a_size_known_when_running():
    n = fresh_dim()
    v, x = variable(float32, (n,), "v"), placeholder(float32, (n,), "x")
    runner = execute.compile([sum_(v)], {v: v + x})
    for count in (5, 0, 5, 40):
        store = {v: np.ones(count, np.float32)}
        (total,) = runner({x: np.arange(count, dtype=np.float32)}, store)
        assert total == count
        np.testing.assert_array_equal(store[v], np.arange(count) + 1)


def test_other_types():
    i, d = variable(int32, (N,), "i"), variable(float64, (), "d")
    store = {i: np.arange(N, dtype=np.int32), d: np.array(0.5)}
    runner = execute.compile([i], {i: i * 2 + 1, d: d + e.cast(sum_(i), float64)})
    for _ in range(3):
        runner({}, store)
    assert store[i][3] == 31 and store[d] == 0.5 + sum(sum(np.arange(N) * 2**k + 2**k - 1) for k in range(3))


def test_a_thousand_steps():
    v, x = variable(float32, (N,), "v"), placeholder(float32, (N,), "x")
    runner = execute.compile([], {v: v * 0.99 + x})
    want = held = np.zeros(N, np.float32)
    store = {v: held.copy()}
    rng = np.random.default_rng(0)
    for _ in range(1000):
        a = rng.uniform(-1, 1, N).astype(np.float32)
        runner({x: a}, store)
        want = want * np.float32(0.99) + a
    np.testing.assert_allclose(store[v], want, rtol=1e-4, atol=1e-5)


def test_equal_graphs_on_other_variables_are_one_program():
    def build(v, w):
        return execute.compile([sum_(v)], {v: v - e.tanh(w) * 0.1})

    programs._programs.clear()
    for k in range(3):
        v, w = variable(float32, (N,), f"v{k}"), variable(float32, (N,), f"w{k}")
        store = {v: np.full(N, k, np.float32), w: np.ones(N, np.float32)}
        assert build(v, w)({}, store)[0] == k * N
        check_close(store[v], np.full(N, k - np.tanh(np.float32(1)) * 0.1, np.float32))
    assert len(programs._programs) == 1
