"""A kernel that does not compile: its program is run by numpy, with a warning that names it."""

from typing import Any

import numpy as np
import pytest

import tinyflow.torch as torch
from tinyflow import execute, programs
from tinyflow.compiler import pipeline
from tinyflow.core.dtypes import float32
from tinyflow.core.errors import FallbackWarning
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder, variable

SIDE = 37
X, V = placeholder(float32, (SIDE, SIDE), "x"), variable(float32, (SIDE, SIDE), "v")


@pytest.fixture(params=["emitting", "LLVM"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel with a tanh compiles."""
    monkeypatch.setattr(programs, "_programs", {})
    monkeypatch.setattr(execute, "_templates", {})
    emit = pipeline.frame.emit

    def emitted(kernel: Any, target: Any) -> Any:
        if any(n.op.name == "tanh" for n in kernel.nodes):
            if request.param == "emitting":
                raise AssertionError("no tanh today")
            return emit(kernel, target)._replace(text="define void @kernel() { ret i32 }")
        return emit(kernel, target)

    monkeypatch.setattr(pipeline.frame, "emit", emitted)


def test_the_warning_names_the_kernel_and_the_result_is_right(broken: None) -> None:
    runner = execute.compile([matmul(e.tanh(X), X)], {V: V + 1.0})
    x, store = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype("f"), {V: np.zeros((SIDE, SIDE), "f")}
    with pytest.warns(FallbackWarning, match=r"tanh\d+.*test_fallback\.py:\d+"):
        (got,) = runner({X: x}, store)
    np.testing.assert_allclose(got, np.tanh(x) @ x, rtol=1e-4, atol=1e-4)
    assert (store[V] == 1).all()
    (again,) = runner({X: x}, store)  # without another warning
    np.testing.assert_array_equal(got, again)
    assert (store[V] == 2).all()


def test_in_the_imperative_face(broken: None) -> None:
    x = torch.ones(SIDE, requires_grad=True)
    with pytest.warns(FallbackWarning, match="tanh"):
        y = x.tanh().tolist()
    assert y == pytest.approx([np.tanh(1.0)] * SIDE, rel=1e-5)


def test_the_warning_is_an_error_in_the_tests(broken: None) -> None:
    with pytest.raises(FallbackWarning):
        execute.compile([e.tanh(X)])({X: np.ones((SIDE, SIDE), "f")}, {})
