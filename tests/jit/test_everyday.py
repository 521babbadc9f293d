"""Everyday functions do the same compiled as plain: results, what they print, what they change, what they raise."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyflow import jit
from tinyflow.torch import Tensor

spec = importlib.util.spec_from_file_location("everyday", Path(__file__).parent / "everyday.py")
assert spec is not None and spec.loader is not None
everyday = sys.modules["everyday"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(everyday)


def difference(a: Any, b: Any, path: str = "result") -> str:
    """Where two values differ, in words; nothing if they are the same."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        x, y = a.detach().numpy(), b.detach().numpy()
        alike = x.dtype == y.dtype and x.shape == y.shape and a.requires_grad == b.requires_grad
        if alike and np.allclose(x, y, rtol=2e-5, atol=1e-6, equal_nan=True):
            return ""
        return f"{path}: {a} ({a.requires_grad}) and {b} ({b.requires_grad})"
    if type(a) is not type(b) and type(a).__name__ != type(b).__name__:
        return f"{path}: {a!r} is a {type(a).__name__}, {b!r} a {type(b).__name__}"
    if isinstance(a, dict):
        if list(a) != list(b):
            return f"{path}: keys {list(a)} and {list(b)}"
        return next(filter(None, (difference(a[k], b[k], f"{path}[{k!r}]") for k in a)), "")
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return f"{path}: {len(a)} and {len(b)} items"
        return next(
            filter(None, (difference(x, y, f"{path}[{k}]") for k, (x, y) in enumerate(zip(a, b, strict=True)))), ""
        )
    if isinstance(a, float):
        return "" if math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6) else f"{path}: {a!r} and {b!r}"
    return "" if a == b else f"{path}: {a!r} and {b!r}"


@pytest.mark.parametrize("name", everyday.PROGRAMS)
def test_compiled_does_what_plain_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = everyday.PROGRAMS[name]
    plain = program(lambda f: f)
    printed = capsys.readouterr().out
    compiled = program(jit.compile)
    assert difference(plain, compiled) == ""
    assert capsys.readouterr().out == printed


def test_the_comparison_sees_differences() -> None:
    x = everyday.ramp(3)
    assert difference([x], [x + 1])
    assert difference([x], [x.double()])
    assert difference({"a": 1}, {"b": 1})
    assert difference((1, 2), [1, 2])
    assert difference(1, True)
    assert not difference([x, {"a": 1.0}], [x.clone(), {"a": 1.0}])
