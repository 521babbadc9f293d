"""A small convolutional network: LeCun et al., 1998, in the sizes of TensorFlow's tutorial."""

import jax

from bench.programs.jax.layers import conv, cross_entropy, linear, max_pool
from bench.programs.jax.training import adam

optimizer = adam(lr=1e-3)


def loss(p, x, y):
    x = x.transpose(0, 2, 3, 1)  # (B, 28, 28, 1)
    x = max_pool(jax.nn.relu(conv(p, "0", x)))
    x = max_pool(jax.nn.relu(conv(p, "3", x)))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # as the weights have it, channel by channel
    x = jax.nn.relu(linear(p, "7", x))
    return cross_entropy(linear(p, "9", x), y).mean()
