"""Random tensors. Numbers depend on a seed and on how many draws came before, not on the graph or the threads.

The key of a draw is a scalar leaf: a training step that drops out anew each time is the same program.
"""

from __future__ import annotations

import os
from typing import Any

from tinyflow.core.dtypes import DType, float64, int64
from tinyflow.graph.node import Node, Shape
from tinyflow.ops import elementwise as e
from tinyflow.ops import random as r
from tinyflow.torch.creation import like, made, sizes
from tinyflow.torch.dtypes import Defaults, core_of
from tinyflow.torch.leaves import passing_leaf
from tinyflow.torch.tensor import Tensor, assign, dtype_of, fresh, use


class Generator:
    """A seed, and a count of the draws made."""

    def __init__(self, device: Any = "cpu") -> None:
        self._seed, self._count = 67280421310721, 0

    def manual_seed(self, seed: int) -> Generator:
        self._seed, self._count = int(seed), 0
        return self

    def seed(self) -> int:
        """A seed that nobody can know beforehand."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        return self._seed

    def initial_seed(self) -> int:
        return self._seed

    def get_state(self) -> Tensor:
        from tinyflow.torch.creation import tensor

        return tensor([self._seed, self._count])

    def set_state(self, state: Tensor) -> Generator:
        self._seed, self._count = state.tolist()
        return self

    def key(self) -> Node:
        """The key of the next draw."""
        self._count += 1
        return passing_leaf(r.make_key(self._seed, self._count), int64)


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Start the default generator anew: the same seed gives the same numbers."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    return default_generator.seed()


def initial_seed() -> int:
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    return default_generator.get_state()


def set_rng_state(state: Tensor) -> None:
    default_generator.set_state(state)


def key(generator: Generator | None = None) -> Node:
    return (generator or default_generator).key()


# ------------------------------------------------------------------------------------------ draws, as nodes


def integers(k: Node, low: int, high: int, shape: Shape) -> Node:
    """Whole numbers from low to high - 1, from 53 random bits."""
    u = r.uniform(k, shape, float64)
    return e.cast(e.minimum(e.floor(u * float(high - low)), float(high - low - 1)), int64) + low


def permutation(k: Node, n: int) -> Node:
    """The numbers 0 to n - 1 in random order: each one's rank among random keys."""
    from tinyflow.torch.sorting import ranks

    return ranks(r.uniform(k, (n,), float64), 0, False)


# ------------------------------------------------------------------------------------------ functions


def drawer(draw: Any, doc: str) -> Any:
    def make(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False, **layout: Any) -> Tensor:  # fmt: skip
        shape = sizes((layout["size"],) if "size" in layout else size)
        d = Defaults.dtype if dtype is None else core_of(dtype)
        return made(draw(key(generator), shape, d), requires_grad, device)

    make.__doc__ = doc
    return make


rand = drawer(r.uniform, "Uniform numbers in [0, 1).")
randn = drawer(r.normal, "Normal numbers of mean 0 and variance 1.")
rand_like, randn_like = like(rand), like(randn)


def randint(low: int, high: Any = None, size: Any = None, *, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Whole numbers from low (0 if it is left out) to high - 1."""
    if size is None:
        low, high, size = 0, low, high
    if high <= low:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    node = integers(key(generator), int(low), int(high), sizes((size,)))
    return made(node if dtype is None else e.cast(node, core_of(dtype)), requires_grad, device)


def randint_like(input: Tensor, low: int, high: Any = None, **kwargs: Any) -> Tensor:
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input._shape, dtype=kwargs.pop("dtype", input.dtype), **kwargs)


def randperm(n: int, *, generator: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
    """0, 1, ... n - 1 in random order."""
    import numpy as np

    from tinyflow.torch.creation import tensor

    g = generator or default_generator
    g._count += 1
    order = np.random.default_rng(r.make_key(g._seed, g._count) & r.MASK).permutation(n)
    return tensor(order, dtype=int64 if dtype is None else dtype)


def normal(
    mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, dtype: Any = None, **_: Any
) -> Tensor:
    """Normal numbers of given mean and deviation: numbers with a size, or tensors."""
    if size is not None:
        return randn(*sizes((size,)), generator=generator, dtype=dtype) * std + mean
    model = mean if isinstance(mean, Tensor) else std
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        model = mean + std  # type: ignore[operator]
    return randn(*model._shape, generator=generator, dtype=model.dtype) * std + mean


def bernoulli(input: Tensor, p: float | None = None, *, generator: Any = None) -> Tensor:
    """One with the probability that each element gives, else zero."""
    d = dtype_of(input)
    return fresh(e.cast(e.less(r.uniform(key(generator), input._shape, d), use(input) if p is None else p), d))


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Indices drawn with the weights of each row; without replacement by the exponential race: argmin of -log u / w."""
    from tinyflow.torch.functions import FUNCTIONS

    rows = input if input.ndim == 2 else input.reshape(1, -1)
    if replacement:
        total = FUNCTIONS["cumsum"](rows / rows.sum(1, keepdim=True), 1)
        u = rand(rows._shape[0], num_samples, 1, generator=generator)
        picked = (u >= total.unsqueeze(1)).sum(-1).clamp(max=rows._shape[1] - 1)
    else:
        race = -(rand(*rows._shape, generator=generator) + 1e-20).log() / rows
        picked = FUNCTIONS["topk"](race, num_samples, 1, False).indices
    return picked if input.ndim == 2 else picked.reshape(-1)


# ------------------------------------------------------------------------------------------ in place


def redraw(draw: Any) -> Any:
    def method(self: Tensor, *args: Any, generator: Generator | None = None, **kwargs: Any) -> Tensor:
        d: DType = dtype_of(self)
        return assign(self, draw(key(generator), self._shape, d, *args, **kwargs))

    return method


def uniform_node(k: Node, shape: Shape, d: DType, a: float = 0.0, b: float = 1.0, **named: float) -> Node:
    a, b = named.get("from", a), named.get("to", b)
    return r.uniform(k, shape, d) * (b - a) + a


def random_node(k: Node, shape: Shape, d: DType, low: int = 0, high: int | None = None) -> Node:
    low, high = (0, low) if high is None and low else (low, high)
    limit = (
        (1 << 24 if d.is_floating else 2 if d.kind == "b" else 1 << (31 if d.size == 4 else 8 if d.size == 1 else 53))
        if high is None
        else high
    )
    return integers(k, low, limit, shape)


METHODS = {
    "uniform_": redraw(uniform_node),
    "normal_": redraw(lambda k, shape, d, mean=0.0, std=1.0: r.normal(k, shape, d) * std + mean),
    "random_": redraw(random_node),
    "bernoulli_": redraw(lambda k, shape, d, p=0.5: e.cast(e.less(r.uniform(k, shape), float(p)), d)),
    "exponential_": redraw(lambda k, shape, d, lambd=1.0: e.log1p(-r.uniform(k, shape, d)) * (-1.0 / lambd)),
    "cauchy_": redraw(lambda k, shape, d, median=0.0, sigma=1.0: tangent((r.uniform(k, shape, d) - 0.5) * 3.141592653589793) * sigma + median),
    "bernoulli": bernoulli, "multinomial": multinomial,
}  # fmt: skip


def tangent(x: Node) -> Node:
    return e.sin(x) / e.cos(x)


for _name, _function in METHODS.items():
    setattr(Tensor, _name, _function)
