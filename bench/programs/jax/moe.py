"""A transformer whose perceptrons are experts; a router sends each token to two of them: Shazeer et al., 2017."""

import jax
import jax.numpy as jnp
from jax import lax

from bench.programs.jax.layers import attention, cross_entropy, embedding, layer_norm, linear
from bench.programs.jax.training import adam

optimizer = adam(lr=1e-3, b2=0.99, decay=0.1)
LAYERS, HEADS, EXPERTS, TOP = 4, 4, 8, 2


def stacked(p, name, part):
    return jnp.stack([p[f"{name}.experts.{k}.{part}"] for k in range(EXPERTS)])


def experts(p, name, x):
    """The tokens in the order of their experts, so that each expert's lie together."""
    tokens = x.reshape(-1, x.shape[-1])  # (N, C)
    scores, chosen = lax.top_k(linear(p, f"{name}.router", tokens), TOP)  # (N, TOP)
    weights, chosen = jax.nn.softmax(scores).ravel(), chosen.ravel()
    order = jnp.argsort(chosen)
    token, chosen = order // TOP, chosen[order]
    counts = jnp.bincount(chosen, length=EXPERTS)
    h = lax.ragged_dot(tokens[token], stacked(p, name, "0.weight").transpose(0, 2, 1), counts)
    h = jax.nn.gelu(h + stacked(p, name, "0.bias")[chosen], approximate=False)
    h = lax.ragged_dot(h, stacked(p, name, "2.weight").transpose(0, 2, 1), counts) + stacked(p, name, "2.bias")[chosen]
    return jnp.zeros_like(tokens).at[token].add(weights[order, None] * h).reshape(x.shape)


def block(p, name, x):
    h = attention(p, f"{name}.attention.qkv", layer_norm(p, f"{name}.ln1", x), HEADS, causal=True)
    x = x + linear(p, f"{name}.attention.proj", h)
    return x + experts(p, f"{name}.experts", layer_norm(p, f"{name}.ln2", x))


def loss(p, x, y):
    h = embedding(p, "tokens", x) + p["positions.weight"][: x.shape[1]]  # (B, T, width)
    for k in range(LAYERS):
        h = block(p, f"blocks.{k}", h)
    return cross_entropy(linear(p, "head", layer_norm(p, "ln", h)), y).mean()
