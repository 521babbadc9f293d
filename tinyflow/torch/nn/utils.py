"""torch.nn.utils: what is done to all parameters together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinyflow.torch.creation import tensor
from tinyflow.torch.functions import FUNCTIONS
from tinyflow.torch.modes import no_grad
from tinyflow.torch.nn import rnn_utils as rnn
from tinyflow.torch.tensor import Tensor


def gradients_of(parameters: Any) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p._grad for p in parameters if p._grad is not None]


def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The norm of all elements of all tensors."""
    norms = [FUNCTIONS["norm"](g, norm_type) for g in tensors]
    return FUNCTIONS["norm"](FUNCTIONS["stack"](norms), norm_type) if norms else tensor(0.0)


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: Any = None
) -> Tensor:
    """Scales all gradients by max_norm / (norm + 1e-6) if their norm is greater; returns the norm."""
    grads = gradients_of(parameters)
    with no_grad():
        total: Any = get_total_norm(grads, float(norm_type))
        if error_if_nonfinite and not total.isfinite():
            raise RuntimeError(
                f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be clipped."
            )
        scale = (max_norm / (total + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(scale)
    return total


def clip_grad_value_(parameters: Any, clip_value: float, foreach: Any = None) -> None:
    """Cuts every element of every gradient to ±clip_value."""
    with no_grad():
        for g in gradients_of(parameters):
            g.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters in one vector."""
    return FUNCTIONS["cat"]([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Any, parameters: Iterable[Tensor]) -> None:
    """A vector's parts written into the parameters."""
    start = 0
    with no_grad():
        for p in parameters:
            p.copy_(vec[start : start + p.numel()].view_as(p))
            start += p.numel()


clip_grad_norm = clip_grad_norm_
__all__ = [
    "clip_grad_norm",
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "rnn",
    "vector_to_parameters",
]
