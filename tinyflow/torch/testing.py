"""torch.testing: comparing tensors in tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyflow.torch.creation import as_tensor

TOLERANCES = {"float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7), "bfloat16": (1.6e-2, 1e-5), "float16": (1e-3, 1e-5)}


def assert_close(actual: Any, expected: Any, *, rtol: float | None = None, atol: float | None = None, equal_nan: bool = False,
                 check_dtype: bool = True, msg: Any = None, **_: Any) -> None:  # fmt: skip
    """An AssertionError that shows where two tensors (or sequences of them) differ by more than atol + rtol |expected|."""
    if isinstance(actual, list | tuple):
        assert len(actual) == len(expected), f"The length of the sequences mismatch: {len(actual)} != {len(expected)}"
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=check_dtype, msg=msg)
        return
    a, b = as_tensor(actual), as_tensor(expected)
    assert a.shape == b.shape, msg or f"The values for attribute 'shape' do not match: {a.shape} != {b.shape}."
    assert not check_dtype or a.dtype is b.dtype, (
        msg or f"The values for attribute 'dtype' do not match: {a.dtype} != {b.dtype}."
    )
    near = TOLERANCES.get(a.dtype.name, (0.0, 0.0))
    x, y = (t.detach().to(t._storage.node.dtype.computed).numpy() for t in (a, b))
    np.testing.assert_allclose(
        x,
        y,
        rtol=near[0] if rtol is None else rtol,
        atol=near[1] if atol is None else atol,
        equal_nan=equal_nan,
        err_msg=str(msg or ""),
    )
