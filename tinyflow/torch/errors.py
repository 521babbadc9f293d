"""The face's messages, and errors that are both what the graph raises and what PyTorch's users catch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tinyflow.core.errors import ShapeError

INPLACE_LEAF = "a leaf Variable that requires grad is being used in an in-place operation."
INPLACE_VIEW_OF_LEAF = "a view of a leaf Variable that requires grad is being used in an in-place operation."
NUMPY_NEEDS_DETACH = "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
NOT_SCALAR = "a Tensor with {} elements cannot be converted to Scalar"
NO_GRAD_FN = "element 0 of tensors does not require grad and does not have a grad_fn"
NOT_SCALAR_OUTPUT = "grad can be implicitly created only for scalar outputs"
UNUSED = "The differentiated Tensor at index {} appears to not have been used in the graph. Set allow_unused=True if this is the desired behavior."
NOT_DIFFERENTIATED = "One of the differentiated Tensors does not require grad"
MODIFIED = (
    "one of the variables needed for gradient computation has been modified by an inplace operation: a leaf that this "
    "result was computed of has changed since. Call backward before you change it, or compute the result again."
)


class SizeError(ShapeError, RuntimeError):
    """Shapes or types that do not fit: a ShapeError of the graph, and the RuntimeError that PyTorch raises."""


class DimError(ShapeError, IndexError):
    """A dimension out of range."""


KNOWN_ABSENT = {
    "float16": "half precision", "half": "half precision", "bfloat16": "half precision", "int8": "8-bit signed integers", "int16": "16-bit integers",
    "complex64": "complex numbers", "complex128": "complex numbers",
    "fft": "Fourier transforms", "svd": "decompositions of matrices", "inv": "decompositions of matrices", "jit": "TorchScript; use torch.compile", "fx": "graph capture; use torch.compile",
}  # fmt: skip


def absent(name: str, known: Iterable[str], module: str = "tinyflow.torch") -> AttributeError:
    """The error for a name that is not there: what it would be, or what it may have been meant to be."""
    if name in KNOWN_ABSENT:
        return AttributeError(f"{module} has no {name!r}: tinyflow does not do {KNOWN_ABSENT[name]}")
    near = difflib.get_close_matches(name, list(known), 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return AttributeError(f"{module} has no {name!r}{hint or '; dir() lists what there is'}")
