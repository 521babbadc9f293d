"""A network that names what each pixel belongs to, down through four levels and up again: Ronneberger et al., 2015."""

import jax
import jax.numpy as jnp

from bench.programs.jax.layers import batch_norm, conv, cross_entropy, max_pool
from bench.programs.jax.training import adam

optimizer = adam(lr=1e-4)
LEVELS = 4


def double(p, name, x, seen):
    """Two convolutions, each with batch norm and relu."""
    x = jax.nn.relu(batch_norm(p, f"{name}.1", conv(p, f"{name}.0", x), seen))
    return jax.nn.relu(batch_norm(p, f"{name}.4", conv(p, f"{name}.3", x), seen))


def double_size(p, name, x):
    """A transposed convolution whose windows do not meet: each pixel becomes 2 x 2."""
    B, H, W, _ = x.shape
    y = jnp.einsum("bhwi,iopq->bhpwqo", x, p[f"{name}.weight"])
    return y.reshape(B, 2 * H, 2 * W, -1) + p[f"{name}.bias"]


def loss(p, x, y):
    seen, kept = {}, []
    x = x.transpose(0, 2, 3, 1)  # (B, H, W, 3)
    for k in range(LEVELS):
        x = double(p, f"down.{k}", x if k == 0 else max_pool(x), seen)
        kept.append(x)
    for k, left in enumerate(kept[-2::-1]):
        x = double(p, f"merge.{k}", jnp.concatenate([left, double_size(p, f"up.{k}", x)], -1), seen)
    return cross_entropy(conv(p, "head", x), y).mean(), seen
