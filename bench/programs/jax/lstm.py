"""A recurrent network that predicts the next symbol: Hochreiter and Schmidhuber, 1997."""

import jax
import jax.numpy as jnp
from jax import lax

from bench.programs.jax.layers import cross_entropy, embedding, linear
from bench.programs.jax.training import adam

optimizer = adam(lr=1e-3)
LAYERS = 2


def lstm(p, name, layer, x):
    """(T, B, in) -> (T, B, width); what does not depend on the step before is one product"""
    w_x, w_h, b_x, b_h = (p[f"{name}.{kind}_l{layer}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    given = x @ w_x.T + (b_x + b_h)

    def step(state, z):
        h, c = state
        i, f, g, o = jnp.split(z + h @ w_h.T, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[1], w_h.shape[1]))
    return lax.scan(step, (start, start), given)[1]


def loss(p, x, y):
    h = embedding(p, "embedding", x.T)  # (T, B, embedding)
    for layer in range(LAYERS):
        h = lstm(p, "lstm", layer, h)
    return cross_entropy(linear(p, "head", h), y.T).mean()
