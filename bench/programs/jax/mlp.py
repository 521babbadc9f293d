"""A multilayer perceptron."""

import jax

from bench.programs.jax.layers import cross_entropy, linear
from bench.programs.jax.training import adam

optimizer = adam(lr=1e-3)


def loss(p, x, y):
    x = jax.nn.relu(linear(p, "0", x))
    x = jax.nn.relu(linear(p, "2", x))
    return cross_entropy(linear(p, "4", x), y).mean()
