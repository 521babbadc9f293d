"""A transformer that fills in what is masked, in sentences of different lengths: Devlin et al., 2018."""

import jax
import jax.numpy as jnp

from bench.programs.jax.layers import cross_entropy, embedding, layer_norm, linear
from bench.programs.jax.training import adam

optimizer = adam(lr=1e-4, decay=0.01)
PADDING, LAYERS, HEADS = 0, 4, 4


def attention(p, name, x, mask):
    B, T, C = x.shape
    qkv = x @ p[f"{name}.in_proj_weight"].T + p[f"{name}.in_proj_bias"]
    q, k, v = jnp.split(qkv.reshape(B, T, 3 * HEADS, C // HEADS), 3, axis=2)
    return linear(p, f"{name}.out_proj", jax.nn.dot_product_attention(q, k, v, mask=mask).reshape(B, T, C))


def block(p, name, x, mask):
    x = layer_norm(p, f"{name}.norm1", x + attention(p, f"{name}.self_attn", x, mask))
    h = jax.nn.gelu(linear(p, f"{name}.linear1", x), approximate=False)
    return layer_norm(p, f"{name}.norm2", x + linear(p, f"{name}.linear2", h))


def loss(p, x, y):
    """y is -100 where nothing was masked."""
    h = layer_norm(p, "norm", embedding(p, "tokens", x) + p["positions.weight"][: x.shape[1]])
    for k in range(LAYERS):
        h = block(p, f"encoder.layers.{k}", h, (x != PADDING)[:, None, None, :])
    h = layer_norm(p, "dense_norm", jax.nn.gelu(linear(p, "dense", h), approximate=False))
    asked = y != -100
    each = cross_entropy(linear(p, "head", h), jnp.where(asked, y, 0))
    return (each * asked).sum() / asked.sum()
