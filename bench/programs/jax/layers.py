"""Layers: functions of all weights by their PyTorch names, of which each takes those under its own."""

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ("NHWC", "OIHW", "NHWC")


def linear(p, name, x):
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def embedding(p, name, x):
    return p[f"{name}.weight"][x]


def conv(p, name, x, stride=1, padding="SAME"):
    kernel = p[f"{name}.weight"]
    y = lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=LAYOUT)
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def max_pool(x):
    """The greatest of each 2 x 2 pixels"""
    B, H, W, C = x.shape
    return x.reshape(B, H // 2, 2, W // 2, 2, C).max((2, 4))


def normalised(x, axes, eps):
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(var + eps), mean, var


def layer_norm(p, name, x, eps=1e-5):
    y = normalised(x, -1, eps)[0]
    return y * p[f"{name}.weight"] + p[f"{name}.bias"] if f"{name}.weight" in p else y


def batch_norm(p, name, x, seen):
    """By the moments of the batch, which are put into `seen`"""
    y, mean, var = normalised(x, (0, 1, 2), 1e-5)
    count = x.size // x.shape[-1]
    seen[name] = lax.stop_gradient((mean.ravel(), var.ravel() * (count / (count - 1))))
    return y * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(p, name, x, count, causal=False, mask=None):
    """Attention of several heads over q, k, v that come from one projection: (B, T, C) -> (B, T, C)"""
    B, T, C = x.shape
    q, k, v = jnp.split(linear(p, name, x).reshape(B, T, 3 * count, C // count), 3, axis=2)
    return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal).reshape(B, T, C)


def cross_entropy(scores, labels):
    """-log softmax(scores) at the label, for each row"""
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[..., None], -1)[..., 0]
