"""A transformer that predicts the next symbol: Radford et al., 2019, in the sizes of Karpathy's nanoGPT."""

import jax

from bench.programs.jax.layers import attention, cross_entropy, embedding, layer_norm, linear
from bench.programs.jax.training import adam

optimizer = adam(lr=1e-3, b2=0.99, decay=0.1)


def block(p, name, x, count):
    h = attention(p, f"{name}.attention.qkv", layer_norm(p, f"{name}.ln1", x), count, causal=True)
    x = x + linear(p, f"{name}.attention.proj", h)
    h = jax.nn.gelu(linear(p, f"{name}.up", layer_norm(p, f"{name}.ln2", x)), approximate=False)
    return x + linear(p, f"{name}.down", h)


def loss(p, x, y, *, layers, heads, **_):
    h = embedding(p, "tokens", x) + p["positions.weight"][: x.shape[1]]  # (B, T, width)
    for k in range(layers):
        h = block(p, f"blocks.{k}", h, heads)
    return cross_entropy(linear(p, "head", layer_norm(p, "ln", h)), y).mean()
