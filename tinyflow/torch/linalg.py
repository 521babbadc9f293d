"""torch.linalg: norms and products. Decompositions are not there: tinyflow has no ops for them."""

from __future__ import annotations

from typing import Any

from tinyflow.torch.functions import lift
from tinyflow.torch.products import matmul as product
from tinyflow.torch.reductions import norm as norm_of
from tinyflow.torch.tensor import Tensor

find = lift("linalg_vector_norm", norm_of)
matmul = lift("matmul", product)


def vector_norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """(sum |x|^ord)^(1/ord) over some axes"""
    return find(x, ord, dim, keepdim, dtype)


def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The norm of a vector, or the Frobenius norm of a matrix."""
    pair = (dim is None and A.ndim == 2) or (isinstance(dim, tuple) and len(dim) == 2)
    if pair and ord not in (None, "fro"):
        raise NotImplementedError(
            f"linalg.norm of a matrix with ord={ord!r}; there is the Frobenius norm, and vector_norm"
        )
    return find(A, 2 if ord in (None, "fro") else ord, dim, keepdim, dtype)


def __getattr__(name: str) -> Any:
    from tinyflow.torch.errors import absent

    raise absent(name, globals(), "torch.linalg")
