"""Random numbers. A random operation has a key, which the session makes anew at each run.

    key := make_key(graph's seed, operation's seed or its number among random operations, how often it ran)

So a seed gives the same numbers in every new session, whatever else is in the graph. Without any seed they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyflow.core import dtypes
from tinyflow.core.dtypes import DType
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import leaf
from tinyflow.ops import movement as m
from tinyflow.ops import random as r
from tinyflow.ops.reduction import argmax
from tinyflow.symbolic.graph import Graph, get_default_graph
from tinyflow.symbolic.table import integer, shape_argument
from tinyflow.symbolic.tensor import Tensor, as_dtype, convert, tensor

DEFAULT_SEED = 87654321  # of the graph, where only the operation has one


class Key:
    """What the session feeds the key of a random operation with."""

    def __init__(self, key: Node, seeds: Sequence[int] | None) -> None:
        self.key, self.seeds = key, seeds

    def __call__(self, session: Any, feeds: Any) -> np.ndarray:
        count = session.counts[self.key] = session.counts.get(self.key, 0) + 1
        return np.array(r.make_key(*(self.seeds or (session.entropy, self.key.uid)), count), np.int64)


def new_key(graph: Graph, seed: int | None, name: str) -> Node:
    """The key of a new random operation."""
    graph.random_count += 1
    key = leaf.placeholder(dtypes.int64, (), f"{name}/key")
    own = (1, int(seed)) if seed is not None else (0, graph.random_count)
    seeds = None if graph.seed is None and seed is None else (DEFAULT_SEED if graph.seed is None else graph.seed, *own)
    graph.sources[key] = Key(key, seeds)
    return key


def drawn(
    kind: str, shape: Any, dtype: Any, seed: Any, name: str | None, numbers: Callable[..., Node], values: Sequence[Any]
) -> Tensor:
    """The operation numbers(key, dimensions, *nodes of the values)."""
    want = as_dtype(dtype)
    extra, dims = shape_argument(shape)
    given = [convert(v, want) for v in values]
    key = new_key(extra[0].graph if extra else get_default_graph(), seed, name or kind)

    def meaning(*nodes: Node) -> Node:
        return numbers(key, dims(*nodes[len(given) :]), *nodes[: len(given)])

    return tensor(kind, meaning, [*given, *extra], name, types=[want])


def scaled(numbers: Callable[..., Node], want: DType) -> Callable[..., Node]:
    return lambda key, shape, mean, stddev: numbers(key, shape, want) * stddev + mean


def random_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: Any = None,
    name: str | None = None,
) -> Tensor:
    """Normal numbers of a mean and a standard deviation."""
    return drawn(
        "RandomNormal", shape, dtype, seed, name or "random_normal", scaled(r.normal, as_dtype(dtype)), (mean, stddev)
    )


def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32, seed: Any = None, name: str | None =
    None,
) -> Tensor:  # fmt: skip
    """Normal numbers, none further from the mean than two standard deviations."""
    return drawn(
        "TruncatedNormal",
        shape,
        dtype,
        seed,
        name or "truncated_normal",
        scaled(r.truncated_normal, as_dtype(dtype)),
        (mean, stddev),
    )


def random_uniform(
    shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = dtypes.float32, seed: Any = None, name: str | None =
    None,
) -> Tensor:  # fmt: skip
    """Numbers of [minval, maxval), all equally likely; maxval is 1 by default. Integers want a maxval."""
    want = as_dtype(dtype)
    if maxval is None and want.is_integer:
        raise ValueError("random_uniform of integers wants a maxval")

    def numbers(key: Node, dims: Any, low: Node, high: Node) -> Node:
        if want.is_floating:
            return r.uniform(key, dims, want) * (high - low) + low
        u = r.uniform(key, dims, dtypes.float64)
        return e.cast(e.floor(u * e.cast(high - low, dtypes.float64)), want) + low

    return drawn(
        "RandomUniform", shape, want, seed, name or "random_uniform", numbers, (minval, 1 if maxval is None else maxval)
    )


def multinomial(
    logits: Any, num_samples: Any, seed: Any = None, name: str | None = None, output_dtype: Any = dtypes.int64
) -> Tensor:
    """num_samples classes for each row of logits (rows, classes), with probabilities softmax(logits): by the Gumbel trick."""
    count, want, x = integer(num_samples, "num_samples"), as_dtype(output_dtype), convert(logits)
    key = new_key(x.graph, seed, name or "multinomial")

    def draw(n: Node) -> Node:
        shape = (n.shape[0], count, n.shape[1])
        noise = -e.log(-e.log(e.maximum(r.uniform(key, shape, dtypes.float32), 1e-30)))
        return e.cast(argmax(m.expand(m.expand_dims(n, 1), shape) + e.cast(noise, n.dtype), -1), want)

    return tensor("Multinomial", draw, [x], name or "multinomial", types=[want])


def kept(x: Node, key: Node, keep: Node, shape: Sequence[Any] | None) -> Node:
    """Dropout: elements kept with a probability, and scaled by its inverse; the others are 0."""
    u = r.uniform(
        key,
        x.shape if shape is None else tuple(n if s == -1 else s for s, n in zip(shape, x.shape, strict=True)),
        x.dtype,
    )
    chosen = e.less(u, keep) if keep.shape == () else e.less(*e.broadcast(u, keep))
    chosen, wide = e.broadcast(chosen, x / keep)
    return e.where(chosen, wide, 0.0)
