"""torch.distributions: what can be drawn from, and the logarithms of probabilities."""

from __future__ import annotations

import math
from typing import Any

from tinyflow.torch.creation import as_tensor, tensor
from tinyflow.torch.functions import FUNCTIONS
from tinyflow.torch.modes import no_grad
from tinyflow.torch.random import multinomial, rand, randn
from tinyflow.torch.tensor import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def real(x: Any) -> Any:
    return x if isinstance(x, Tensor) else tensor(float(x))


class Distribution:
    """Draws without (sample) and with (rsample) gradients to the parameters; log_prob(value); entropy()."""

    shape: tuple[int, ...]

    def sample(self, sample_shape: Any = ()) -> Any:
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no draws that gradients go through")

    def log_prob(self, value: Any) -> Any:
        raise NotImplementedError

    def entropy(self) -> Any:
        raise NotImplementedError


class Normal(Distribution):
    """exp(-((x - loc) / scale)^2 / 2) / (scale sqrt(2 pi))"""

    def __init__(self, loc: Any, scale: Any, validate_args: Any = None) -> None:
        self.loc, self.scale = real(loc), real(scale)
        self.shape = (self.loc + self.scale).shape
        self.mean, self.stddev = self.loc, self.scale

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.loc + self.scale * randn(*sample_shape, *self.shape)

    def log_prob(self, value: Any) -> Any:
        z = (value - self.loc) / self.scale
        return -(z * z) * 0.5 - self.scale.log() - HALF_LOG_2PI

    def entropy(self) -> Any:
        return 0.5 + HALF_LOG_2PI + self.scale.log() + self.loc * 0


class Uniform(Distribution):
    """1 / (high - low) from low to high"""

    def __init__(self, low: Any, high: Any, validate_args: Any = None) -> None:
        self.low, self.high = real(low), real(high)
        self.shape = (self.low + self.high).shape

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.low + rand(*sample_shape, *self.shape) * (self.high - self.low)

    def log_prob(self, value: Any) -> Any:
        inside = (value >= self.low) & (value < self.high)
        return FUNCTIONS["where"](inside, -(self.high - self.low).log(), -math.inf)

    def entropy(self) -> Any:
        return (self.high - self.low).log()


class Categorical(Distribution):
    """One of several classes, of given probabilities (or logits) along the last axis"""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: Any = None) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        self.logits = logits.log_softmax(-1) if probs is None else (probs / probs.sum(-1, keepdim=True)).log()
        self.probs = self.logits.exp() if probs is None else probs / probs.sum(-1, keepdim=True)
        self.shape = self.logits.shape[:-1]

    def sample(self, sample_shape: Any = ()) -> Any:
        with no_grad():
            count = math.prod(sample_shape)
            rows = self.probs.reshape(-1, self.probs.shape[-1])
            drawn = multinomial(rows, count, replacement=True)
            return drawn.t().reshape(*sample_shape, *self.shape)

    def log_prob(self, value: Any) -> Any:
        index = value.long().unsqueeze(-1)
        shape = (*index.shape[:-1], self.logits.shape[-1])
        return self.logits.expand(shape).gather(-1, index).squeeze(-1)

    def entropy(self) -> Any:
        return -(self.probs * self.logits).sum(-1)


class Bernoulli(Distribution):
    """1 with probability p, else 0"""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: Any = None) -> None:
        self.logits = logits if probs is None else real(probs).logit()
        self.probs = self.logits.sigmoid() if probs is None else real(probs)
        self.shape = self.probs.shape

    def sample(self, sample_shape: Any = ()) -> Any:
        with no_grad():
            return (rand(*sample_shape, *self.shape) < self.probs).float()

    def log_prob(self, value: Any) -> Any:
        from tinyflow.torch.nn.functional import TABLE

        wide = FUNCTIONS["add"](self.logits, as_tensor(value) * 0)
        return -TABLE["binary_cross_entropy_with_logits"](wide, as_tensor(value), reduction="none")

    def entropy(self) -> Any:
        p = self.probs
        return -(p * p.log() + (1 - p) * (1 - p).log())


def kl_divergence(p: Any, q: Any) -> Any:
    """The divergence of q from p: of two normals, or of two categoricals."""
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio, gap = (p.scale / q.scale) ** 2, ((p.loc - q.loc) / q.scale) ** 2
        return 0.5 * (ratio + gap - 1 - ratio.log())
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return (p.probs * (p.logits - q.logits)).sum(-1)
    raise NotImplementedError(f"the divergence of {type(q).__name__} from {type(p).__name__}")
