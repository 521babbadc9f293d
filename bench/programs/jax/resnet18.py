"""A residual network of 18 layers for images of 32 x 32: He et al., 2015."""

import jax

from bench.programs.jax.layers import batch_norm, conv, cross_entropy, linear
from bench.programs.jax.training import sgd

optimizer = sgd(lr=0.001, momentum=0.9)
ONE = ((1, 1), (1, 1))  # of padding, as PyTorch pads where the stride is 2, too


def block(p, name, x, stride, seen):
    y = conv(p, f"{name}.conv1", x, stride, ONE)
    y = jax.nn.relu(batch_norm(p, f"{name}.bn1", y, seen))
    y = batch_norm(p, f"{name}.bn2", conv(p, f"{name}.conv2", y, 1, ONE), seen)
    if f"{name}.shortcut.0.weight" in p:
        x = batch_norm(p, f"{name}.shortcut.1", conv(p, f"{name}.shortcut.0", x, stride, "VALID"), seen)
    return jax.nn.relu(y + x)


def loss(p, x, y):
    seen = {}
    x = x.transpose(0, 2, 3, 1)  # (B, 32, 32, 3)
    x = jax.nn.relu(batch_norm(p, "bn1", conv(p, "conv1", x, 1, ONE), seen))
    for k in range(8):
        x = block(p, f"blocks.{k}", x, 2 if k in (2, 4, 6) else 1, seen)
    return cross_entropy(linear(p, "fc", x.mean((1, 2))), y).mean(), seen
