"""Initializers: functions of a shape that give a variable's first value.

    initializer(shape, dtype=None, partition_info=None) -> tensor

K. He et al., "Delving deep into rectifiers"; X. Glorot, Y. Bengio, "Understanding the difficulty of training deep
feedforward neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinyflow.core import dtypes
from tinyflow.symbolic import filling, random
from tinyflow.symbolic.shape import TensorShape
from tinyflow.symbolic.tensor import Tensor, as_dtype, constant


class Initializer:
    """A function of a shape and a type."""

    dtype: Any = dtypes.float32

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        raise NotImplementedError

    def type(self, dtype: Any) -> Any:
        return as_dtype(self.dtype if dtype is None else dtype)


class Zeros(Initializer):
    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return filling.zeros(shape, self.type(dtype))


class Ones(Initializer):
    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return filling.ones(shape, self.type(dtype))


class Constant(Initializer):
    """A number everywhere, or an array's elements; the last one fills what is left over."""

    def __init__(self, value: Any = 0, dtype: Any = dtypes.float32, verify_shape: bool = False) -> None:
        self.value, self.dtype, self.verify_shape = value, dtype, verify_shape

    def __call__(
        self, shape: Any, dtype: Any = None, partition_info: Any = None, verify_shape: bool | None = None
    ) -> Tensor:
        return constant(self.value, self.type(dtype), shape, verify_shape=bool(verify_shape or self.verify_shape))


class RandomNormal(Initializer):
    def __init__(self, mean: float = 0.0, stddev: float = 1.0, seed: Any = None, dtype: Any = dtypes.float32) -> None:
        self.mean, self.stddev, self.seed, self.dtype = mean, stddev, seed, dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random.random_normal(shape, self.mean, self.stddev, self.type(dtype), self.seed)


class TruncatedNormal(Initializer):
    def __init__(self, mean: float = 0.0, stddev: float = 1.0, seed: Any = None, dtype: Any = dtypes.float32) -> None:
        self.mean, self.stddev, self.seed, self.dtype = mean, stddev, seed, dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random.truncated_normal(shape, self.mean, self.stddev, self.type(dtype), self.seed)


class RandomUniform(Initializer):
    def __init__(
        self, minval: float = 0, maxval: float | None = None, seed: Any = None, dtype: Any = dtypes.float32
    ) -> None:
        self.minval, self.maxval, self.seed, self.dtype = minval, maxval, seed, dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random.random_uniform(shape, self.minval, self.maxval, self.type(dtype), self.seed)


class Identity(Initializer):
    def __init__(self, gain: float = 1.0, dtype: Any = dtypes.float32) -> None:
        self.gain, self.dtype = gain, dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        rows, columns = TensorShape(shape).as_list()
        return filling.eye(rows, columns, dtype=self.type(dtype)) * self.gain


TRUNCATION = 0.87962566103423978  # the standard deviation of a unit normal cut at two


class VarianceScaling(Initializer):
    """Random numbers of variance scale / n, n being the fan in, the fan out or their mean.

    distribution  'truncated_normal' (or 'normal'), 'untruncated_normal' or 'uniform'
    """

    def __init__(
        self, scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal", seed: Any = None,
        dtype: Any = dtypes.float32,
    ) -> None:  # fmt: skip
        if scale <= 0 or mode not in FANS or distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"variance scaling by {scale} with mode {mode!r} and distribution {distribution!r}: the scale is above 0, "
                f"the mode one of {', '.join(FANS)}, the distribution one of {', '.join(DISTRIBUTIONS)}"
            )
        self.scale, self.mode, self.distribution, self.seed, self.dtype = scale, mode, distribution, seed, dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes = TensorShape(shape).as_list()
        fan_in, fan_out = fans(sizes)
        variance = self.scale / max(1.0, FANS[self.mode](fan_in, fan_out))
        return DISTRIBUTIONS[self.distribution](sizes, math.sqrt(variance), self.type(dtype), self.seed)


FANS = {"fan_in": lambda i, o: i, "fan_out": lambda i, o: o, "fan_avg": lambda i, o: (i + o) / 2}
DISTRIBUTIONS = {
    "truncated_normal": lambda shape, sd, dtype, seed: random.truncated_normal(
        shape, 0.0, sd / TRUNCATION, dtype, seed
    ),
    "normal": lambda shape, sd, dtype, seed: random.truncated_normal(shape, 0.0, sd / TRUNCATION, dtype, seed),
    "untruncated_normal": lambda shape, sd, dtype, seed: random.random_normal(shape, 0.0, sd, dtype, seed),
    "uniform": lambda shape, sd, dtype, seed: random.random_uniform(
        shape, -sd * math.sqrt(3), sd * math.sqrt(3), dtype, seed
    ),
}


def fans(shape: Sequence[int]) -> tuple[float, float]:
    """(fan in, fan out) of a weight: the last two sizes, times the size of the window."""
    if len(shape) < 2:
        n = float(shape[0]) if shape else 1.0
        return n, n
    window = math.prod(shape[:-2])
    return float(shape[-2] * window), float(shape[-1] * window)


def scaling(scale: float, mode: str, distribution: str) -> Any:
    def build(seed: Any = None, dtype: Any = dtypes.float32) -> VarianceScaling:
        return VarianceScaling(scale, mode, distribution, seed, dtype)

    return build


glorot_uniform = scaling(1.0, "fan_avg", "uniform")
glorot_normal = scaling(1.0, "fan_avg", "truncated_normal")
he_uniform = scaling(2.0, "fan_in", "uniform")
he_normal = scaling(2.0, "fan_in", "truncated_normal")
lecun_uniform = scaling(1.0, "fan_in", "uniform")
lecun_normal = scaling(1.0, "fan_in", "truncated_normal")


def uniform_unit_scaling(factor: float = 1.0, seed: Any = None, dtype: Any = dtypes.float32) -> VarianceScaling:
    return VarianceScaling(factor * factor, "fan_in", "uniform", seed, dtype)


def xavier_initializer(uniform: bool = True, seed: Any = None, dtype: Any = dtypes.float32) -> VarianceScaling:
    """Glorot and Bengio's, as tf.contrib.layers has it."""
    return VarianceScaling(
        1.0 if uniform else 1.3 * TRUNCATION**2, "fan_avg", "uniform" if uniform else "truncated_normal", seed, dtype
    )


def variance_scaling_initializer(
    factor: float = 2.0, mode: str = "FAN_IN", uniform: bool = False, seed: Any = None, dtype: Any = dtypes.float32,
) -> VarianceScaling:  # fmt: skip
    """He's, as tf.contrib.layers has it."""
    scale = factor if uniform else 1.3 * factor * TRUNCATION**2
    return VarianceScaling(scale, mode.lower(), "uniform" if uniform else "truncated_normal", seed, dtype)


zeros, ones, constant_, identity = Zeros, Ones, Constant, Identity
random_normal, random_uniform, truncated_normal, variance_scaling = (
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)


def global_variables() -> Any:
    from tinyflow.symbolic.variable import global_variables_initializer

    return global_variables_initializer()


def local_variables() -> Any:
    from tinyflow.symbolic.variable import local_variables_initializer

    return local_variables_initializer()
