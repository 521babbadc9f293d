"""Attention layers: several heads side by side, and the encoder layer of the transformer. Vaswani et al., 2017."""

from __future__ import annotations

import copy
from typing import Any

from tinyflow.torch.creation import empty, zeros
from tinyflow.torch.functions import FUNCTIONS
from tinyflow.torch.nn import functional as F
from tinyflow.torch.nn import init
from tinyflow.torch.nn.containers import ModuleList
from tinyflow.torch.nn.layers import Dropout, Linear
from tinyflow.torch.nn.module import Module, Parameter
from tinyflow.torch.nn.normalization import LayerNorm
from tinyflow.torch.tensor import Tensor


class MultiheadAttention(Module):
    """softmax(q k^T / sqrt(d)) v for each head, over projections of query, key and value; then one projection of all heads"""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        asked = {"add_bias_kv": add_bias_kv, "add_zero_attn": add_zero_attn, "kdim": kdim not in (None, embed_dim), "vdim": vdim not in (None, embed_dim)}  # fmt: skip
        if any(asked.values()):
            raise NotImplementedError(
                f"MultiheadAttention with {' and '.join(k for k, v in asked.items() if v)}; "
                "write the projections as Linear layers around scaled_dot_product_attention"
            )
        kind = {"device": device, "dtype": dtype}
        if embed_dim % num_heads:
            raise AssertionError("embed_dim must be divisible by num_heads")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.head_dim = embed_dim // num_heads
        self.in_proj_weight = Parameter(empty(3 * embed_dim, embed_dim, **kind))
        self.register_parameter("in_proj_bias", Parameter(zeros(3 * embed_dim, **kind)) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, **kind)
        init.xavier_uniform_(self.in_proj_weight)
        if bias:
            init.zeros_(self.out_proj.bias)

    def heads(self, x: Any, first: int, count: int) -> list[Any]:
        """Some of the projections, by one product: (batch, length, width) -> (batch, heads, length, width / heads) each"""
        rows = slice(first * self.embed_dim, (first + count) * self.embed_dim)
        w: Any = self.in_proj_weight
        b: Any = self.in_proj_bias
        y = FUNCTIONS["linear"](x, w[rows], None if b is None else b[rows])
        return list(y.reshape(*x.shape[:2], count, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4))

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
        average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        xs = [query, key, value]
        alone = query.ndim == 2
        if alone:
            xs = [x.unsqueeze(0) for x in xs]
        elif not self.batch_first:
            xs = [x.transpose(0, 1) for x in xs]
        alike = (
            3 if query is key is value else 2 if key is value else 1
        )  # at the end: their projections are one product
        parts = [(0, 3)] if alike == 3 else [(0, 1), (1, 2)] if alike == 2 else [(0, 1), (1, 1), (2, 1)]
        q, k, v = (y for first, count in parts for y in self.heads(xs[first], first, count))
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
        if attn_mask is not None:
            mask = attn_mask if attn_mask.ndim == 2 else attn_mask.reshape(-1, self.num_heads, *attn_mask.shape[1:])
            scores = masked(scores, mask)
        if key_padding_mask is not None:
            scores = masked(scores, key_padding_mask.reshape(-1, 1, 1, k.shape[2]))
        p = F.dropout(scores.softmax(-1), self.dropout, self.training)
        y = (p @ v).transpose(1, 2)
        y = self.out_proj(y.reshape(*y.shape[:2], self.embed_dim))
        y = y.squeeze(0) if alone else y if self.batch_first else y.transpose(0, 1)
        shown = (p.mean(1) if average_attn_weights else p) if need_weights else None
        return y, shown.squeeze(0) if alone and shown is not None else shown


def masked(scores: Any, mask: Any) -> Any:
    """True, or minus infinity, where nothing may be seen."""
    return scores.masked_fill(mask, float("-inf")) if not mask.is_floating_point() else scores + mask


class TransformerEncoderLayer(Module):
    """x + attention(x), then x + a perceptron of x, each with a layer norm after it (before it with norm_first)"""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = "relu",
                 layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
                 device: Any = None, dtype: Any = None) -> None:  # fmt: skip
        super().__init__()
        kind = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **kind)
        self.linear1, self.dropout = Linear(d_model, dim_feedforward, bias, **kind), Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **kind)
        self.norm1, self.norm2 = (
            LayerNorm(d_model, layer_norm_eps, bias=bias, **kind),
            LayerNorm(d_model, layer_norm_eps, bias=bias, **kind),
        )
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.norm_first, self.activation = (
            norm_first,
            F.TABLE[activation] if isinstance(activation, str) else activation,
        )

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        x = src
        if self.norm_first:
            x = x + self._attend(self.norm1(x), src_mask, src_key_padding_mask)
            return x + self._feed(self.norm2(x))
        x = self.norm1(x + self._attend(x, src_mask, src_key_padding_mask))
        return self.norm2(x + self._feed(x))

    def _attend(self, x: Any, mask: Any, padding: Any) -> Any:
        return self.dropout1(self.self_attn(x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False)[0])

    def _feed(self, x: Any) -> Any:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """Copies of a layer, one after the other"""

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: Any = None) -> Any:
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
        return src if self.norm is None else self.norm(src)
