"""A transformer that predicts the noise of a picture, told the time and the class: Peebles and Xie, 2022."""

import math

import jax
import jax.numpy as jnp

from bench.programs.jax.layers import attention, embedding, layer_norm, linear
from bench.programs.jax.training import adam

optimizer = adam(lr=1e-4)
STEPS, PATCH, LAYERS, HEADS, EPS = 1000, 2, 6, 4, 1e-6


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


def frequencies(t, width):
    """Sines and cosines of the time: (B,) -> (B, width)"""
    half = width // 2
    f = jnp.exp(-math.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = t[:, None].astype(jnp.float32) * f
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


def modulation(p, name, c, count):
    return jnp.split(linear(p, f"{name}.modulation.1", jax.nn.silu(c)), count, axis=1)


def block(p, name, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation(p, name, c, 6)
    h = attention(p, f"{name}.qkv", modulate(layer_norm(p, "", x, EPS), shift1, scale1), HEADS)
    x = x + gate1[:, None] * linear(p, f"{name}.proj", h)
    h = linear(p, f"{name}.mlp.0", modulate(layer_norm(p, "", x, EPS), shift2, scale2))
    return x + gate2[:, None] * linear(p, f"{name}.mlp.2", jax.nn.gelu(h, approximate=True))


def dit(p, x, t, y):
    """(B, C, H, W) -> (B, C, H, W)"""
    B, C, H, W = x.shape
    h, w = H // PATCH, W // PATCH
    patches = x.reshape(B, C, h, PATCH, w, PATCH)
    x = jnp.einsum("bchpwq,ocpq->bhwo", patches, p["embed.weight"]) + p["embed.bias"]
    x = x.reshape(B, h * w, -1) + p["positions"]  # (B, T, width)
    c = linear(p, "time.2", jax.nn.silu(linear(p, "time.0", frequencies(t, x.shape[-1])))) + embedding(p, "classes", y)
    for k in range(LAYERS):
        x = block(p, f"blocks.{k}", x, c)
    shift, scale = jnp.split(linear(p, "modulation.1", jax.nn.silu(c)), 2, axis=1)
    x = linear(p, "head", modulate(layer_norm(p, "", x, EPS), shift, scale))
    return x.reshape(B, h, w, PATCH, PATCH, C).transpose(0, 5, 1, 3, 2, 4).reshape(B, C, H, W)


def loss(p, x, noise, t, y):
    """The mean square of what is wrong in the noise; of the picture less and less is left as t grows."""
    kept = jnp.cos(t.astype(jnp.float32) / STEPS * (math.pi / 2))[:, None, None, None]
    noisy = kept * x + jnp.sqrt(1 - kept * kept) * noise
    return jnp.square(dit(p, noisy, t, y) - noise).mean()
