"""Random programs of views, in-place changes, gradients and looks, run on both: whatever shares memory must agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import theirs

SHAPE = (4, 6)
# name -> (t, x, rng's numbers i, j) -> tensor
VIEWS: dict[str, Any] = {
    "row": lambda x, i, j: x[i % x.shape[0]],
    "slice": lambda x, i, j: x[i % 2 :: 1 + j % 2],
    "last": lambda x, i, j: x[..., j % x.shape[-1]],
    "flat": lambda x, i, j: x.reshape(-1),
    "turned": lambda x, i, j: x.transpose(0, -1),
    "narrow": lambda x, i, j: x.narrow(-1, 0, max(1, x.shape[-1] - 1)),
    "unsqueeze": lambda x, i, j: x.unsqueeze(i % 2),
    "squeeze": lambda x, i, j: x.squeeze(),
    "chunk": lambda x, i, j: x.narrow(0, 0, max(1, x.shape[0] // 2)),
    "detach": lambda x, i, j: x.detach(),
}
NEW: dict[str, Any] = {
    "sin": lambda x, y, i: x.sin(),
    "scaled": lambda x, y, i: x * 0.5 + i,
    "sum": lambda x, y, i: x.sum(0),
    "clone": lambda x, y, i: x.clone(),
    "times": lambda x, y, i: x * y.mean(),
    "plus": lambda x, y, i: x + y if x.shape == y.shape else x - 1,
    "relu": lambda x, y, i: x.relu(),
}
CHANGES: dict[str, Any] = {
    "mul_": lambda x, y, i: x.mul_(0.5),
    "add_": lambda x, y, i: x.add_(y.mean()),
    "fill_": lambda x, y, i: x.fill_(i),
    "zero_": lambda x, y, i: x.zero_(),
    "copy_": lambda x, y, i: x.copy_(y.mean()),
    "tanh_": lambda x, y, i: x.tanh_(),
    "item": lambda x, y, i: x.__setitem__(0, i) if x.ndim else x.add_(1),
    "iadd": lambda x, y, i: x.__iadd__(1),
}


def program(t: Any, seed: int, length: int) -> tuple[list[Any], Any, list[bool]]:
    """A pool of tensors that make, view and change each other; leaves that require gradients change under no_grad."""
    rng = np.random.default_rng(seed)
    leaf = t.tensor(rng.uniform(-1, 1, SHAPE).astype(np.float32), requires_grad=True)
    pool = [leaf, t.tensor(rng.uniform(-1, 1, SHAPE).astype(np.float32)), leaf * 2]
    seen: list[Any] = []
    for _ in range(length):
        what = rng.choice(["view", "new", "change", "look", "under"], p=[0.25, 0.35, 0.25, 0.1, 0.05])
        a, b = (int(k) for k in rng.integers(0, len(pool), 2))
        i, j = (int(k) for k in rng.integers(0, 5, 2))
        x, y = pool[a], pool[b]
        if what == "view" and x.ndim and x.numel():
            pool.append(VIEWS[rng.choice(list(VIEWS))](x, i, j))
        elif what == "new" and x.numel() and x.ndim:
            pool.append(NEW[rng.choice(list(NEW))](x, y.detach(), i))
        elif what == "change":
            name = rng.choice(list(CHANGES))
            if x.requires_grad:
                pool[a] = x.clone()  # histories of changed values differ in what PyTorch allows
                x = pool[a]
            CHANGES[name](x, y.detach(), i)
        elif what == "look":
            seen.append(x.detach().numpy().copy())
        elif what == "under":
            with t.no_grad():
                pool.append(x * 3)
    total = sum(p.sum() for p in pool if p.requires_grad and p.numel())
    try:
        (grad,) = t.autograd.grad(total, leaf, allow_unused=True)
        gradient = np.zeros(SHAPE) if grad is None else grad.numpy()  # where all was overwritten, PyTorch gives zeros
    except RuntimeError as e:
        if t is theirs or "modified by an inplace" not in str(e):
            raise
        gradient = None  # stricter than PyTorch: a leaf was changed through a detached alias
    return [*seen, *(p.detach().numpy() for p in pool)], gradient, [p.requires_grad for p in pool]


@pytest.mark.parametrize("seed", range(100))
def test_random_program(seed: int) -> None:
    try:
        want, gradient, flags = program(theirs, seed, 14)
    except RuntimeError as e:
        pytest.skip(f"PyTorch refuses: {e}")
    got, our_gradient, our_flags = program(ours, seed, 14)
    assert our_flags == flags
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    if our_gradient is not None:
        np.testing.assert_allclose(our_gradient, gradient, rtol=1e-4, atol=1e-5)
