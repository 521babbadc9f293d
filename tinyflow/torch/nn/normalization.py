"""Layers that normalise: over the last axes, over groups of channels, over the batch."""

from __future__ import annotations

from typing import Any

from tinyflow.torch.creation import ones, zeros
from tinyflow.torch.nn import functional as F
from tinyflow.torch.nn.module import Module, Parameter
from tinyflow.torch.tensor import Tensor

T = F.TABLE  # a global of its own: a trace sees what is in it


def learnt(module: Module, shape: Any, weight: bool, bias: bool, device: Any, dtype: Any) -> None:
    """A factor, ones at first, and a summand, zeros; or None for them."""
    kind = {"device": device, "dtype": dtype}
    module.register_parameter("weight", Parameter(ones(shape, **kind)) if weight else None)
    module.register_parameter("bias", Parameter(zeros(shape, **kind)) if bias else None)


def last_axes(normalized_shape: Any) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class LayerNorm(Module):
    """Normalised over the last axes, then scaled and shifted"""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = last_axes(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        learnt(self, self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return T["layer_norm"](input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"


class RMSNorm(Module):
    """Divided by the root of the mean square over the last axes, then scaled"""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = last_axes(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.register_parameter(
            "weight", Parameter(ones(self.normalized_shape, device=device, dtype=dtype)) if elementwise_affine else None
        )

    def forward(self, input: Tensor) -> Tensor:
        return T["rms_norm"](input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalised over groups of channels, then scaled and shifted a channel"""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        learnt(self, num_channels, affine, affine and bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return T["group_norm"](input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


class _BatchNorm(Module):
    """What batch norms of all ranks have in common: their name in isinstance."""


def batch_norm(name: str, ranks: tuple[int, ...], instance: bool = False) -> type[Module]:
    """BatchNorm1d, 2d, 3d and the instance norms: they differ by the rank that they take."""

    def __init__(self: Any, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = not instance, track_running_stats: bool = not instance, device: Any = None, dtype: Any = None, bias: bool = True) -> None:  # fmt: skip
        Module.__init__(self)
        kind = {"device": device, "dtype": dtype}
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        learnt(self, num_features, affine, affine and bias, device, dtype)
        self.register_buffer("running_mean", zeros(num_features, **kind) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features, **kind) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", zeros((), dtype=int) if track_running_stats else None)

    def forward(self: Any, input: Tensor) -> Tensor:
        if input.ndim not in ranks:
            raise ValueError(f"expected {' or '.join(f'{r}D' for r in ranks)} input (got {input.ndim}D input)")
        if instance:
            alone = self.training or self.running_mean is None
            return F.instance_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                alone,
                self.momentum or 0.0,
                self.eps,
            )
        momentum = self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        training = self.training or self.running_mean is None
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training, momentum or 0.0, self.eps
        )

    def extra_repr(self: Any) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, bias={self.bias is not None}, track_running_stats={self.track_running_stats}"

    body = {"__init__": __init__, "forward": forward, "extra_repr": extra_repr, "__module__": __name__}
    return type(name, (Module if instance else _BatchNorm,), body)


BatchNorm1d, BatchNorm2d, BatchNorm3d = (
    batch_norm(f"BatchNorm{r}d", ranks) for r, ranks in ((1, (2, 3)), (2, (4,)), (3, (5,)))
)
InstanceNorm1d, InstanceNorm2d, InstanceNorm3d = (batch_norm(f"InstanceNorm{r}d", (r + 2,), True) for r in (1, 2, 3))
