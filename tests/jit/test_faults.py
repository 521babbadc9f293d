"""The tests are tested: with a part of the compiler put out of order, everyday functions no longer do the same."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinyflow import jit
from tinyflow.jit import attributes, piece, plan, region, sources
from tinyflow.jit.effects import NO_EFFECTS

spec = importlib.util.spec_from_file_location("comparison", Path(__file__).parent / "test_everyday.py")
assert spec is not None and spec.loader is not None
comparison = importlib.util.module_from_spec(spec)
spec.loader.exec_module(comparison)
PROGRAMS = comparison.everyday.PROGRAMS


def differs(name: str) -> bool:
    """Whether the compiled program does something else than the plain one."""
    plain, compiled = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(plain):
        expected = PROGRAMS[name](lambda f: f)
    try:
        with contextlib.redirect_stdout(compiled):
            found = PROGRAMS[name](jit.compile)
    except Exception:
        return True
    return bool(comparison.difference(expected, found)) or plain.getvalue() != compiled.getvalue()


def unguarded(kind: str) -> Callable[[pytest.MonkeyPatch], None]:
    """All guards of a kind are forgotten."""
    real = sources.checker

    def plant(m: pytest.MonkeyPatch) -> None:
        m.setattr(sources, "checker", lambda guards, names: real([g for g in guards if g.kind != kind], names))

    return plant


def patched(owner: Any, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda m: m.setattr(owner, name, value)


# fmt: off
FAULTS = [
    ("numbers are not guarded",               unguarded("equal"),                                             "closures_change"),
    ("flags are not guarded",                 unguarded("is"),                                                "modules"),
    ("the grad mode is not guarded",          unguarded("mode"),                                              "grad_modes"),
    ("lengths are not guarded",               unguarded("length"),                                            "configuration"),
    ("sizes are not guarded",                 unguarded("size"),                                              "sizes_of_two"),
    ("types of tensors are not guarded",      unguarded("tensor"),                                            "types_vary"),
    ("branches on numbers are not guarded",   unguarded("holds"),                                             "varying_numbers"),
    ("identity is not guarded",               unguarded("identity"),                                          "the_same_tensor_twice"),
    ("writes to arguments are not seen",      patched(region, "effects_of", lambda t: NO_EFFECTS),             "in_place_on_arguments"),
    ("random draws repeat",                   patched(piece, "next_key", lambda: 12345),                      "random_numbers"),
    ("views lose their memory",               patched(piece, "tensor_of", lambda s, shape, *_: piece.over(s, shape)), "views_are_shared"),
    ("an iterator may be gone through twice", patched(attributes, "Iterated", tuple),                         None),
    ("errors may be caught anywhere",         patched(plan, "catches", lambda st: False),                     "opaque_calls"),
    ("inner functions see old names",         patched(plan.Planner, "is_bare", lambda self, st: False),       None),
    ("symbols are made of anything",          patched(region, "agree", lambda *a: True),                      None),
]
# fmt: on


@pytest.mark.parametrize("fault, plant, name", [f for f in FAULTS if f[2]], ids=[f[0] for f in FAULTS if f[2]])
def test_a_fault_is_seen(fault: str, plant: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not differs(name)
    plant(monkeypatch)
    assert differs(name), fault
