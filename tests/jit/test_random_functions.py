"""Random functions do the same compiled as plain, call after call."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tinyflow import jit, torch

here = Path(__file__).parent


def loaded(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


random_functions = loaded("random_functions", here / "random_functions.py")
comparison = loaded("comparison", here / "test_everyday.py")

CALLS = [(1.0, 1, False), (1.0, 1, True), (-1.0, 3, False), (0.3, 5, True), (1.0, 6, False)]


def seen(path: Path, compiled: bool) -> list[Any]:
    """What the calls of a fresh copy of the module give, raise and change."""
    module = loaded("random_module", path)
    f = jit.compile(module.f) if compiled else module.f
    found: list[Any] = []
    for gain, n, flag in CALLS:
        x, y = torch.tensor([0.5, -1.0, 2.0]) * gain, torch.tensor([1.0, 0.25, -0.75])
        if flag:
            y = y * torch.ones(2, 1)
            x = x + torch.zeros(2, 1)
        try:
            result = f(x, y, n, flag)
            found.append(result)
            loss = sum((t.sum() for t in tensors(result)), torch.zeros(()))
            if loss.requires_grad:
                loss.backward()
        except Exception as e:
            found.append((type(e).__name__, str(e).splitlines()[:1]))
        found += [x, y, module.state(), module.W.grad]
    return found


def tensors(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value] if value.requires_grad else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [t for v in inner for t in tensors(v)]


def check(seed: int, folder: Path) -> str:
    path = folder / f"random_{seed}.py"
    path.write_text(random_functions.source(seed))
    return comparison.difference(seen(path, False), seen(path, True))


@pytest.mark.parametrize("seed", range(60))
def test_random_function(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"random_{seed}.py"
    path.write_text(random_functions.source(seed))
    plain = seen(path, False)
    printed = capsys.readouterr().out
    compiled = seen(path, True)
    assert comparison.difference(plain, compiled) == "", random_functions.source(seed)
    assert capsys.readouterr().out == printed
