"""Runs one program on both: `both(f, arrays)` calls f(torch, *tensors) with PyTorch and with tinyflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours

theirs = pytest.importorskip("torch")


def values(result: Any) -> list[Any]:
    """Tensors, numbers and nested tuples of them, flat."""
    if isinstance(result, list | tuple):
        return [v for r in result for v in values(r)]
    return [result]


def tensors(torch: Any, arrays: Any, grad: bool) -> list[Any]:
    made = [torch.tensor(a) for a in arrays]
    return [t.requires_grad_() if grad and t.is_floating_point() else t for t in made]


def check(got: Any, want: Any, rtol: float, atol: float, what: str = "value") -> None:
    if not isinstance(want, theirs.Tensor):
        assert got == want, what
        return
    assert isinstance(got, ours.Tensor), f"{what}: {type(got)}"
    assert str(got.dtype) == str(want.dtype), what
    assert tuple(got.shape) == tuple(want.shape), what
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=rtol, atol=atol, err_msg=what)


def both(f: Any, *arrays: Any, grad: bool = True, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Same values, types and shapes; and, for floats, the same gradients of a weighted sum of all results."""
    here, there = tensors(ours, arrays, grad), tensors(theirs, arrays, grad)
    got, want = values(f(ours, *here)), values(f(theirs, *there))
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        check(g, w, rtol, atol)
        if isinstance(w, theirs.Tensor):
            assert g.requires_grad == w.requires_grad
    pairs = [(g, w) for g, w in zip(got, want, strict=True) if isinstance(w, theirs.Tensor) and w.requires_grad]
    if not grad or not pairs:
        return
    rng = np.random.default_rng(5)
    totals: list[Any] = [0.0, 0.0]
    for g, w in pairs:
        weight = rng.uniform(-1, 1, tuple(w.shape)).astype(str(w.dtype).split(".")[1])
        totals[0] = totals[0] + (g * ours.tensor(weight)).sum()
        totals[1] = totals[1] + (w * theirs.tensor(weight)).sum()
    for total in totals:
        total.backward()
    for i, (g, w) in enumerate(zip(here, there, strict=True)):
        if w.grad is None:
            assert g.grad is None, f"gradient {i}"
        elif w.requires_grad:
            assert g.grad is not None, f"gradient {i}"
            check(g.grad, w.grad, rtol * 5, atol * 5, f"gradient {i}")


def array(*shape: int, low: float = -2.0, high: float = 2.0, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng((seed, *shape))
    if np.dtype(dtype).kind in "iu":
        return rng.integers(int(low), int(high), shape).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.uniform(low, high, shape).astype(dtype)
