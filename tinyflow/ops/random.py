"""Random numbers: each is a function of a key and of its own position, so the same seed gives the same numbers whatever
else is in the graph and however many threads run.

    bits(key, i) = mix(key + (i + 1) * 0x9E3779B97F4A7C15)         SplitMix64: Steele, Lea, Flood, OOPSLA 2014
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType, float32, float64, int64
from tinyflow.core.expr import Expr, apply, const
from tinyflow.graph.node import Node, Shape, make
from tinyflow.graph.op import Sample, define
from tinyflow.ops import elementwise as e
from tinyflow.ops.movement import flatten
from tinyflow.ops.rules import attribute

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def mix(z: int) -> int:
    """SplitMix64's finaliser: every bit of z changes every bit of the result."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def make_key(*parts: int) -> int:
    """An int64 key that depends on all parts and their order."""
    key = 0
    for p in parts:
        key = mix((key + GOLDEN + (p & MASK)) & MASK)
    return key - (1 << 64) if key >> 63 else key


def uniform_np(key: Any, salt: int, shape: tuple[int, ...], dtype: DType) -> Any:
    n = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN) + (
            np.asarray(key).astype(np.uint64) ^ np.uint64(salt & MASK)
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    bits = 24 if dtype is float32 else 53
    return ((z >> np.uint64(64 - bits)).astype(dtype.numpy) * dtype.numpy.type(2.0**-bits)).reshape(shape)


def uniform_at(i: Any, key: Any, salt: int, shape: Shape, dtype: DType) -> Expr:
    position = flatten(i, shape)
    signed = salt - (1 << 64) if salt >> 63 else salt
    return apply(
        "uniform", key(), const(signed), position if isinstance(position, Expr) else const(position), dtype=dtype
    )


# fmt: off
#                  name        numpy meaning        shape rule                          type                value at one index
UNIFORM = define("uniform", numpy=uniform_np, shape=lambda s, shape, **_: shape, dtype=attribute, at=uniform_at, grad=None,
                 samples=(Sample((((), int64, -9e9, 9e9),), {"salt": 7, "shape": (3, 47), "dtype": float32}), Sample((((), int64, -9e9, 9e9),), {"salt": 0, "shape": (40,), "dtype": float64})))
# fmt: on


def uniform(key: Node, shape: Shape, dtype: DType = float32, salt: int = 0) -> Node:
    """Numbers in [0, 1), of 24 random bits (53 for float64)."""
    drawn = make(UNIFORM, key, salt=salt & MASK, shape=tuple(shape), dtype=dtype.computed)
    return e.cast(drawn, dtype)


def normal(key: Node, shape: Shape, dtype: DType = float32, salt: int = 0) -> Node:
    """Standard normal numbers, by Box and Muller: sqrt(-2 log u) cos(2 pi v)."""
    u, v = uniform(key, shape, dtype, make_key(salt, 1)), uniform(key, shape, dtype, make_key(salt, 2))
    return e.sqrt(e.log(1.0 - u) * -2.0) * e.cos(v * (2 * math.pi))


def truncated_normal(key: Node, shape: Shape, dtype: DType = float32, salt: int = 0) -> Node:
    """Standard normal numbers within two deviations, by the inverse of the distribution: sqrt(2) erfinv(2 p - 1)."""
    low = math.erf(-2 / math.sqrt(2))  # 2 p - 1 runs from here to -low
    u = uniform(key, shape, dtype, salt)
    return e.minimum(e.maximum(e.erfinv(u * (-2 * low) + low) * math.sqrt(2), -2.0), 2.0)
