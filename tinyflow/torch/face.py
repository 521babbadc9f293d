"""The names of the tables as this face shows them, and what is said of names that it lacks."""

from __future__ import annotations

import difflib
from typing import Any

from tinyflow.core.dtypes import DTYPES
from tinyflow.torch.creation import legacy_class, result_dtype
from tinyflow.torch.dtypes import LEGACY, dtype
from tinyflow.torch.functions import FUNCTIONS
from tinyflow.torch.tensor import Tensor

HIDDEN = {"reshaped", "copied", "cast", "diag_vector", "new", "index"}
KNOWN_ABSENT = {
    "float16": "half precision", "half": "half precision", "bfloat16": "half precision", "int8": "8-bit signed integers", "int16": "16-bit integers",
    "complex64": "complex numbers", "complex128": "complex numbers", "jit": "TorchScript; use torch.compile", "fx": "graph capture; use torch.compile",
}  # fmt: skip


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
)  # fmt: skip
PUBLIC |= {f.__name__: f for f in WHOLE}
PUBLIC |= {"compile": compile, "result_type": result_dtype}
for _name in ["relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "neg", "floor", "ceil", "round", "sin", "cos", "clamp", "square"]:
    PUBLIC[f"{_name}_"] = getattr(Tensor, f"{_name}_")


def absent(name: str, known: Any, module: str = "tinyflow.torch") -> AttributeError:
    """The error for a name that is not there: what it would be, or what it may have been meant to be."""
    if name in KNOWN_ABSENT:
        return AttributeError(f"{module} has no {name!r}: tinyflow does not do {KNOWN_ABSENT[name]}")
    near = difflib.get_close_matches(name, list(known), 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return AttributeError(f"{module} has no {name!r}{hint or '; dir() lists what there is'}")
