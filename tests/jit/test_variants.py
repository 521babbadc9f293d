"""Guards, variants and recompilation: what a trace relied on, in words and in numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tinyflow import jit, torch
from tinyflow.jit.region import MOST_VARIANTS

GAIN = 2.0


def words(compiled: Any) -> list[str]:
    return [g.words for v in compiled.variants for g in v.guards]


def test_a_number_that_varies_is_compiled_twice() -> None:
    @jit.compile()
    def f(x, c1, c2):
        return c1 * x + c2

    c1, c2 = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    for n in (1, 2, 3, 7, 64, 1000):
        assert f(n, c1, c2).tolist() == [n + 3, 2 * n + 4]
    assert f.compilations == len(f.variants) == 2
    assert "argument x is an int equal to 1" in words(f)
    assert "argument x is an int" in words(f)
    assert f(0.5, c1, c2).tolist() == [3.5, 5.0]
    assert f.compilations == 3


def test_a_size_that_varies_is_compiled_twice() -> None:
    @jit.compile()
    def f(x, c1, c2):
        return (x * c1 + c2).sum(0) / x.shape[0]

    c1, c2 = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    for n in (1, 2, 3, 7, 64, 1000):
        assert torch.allclose(f(torch.ones(n, 2), c1, c2), c1 + c2)
    assert f.compilations == 2
    assert "x.shape[0] == 1" in words(f) and "x.shape[0] >= 2" in words(f)
    assert "argument x is a float32 tensor of 2 dims" in f.explain()
    assert "stands for x.shape[0]" in f.explain()


def test_equal_sizes_are_one_symbol() -> None:
    @jit.compile
    def f(x, y):
        return x + y

    for n in (4, 5, 6):
        f(torch.ones(n), torch.ones(n))
    assert f.compilations == 2
    assert "y.shape[0] == x.shape[0]" in words(f)
    assert f(torch.ones(6), torch.ones(1)).tolist() == [2.0] * 6
    with pytest.raises(RuntimeError, match="must match the size"):
        f(torch.ones(6), torch.ones(7))


def test_never_dynamic() -> None:
    f = jit.compile(lambda x: x * 2, dynamic=False)
    for n in (2, 3, 4):
        f(torch.ones(n))
    assert f.compilations == 3


def test_always_dynamic() -> None:
    f = jit.compile(lambda x, k: x * k, dynamic=True)
    for n in (2, 3, 4):
        assert f(torch.ones(n), n).tolist() == [float(n)] * n
    assert f.compilations == 1


def test_a_branch_on_a_size_guards_the_branch() -> None:
    @jit.compile
    def f(x):
        return x.sum() if x.shape[0] > 10 else x * 2

    for n in (2, 3, 4, 5, 20, 30):
        assert f(torch.ones(n)).sum().item() == (n if n > 10 else 2 * n)
    assert f.compilations == 3
    assert "not (x.shape[0] > 10)" in words(f) and "x.shape[0] > 10" in words(f)


def test_what_is_not_looked_at_is_not_guarded() -> None:
    @jit.compile
    def f(x, unused, passed=None):
        return x + 1, passed

    thing = object()
    assert f(torch.ones(2), 1)[1] is None
    assert f(torch.ones(2), "two", thing)[1] is thing
    assert f(torch.ones(2), [3], 7)[1] == 7
    assert f.compilations == 1


def test_globals_and_closures_are_guarded() -> None:
    k = 3

    @jit.compile
    def f(x):
        return x * k + GAIN

    assert f(torch.ones(1)).item() == 5
    k = 4
    assert f(torch.ones(1)).item() == 6
    globals()["GAIN"] = 3.0
    assert f(torch.ones(1)).item() == 7
    globals()["GAIN"] = 2.0
    assert f(torch.ones(1)).item() == 6
    assert "closure variable k is an int equal to 3" in words(f)
    assert "global GAIN is a float equal to 2.0" in words(f)


def test_a_function_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    f = jit.compile(lambda x: helper(x))
    assert f(torch.ones(1)).item() == 2
    monkeypatch.setitem(globals(), "helper", lambda x: x - 1)
    assert f(torch.ones(1)).item() == 0
    monkeypatch.undo()
    assert f(torch.ones(1)).item() == 2


def helper(x: Any) -> Any:
    return x + 1


def test_python_names_that_are_shadowed(monkeypatch: pytest.MonkeyPatch) -> None:
    f = jit.compile(lambda x: x * len([1, 2]))
    assert f(torch.ones(1)).item() == 2
    monkeypatch.setitem(globals(), "len", lambda things: 10)
    assert f(torch.ones(1)).item() == 10


def test_signs_and_types_of_numbers_count() -> None:
    f = jit.compile(lambda x, k: x / k, dynamic=False)
    one = torch.ones(1)
    assert f(one, 0.0).item() == math.inf and f(one, -0.0).item() == -math.inf
    assert math.isnan(f(one, math.nan).item()) and f.compilations == 3
    f(one, math.nan)
    assert f.compilations == 3
    g = jit.compile(lambda x, k: x * k)
    assert g(torch.arange(2), 1).dtype == torch.int64
    assert g(torch.arange(2), True).dtype == torch.int64
    assert g(torch.arange(2), 1.0).dtype == torch.float32


def test_modes_are_guarded() -> None:
    f = jit.compile(lambda x, w: x * w)
    w = torch.ones(2, requires_grad=True)
    assert f(torch.ones(2), w).requires_grad
    with torch.no_grad():
        assert not f(torch.ones(2), w).requires_grad
    assert not f(torch.ones(2), w.detach()).requires_grad
    assert {"grad mode is on", "grad mode is off", "w requires gradients", "w does not require gradients"} <= set(
        words(f)
    )


def test_too_many_variants_run_plain() -> None:
    @jit.compile
    def f(x, name):
        return x + len(name)

    for k in range(MOST_VARIANTS + 3):
        assert f(torch.ones(1), "a" * k).item() == k + 1
    assert f.compilations == MOST_VARIANTS
    assert "runs as plain Python" in f.explain()


def test_one_piece_or_an_error() -> None:
    @jit.compile(fullgraph=True)
    def whole(x):
        return x + 1

    @jit.compile(fullgraph=True)
    def broken(x):
        seen.append("before")
        print(x.sum())
        return x

    seen: list[str] = []
    assert whole(torch.ones(1)).item() == 2
    with pytest.raises(jit.CutError, match=r"broken was to be one piece .*line \d+ changes|calls"):
        broken(torch.ones(1))
    assert seen == []


def test_ways_to_say_it() -> None:
    def f(x):
        """Adds one."""
        return x + 1

    assert jit.compile(f, disable=True) is f
    again = jit.compile(jit.compile(f))
    assert again(torch.ones(1)).item() == 2 and again.__name__ == "f" and again.__doc__ == "Adds one."
    assert torch.compile(f, backend="any", mode="max-autotune", options={})(torch.ones(1)).item() == 2
    assert torch.compile()(f)(torch.ones(1)).item() == 2

    class Thing:
        gain = 3

        def scaled(self, x):
            return x * self.gain

        @torch.compile
        def doubled(self, x):
            return x * 2 * self.gain

    thing = Thing()
    assert torch.compile(thing.scaled)(torch.ones(1)).item() == 3
    assert thing.doubled(torch.ones(1)).item() == 6
    thing.gain = 1
    assert thing.doubled(torch.ones(1)).item() == 2


def test_a_settled_piece_is_one_native_call() -> None:
    f = jit.compile(lambda x: torch.tanh(x) * 2 + x.sum())
    x = torch.tensor([1.0, 2.0])
    first = f(x)
    (variant,) = f.variants
    assert not first._storage.pending  # computed by the call
    calls = []
    runner = variant.piece.runner
    variant.piece.runner = lambda feeds, store: calls.append(1) or runner(feeds, store)
    assert torch.equal(f(x), first)
    assert calls == [1]


def test_dicts_are_joined() -> None:
    def f(x, **options):
        settings = {"a": 1.0, "b": 2.0} | options
        settings |= {"c": 3.0}
        return x * settings["a"] + settings["b"] * settings["c"]

    g = jit.compile(f)
    x = torch.ones(3)
    for options in ({}, {"a": 5.0}, {"b": 0.5, "c": 4.0}):
        assert g(x, **options).tolist() == f(x, **options).tolist()
    assert not g.cuts
