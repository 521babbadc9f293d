"""Convolutions in one, two and three dimensions, and their transposes."""

from __future__ import annotations

from typing import Any

from tinyflow.torch.creation import empty
from tinyflow.torch.nn import functional as F
from tinyflow.torch.nn.images import each
from tinyflow.torch.nn.layers import uniform_by_fan
from tinyflow.torch.nn.module import Module, Parameter
from tinyflow.torch.tensor import Tensor

T = F.TABLE  # a global of its own: a trace sees what is in it


def sides(layer: Any) -> list[int]:
    """What is put before and behind each axis, the last axis first."""
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    if layer.padding == "same":
        wide = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [p for n in reversed(wide) for p in (n // 2, n - n // 2)]
    return [p for n in reversed(layer.padding) for p in (n, n)]


def convolution(rank: int, transposed: bool = False) -> type[Module]:
    """Conv1d to 3d and their transposes."""
    name = f"Conv{'Transpose' if transposed else ''}{rank}d"
    function = T[f"conv_transpose{rank}d" if transposed else f"conv{rank}d"]

    def __init__(
        self: Any,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        *rest: Any,
        **named: Any,
    ) -> None:
        Module.__init__(self)
        order = (
            ("output_padding", "groups", "bias", "dilation", "padding_mode")
            if transposed
            else ("dilation", "groups", "bias", "padding_mode")
        )
        given = {"output_padding": 0, "dilation": 1, "groups": 1, "bias": True, "padding_mode": "zeros"}
        kind = {"device": named.pop("device", None), "dtype": named.pop("dtype", None)}
        unknown = [k for k in named if k not in order]
        if unknown:
            raise TypeError(f"{name}.__init__() got an unexpected keyword argument '{unknown[0]}'")
        given |= dict(zip((*order, *kind), rest, strict=False)) | named
        kind = {k: given.pop(k, v) for k, v in kind.items()}
        self.in_channels, self.out_channels, self.groups, self.padding_mode = (
            in_channels,
            out_channels,
            given["groups"],
            given["padding_mode"],
        )
        if in_channels % self.groups or out_channels % self.groups:
            raise ValueError(f"{'in' if in_channels % self.groups else 'out'}_channels must be divisible by groups")
        self.kernel_size, self.stride, self.dilation = (
            each(kernel_size, rank),
            each(stride, rank),
            each(given["dilation"], rank),
        )
        self.padding = padding if isinstance(padding, str) else each(padding, rank)
        self._reversed_padding_repeated_twice = sides(self)
        self.output_padding, self.transposed = each(given["output_padding"], rank), transposed
        shape = (in_channels, out_channels // self.groups) if transposed else (out_channels, in_channels // self.groups)
        self.weight = Parameter(empty(*shape, *self.kernel_size, **kind))
        self.register_parameter("bias", Parameter(empty(out_channels, **kind)) if given["bias"] else None)
        self.reset_parameters()

    def reset_parameters(self: Any) -> None:
        uniform_by_fan(self.weight, self.bias)

    def forward(self: Any, input: Tensor) -> Tensor:
        if transposed:
            return function(
                input,
                self.weight,
                self.bias,
                self.stride,
                self.padding,
                self.output_padding,
                self.groups,
                self.dilation,
            )
        if self.padding_mode != "zeros":
            wide = T["pad"](input, self._reversed_padding_repeated_twice, self.padding_mode)
            return function(wide, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return function(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self: Any) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}" if self.padding != (0,) * rank else ""
        text += f", dilation={self.dilation}" if self.dilation != (1,) * rank else ""
        text += f", output_padding={self.output_padding}" if self.output_padding != (0,) * rank else ""
        text += f", groups={self.groups}" if self.groups != 1 else ""
        text += ", bias=False" if self.bias is None else ""
        return text + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")

    body = {
        "__init__": __init__,
        "reset_parameters": reset_parameters,
        "forward": forward,
        "extra_repr": extra_repr,
        "__module__": __name__,
    }
    return type(name, (Module,), body)


Conv1d, Conv2d, Conv3d = (convolution(r) for r in (1, 2, 3))
ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = (convolution(r, True) for r in (1, 2, 3))
