"""The names of the tables as this face shows them, and what is said of names that it lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyflow.core.dtypes import DTYPES
from tinyflow.torch.creation import legacy_class, result_dtype, tensor
from tinyflow.torch.dtypes import LEGACY, dtype
from tinyflow.torch.functions import FUNCTIONS
from tinyflow.torch.tensor import Tensor

HIDDEN = {"reshaped", "copied", "cast", "diag_vector", "new", "index"}


def is_tensor(obj: Any) -> bool:
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    return input.is_floating_point()


def numel(input: Tensor) -> int:
    return input.numel()


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and values. Looks at both."""
    return input._shape == other._shape and bool(FUNCTIONS["all"](FUNCTIONS["eq"](input, other)))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |input - other| <= atol + rtol |other| everywhere. Looks at both."""
    return bool(FUNCTIONS["all"](FUNCTIONS["isclose"](input, other, rtol, atol, equal_nan)))


def _assert(condition: Any, message: str) -> None:
    assert condition, message


def tril_indices(row: int, col: int, offset: int = 0, **_: Any) -> Tensor:
    """Rows and columns of the lower triangle: (2, count)"""
    return tensor(np.stack(np.tril_indices(row, offset, col)))


def triu_indices(row: int, col: int, offset: int = 0, **_: Any) -> Tensor:
    """Rows and columns of the upper triangle: (2, count)"""
    return tensor(np.stack(np.triu_indices(row, offset, col)))


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors stretched to a common shape, as views."""
    shape = broadcast_shapes(*(t._shape for t in tensors))
    return tuple(t.expand(shape) for t in tensors)


def broadcast_shapes(*shapes: Any) -> Any:
    from tinyflow.ops import rules
    from tinyflow.torch.dtypes import Size

    return Size(rules.broadcast_shapes(*map(tuple, shapes)))


def detach(input: Tensor) -> Tensor:
    return input.detach()


def can_cast(a: dtype, b: dtype) -> bool:
    from tinyflow.torch.dtypes import CATEGORY

    return CATEGORY[a.core] <= CATEGORY[b.core]


def compile(*args: Any, **kwargs: Any) -> Any:
    """A function or module, traced once and run as one program: see tinyflow.jit."""
    from tinyflow.jit import compile as traced

    return traced(*args, **kwargs)


def get_num_threads() -> int:
    from tinyflow.core.config import config

    return config.THREADS


def set_num_threads(count: int) -> None:
    """How many threads run a program from now on."""
    from tinyflow.core.config import config

    if not isinstance(count, int) or count < 1:
        raise RuntimeError("set_num_threads expects a positive integer")
    config.THREADS = count


PUBLIC: dict[str, Any] = {name: f for name, f in FUNCTIONS.items() if name not in HIDDEN}
PUBLIC |= {f"{LEGACY[d]}Tensor": legacy_class(d) for d in DTYPES}
WHOLE = (
    is_tensor, is_floating_point, numel, equal, allclose, broadcast_tensors, broadcast_shapes, detach, can_cast, get_num_threads, set_num_threads,
    _assert, tril_indices, triu_indices,
)  # fmt: skip
PUBLIC |= {f.__name__: f for f in WHOLE}
PUBLIC |= {"compile": compile, "result_type": result_dtype}
PUBLIC |= {name: f"torch.{name}" for name in ("strided", "preserve_format", "contiguous_format", "channels_last")}
for _name in [
    "relu",
    "sigmoid",
    "tanh",
    "exp",
    "log",
    "sqrt",
    "abs",
    "neg",
    "floor",
    "ceil",
    "round",
    "sin",
    "cos",
    "clamp",
    "square",
]:
    PUBLIC[f"{_name}_"] = getattr(Tensor, f"{_name}_")
