"""What print shows, letter for letter as PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, theirs

CASES: dict[str, Any] = {
    "scalar": lambda t: t.tensor(3.0), "int scalar": lambda t: t.tensor(3), "bool": lambda t: t.tensor([True, False]),
    "whole": lambda t: t.tensor([1.0, 2.0, -3.0]), "decimals": lambda t: t.tensor([1.5, 2.25, -300.0]), "matrix": lambda t: t.arange(6.0).reshape(2, 3) / 7,
    "ints": lambda t: t.arange(12).view(3, 4) - 5, "int32": lambda t: t.arange(3, dtype=t.int32), "double": lambda t: t.ones(2, dtype=t.float64),
    "uint8": lambda t: t.tensor([1, 200], dtype=t.uint8), "3-d": lambda t: t.arange(24).view(2, 3, 4), "4-d": lambda t: t.zeros(2, 1, 2, 2),
    "empty": lambda t: t.tensor([]), "empty 2-d": lambda t: t.zeros(0, 3), "empty ints": lambda t: t.zeros(0, dtype=t.int64), "empty int32": lambda t: t.zeros(2, 0, dtype=t.int32),
    "small": lambda t: t.tensor([1e-5, 1.0]), "large": lambda t: t.tensor([1e9, 1.5]), "large whole": lambda t: t.tensor([1e9, 1.0]), "tiny": lambda t: t.tensor([1e-10]),
    "ratio": lambda t: t.tensor([0.001, 12.5]), "nan": lambda t: t.tensor([float("nan"), 1.0, float("inf"), -float("inf")]), "nan decimals": lambda t: t.tensor([float("nan"), 1.5]),
    "all nan": lambda t: t.tensor([float("nan")]), "negative zero": lambda t: t.tensor([-0.0, 0.5]), "long row": lambda t: t.arange(40.0) / 3,
    "long ints": lambda t: t.arange(100), "summary": lambda t: t.arange(2000.0), "summary 2-d": lambda t: t.arange(4000).view(40, 100), "summary wide": lambda t: t.zeros(2, 1000),
    "summary 3-d": lambda t: t.arange(8000.0).view(20, 20, 20), "exactly 1000": lambda t: t.zeros(1000, dtype=t.int64), "requires": lambda t: t.ones(2, requires_grad=True),
    "grad_fn": lambda t: t.ones(2, requires_grad=True) * 2, "grad_fn sum": lambda t: t.ones(2, requires_grad=True).sum(), "grad_fn sum dim": lambda t: t.ones(2, 2, requires_grad=True).sum(1),
    "grad_fn mean": lambda t: t.ones(2, requires_grad=True).mean(), "grad_fn mm": lambda t: t.ones(2, 2, requires_grad=True) @ t.ones(2, 2),
    "grad_fn relu": lambda t: t.ones(2, requires_grad=True).relu(), "grad_fn pow": lambda t: t.ones(2, requires_grad=True) ** 2, "grad_fn exp": lambda t: t.ones(2, requires_grad=True).exp(),
    "grad_fn view": lambda t: t.ones(2, requires_grad=True).view(1, 2), "grad_fn t": lambda t: t.ones(2, 2, requires_grad=True).t(), "grad_fn index": lambda t: t.ones(2, 2, requires_grad=True)[0],
    "grad_fn slice": lambda t: t.ones(3, requires_grad=True)[1:], "grad_fn log_softmax": lambda t: t.ones(2, requires_grad=True).log_softmax(0), "grad_fn neg": lambda t: -t.ones(2, requires_grad=True),
    "grad_fn sub": lambda t: 1 - t.ones(2, requires_grad=True), "grad_fn div": lambda t: t.ones(2, requires_grad=True) / 2, "grad_fn cat": lambda t: t.cat([t.ones(2, requires_grad=True)] * 2),
    "grad_fn wraps": lambda t: t.arange(8.0, requires_grad=True) * 1.1, "grad_fn matmul": lambda t: t.matmul(t.ones(2, 2, requires_grad=True), t.ones(2)), "grad_fn sigmoid": lambda t: t.sigmoid(t.ones(1, requires_grad=True)),
    "grad_fn clone": lambda t: t.ones(1, requires_grad=True).clone(), "grad_fn max": lambda t: t.ones(2, requires_grad=True).max(), "grad_fn max dim": lambda t: t.ones(2, 2, requires_grad=True).max(1),
    "max": lambda t: t.tensor([[1.0, 2.0]]).max(1), "sort": lambda t: t.tensor([2, 1]).sort(), "topk": lambda t: t.tensor([2.0, 1.0]).topk(1),
    "size": lambda t: (t.ones(2, 3).shape, t.ones(2, 3).shape[:1], t.ones(()).size()), "dtype": lambda t: (t.float32, t.ones(1, dtype=t.int64).dtype, t.bool),
    "device": lambda t: (t.ones(1).device, str(t.device("cpu"))), "parameter": lambda t: t.nn.Parameter(t.ones(2)), "types": lambda t: (t.ones(1).type(), t.arange(2).type(), t.tensor([True]).type()),
    "finfo": lambda t: (t.finfo(t.float32).eps, t.finfo(t.float64).max, t.iinfo(t.int32).max), "loss": lambda t: t.nn.functional.mse_loss(t.ones(2, requires_grad=True), t.zeros(2)),
    "cross entropy": lambda t: t.nn.functional.cross_entropy(t.ones(2, 3, requires_grad=True), t.tensor([0, 1])), "linear": lambda t: t.nn.functional.linear(t.ones(1, 2), t.ones(3, 2, requires_grad=True), t.ones(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_repr(name: str) -> None:
    assert repr(CASES[name](ours)) == repr(CASES[name](theirs))


@pytest.mark.parametrize("seed", range(12))
def test_random_arrays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 8, rng.integers(1, 4)))
    a = (array(*shape, seed=seed) * 10.0 ** rng.integers(-6, 9)).astype(np.float32)
    assert repr(ours.tensor(a)) == repr(theirs.tensor(a))
    assert repr(ours.tensor(a.astype(np.int64))) == repr(theirs.tensor(a.astype(np.int64)))


def test_format() -> None:
    for t in (ours, theirs):
        assert f"{t.tensor(1.23456):.2f} {t.tensor(3):d} {t.tensor([1.0])}" == "1.23 3 tensor([1.])"


@pytest.mark.parametrize(
    "options",
    [{"precision": 2}, {"sci_mode": True}, {"linewidth": 40}, {"threshold": 5, "edgeitems": 1}, {"profile": "short"}],
)
def test_options(options: dict[str, Any]) -> None:
    a = array(3, 9, low=-50, high=50)
    try:
        for t in (ours, theirs):
            t.set_printoptions(**options)
        assert repr(ours.tensor(a)) == repr(theirs.tensor(a))
    finally:
        for t in (ours, theirs):
            t.set_printoptions(profile="default", sci_mode=None)
