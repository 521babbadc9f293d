"""The face's messages, and errors that are both what the graph raises and what PyTorch's users catch."""

from __future__ import annotations

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
