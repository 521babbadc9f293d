"""torch.nn.modules: other names for what is in torch.nn, and the small helpers that programs take from there."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from types import SimpleNamespace
from typing import Any

from tinyflow.torch.nn import convolution, layers, normalization
from tinyflow.torch.nn.containers import ModuleDict, ModuleList, Sequential
from tinyflow.torch.nn.module import Module


def _ntuple(n: int) -> Callable[[Any], tuple[Any, ...]]:
    """A number n times, or the n numbers given."""
    return lambda x: tuple(x) if isinstance(x, tuple | list) else tuple(repeat(x, n))


utils = SimpleNamespace(
    _ntuple=_ntuple, _single=_ntuple(1), _pair=_ntuple(2), _triple=_ntuple(3), _quadruple=_ntuple(4)
)
batchnorm = SimpleNamespace(
    _BatchNorm=normalization._BatchNorm,
    BatchNorm1d=normalization.BatchNorm1d,
    BatchNorm2d=normalization.BatchNorm2d,
    BatchNorm3d=normalization.BatchNorm3d,
)
conv = SimpleNamespace(Conv1d=convolution.Conv1d, Conv2d=convolution.Conv2d, Conv3d=convolution.Conv3d)
loss = SimpleNamespace(_Loss=layers._Loss, CrossEntropyLoss=layers.CrossEntropyLoss, MSELoss=layers.MSELoss)

__all__ = ["Module", "ModuleDict", "ModuleList", "Sequential", "batchnorm", "conv", "loss", "utils"]
