"""Small random graphs: a pool of tensors that grows by ops on what is in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tinyflow.core.dtypes import float32, float64, int32
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import einsum, matmul
from tinyflow.ops.control import merge, switch
from tinyflow.ops.indexing import gather, scatter_add, take_along
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import concat, expand, expand_dims, flip, pad, permute, reshape, slice_, stack
from tinyflow.ops.reduction import argmax, max_, mean, min_, sum_

SIZES = (1, 2, 3, 5, 8, 16, 17, 33)


class Tensor(NamedTuple):
    """A node, and whether its value is the same to the bit however it is computed: then it may be compared."""

    node: Node
    exact: bool

    @property
    def shape(self) -> Any:
        return self.node.shape


class Graph(NamedTuple):
    roots: list[Node]
    fed: dict[Node, np.ndarray]
    leaves: list[Node]


def known(x: Tensor) -> list[int]:
    """The axes whose size is a number."""
    return [d for d, n in enumerate(x.shape) if isinstance(n, int)]


# ------------------------------------------------------------------------------------------ ops: (rng, x, pool) -> node

UNARY: dict[str, Callable[[Node], Node]] = {
    "tanh": e.tanh, "sigmoid": e.sigmoid, "sin": e.sin, "exp": lambda x: e.exp(e.minimum(x, 1.0)), "sqrt": lambda x: e.sqrt(e.abs_(x) + 0.1),
    "log": lambda x: e.log(e.abs_(x) + 0.5), "square": lambda x: x * x * 0.3, "third": lambda x: x / 3.0, "one less": lambda x: 1.0 - x,
    "gelu": f.gelu, "softplus": f.softplus, "erf": e.erf, "twice": lambda x: x + x, "power": lambda x: (e.abs_(x) + 0.3) ** 1.7,
}  # fmt: skip
STEADY = {"neg": e.neg, "abs": e.abs_, "relu": e.relu, "clip": lambda x: f.clip(x, -0.5, 0.7)}
BINARY = {
    "add": e.add, "sub": e.sub, "mul": lambda a, b: a * b * 0.5, "div": lambda a, b: a / (b * b + 1.0),
}  # fmt: skip
STEADY_PAIRS = {"maximum": e.maximum, "minimum": e.minimum}


def alike(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor:
    """Another tensor of x's shape; or one that broadcasts to it."""
    found = [t for t in pool if fits(t.shape, x.shape)]
    return rng.choice(found)


def fits(small: Any, large: Any) -> bool:
    if len(small) > len(large):
        return False
    tail = large[len(large) - len(small) :]
    return all(
        (isinstance(a, int) and a == 1) or a is b or (isinstance(a, int) and a == b)
        for a, b in zip(small, tail, strict=True)
    )


def unary(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor:
    return Tensor(UNARY[rng.choice(sorted(UNARY))](x.node), False)


def steady(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor:
    return Tensor(STEADY[rng.choice(sorted(STEADY))](x.node), x.exact)


def binary(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor:
    return Tensor(BINARY[rng.choice(sorted(BINARY))](x.node, alike(rng, x, pool).node), False)


def steady_pair(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor:
    y = alike(rng, x, pool)
    return Tensor(STEADY_PAIRS[rng.choice(sorted(STEADY_PAIRS))](x.node, y.node), x.exact and y.exact)


def axes_of(rng: Random, x: Tensor) -> tuple[int, ...]:
    return tuple(sorted(rng.sample(range(x.node.ndim), rng.randint(1, x.node.ndim))))


def reduction(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    if not x.shape:
        return None
    fold = rng.choice([mean, max_, min_, f.logsumexp, lambda x, a, k: sum_(x * 0.2, a, k)])
    return Tensor(fold(x.node, axes_of(rng, x), rng.random() < 0.5), x.exact and fold in (max_, min_))


def normal(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    if not x.shape:
        return None
    axis = rng.randint(0, x.node.ndim - 1)
    return Tensor(rng.choice([f.softmax, f.log_softmax, lambda x, a: f.normalise(x, (a,), 0.1)])(x.node, axis), False)


def permuted(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor:
    return Tensor(permute(x.node, rng.sample(range(x.node.ndim), x.node.ndim)), x.exact)


def reshaped(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    """Two neighbouring axes joined, one split, all made one, or one of size 1 more."""
    shape, rank, how = x.shape, x.node.ndim, rng.choice(["join", "split", "flat", "more"])
    if how == "flat" or not rank:
        return Tensor(reshape(x.node, (-1,)), x.exact) if rank else Tensor(reshape(x.node, (1, 1)), x.exact)
    d = rng.randint(0, rank - 1)
    if how == "more" or (how == "join" and d + 1 == rank):
        return Tensor(expand_dims(x.node, d), x.exact)
    if how == "join":
        return Tensor(reshape(x.node, (*shape[:d], shape[d] * shape[d + 1], *shape[d + 2 :])), x.exact)
    if not isinstance(shape[d], int) or shape[d] < 2:
        return None
    k = rng.choice([k for k in range(1, shape[d] + 1) if shape[d] % k == 0])
    return Tensor(reshape(x.node, (*shape[:d], k, shape[d] // k, *shape[d + 1 :])), x.exact)


def sliced(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    if not known(x):
        return None
    begin, size, step = [0] * x.node.ndim, list(x.shape), [1] * x.node.ndim
    for d in known(x):
        n = x.shape[d]
        s = rng.choice([1, 1, 1, 2, 3, -1, -2])
        first = rng.randint(0, n - 1)
        room = (n - 1 - first) // s if s > 0 else first // -s
        begin[d], size[d], step[d] = first, rng.randint(1, room + 1), s
    return Tensor(slice_(x.node, tuple(begin), tuple(size), step), x.exact)


def flipped(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    return Tensor(flip(x.node, axes_of(rng, x)), x.exact) if x.shape else None


def padded(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    low, high = (tuple(rng.randint(0, 3) for _ in x.shape) for _ in range(2))
    between = tuple(rng.choice([0, 0, 1]) if d in known(x) else 0 for d in range(x.node.ndim))
    return Tensor(pad(x.node, low, high, between, rng.choice([0.0, 0.5])), x.exact) if x.shape else None


def joined(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    if not x.shape:
        return None
    others = [t for t in pool if t.shape == x.shape]
    parts = [x, *rng.choices(others, k=rng.randint(1, 3))]
    join = rng.choice([concat, stack])
    return Tensor(join([t.node for t in parts], rng.randint(0, x.node.ndim - 1)), all(t.exact for t in parts))


def stretched(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor:
    wider = tuple(rng.choice([1, 4, 17]) if isinstance(n, int) and n == 1 else n for n in x.shape)
    return Tensor(expand(x.node, (*rng.choice([(), (2,), (3, 1)]), *wider)), x.exact)


def product(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    if x.node.ndim < 2:
        return None
    inner = x.shape[-1]
    others = [t for t in pool if t.node.ndim == 2 and inner in (t.shape[0], t.shape[1])]
    if not others:
        return Tensor(matmul(x.node, x.node, transpose_b=True) * 0.2, False)
    y = rng.choice(others)
    return Tensor(matmul(x.node, y.node, transpose_b=not same(y.shape[0], inner)) * 0.2, False)


def same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, int) and isinstance(b, int) and a == b)


def outer(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    if x.node.ndim != 2:
        return None
    return Tensor(
        einsum(rng.choice(["ij,ik->jk", "ij,ij->i", "ij,ij->", "ij,ij->j", "ij,kj->ik"]), x.node, x.node) * 0.2, False
    )


def chosen(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    """Where an exact tensor is small, one tensor, elsewhere another."""
    exact = [t for t in pool if t.exact and fits(t.shape, x.shape)]
    if not exact:
        return None
    test = e.less(rng.choice(exact).node, 0.1)
    return Tensor(e.where(test, x.node, alike(rng, x, pool).node), False)


def sought(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    """Rows by the place of a maximum of something exact; and what falls on such places."""
    exact = [t for t in pool if t.exact and t.node.ndim]
    if not exact or not x.shape or not isinstance(x.shape[0], int):
        return None
    t = rng.choice(exact)
    place = e.mod(argmax(t.node, rng.randint(0, t.node.ndim - 1)), x.shape[0])
    rows = gather(x.node, place)
    return Tensor(scatter_add(rows, place, 4 + x.shape[0]) if rng.random() < 0.5 else rows, False)


def along(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    if not x.exact or not x.shape:
        return None
    axis = rng.randint(0, x.node.ndim - 1)
    return Tensor(take_along(x.node, expand_dims(argmax(x.node, axis), axis), axis), True)


def conditional(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    exact = [t for t in pool if t.exact]
    if not exact:
        return None
    p = e.less(max_(rng.choice(exact).node), rng.choice([-9.0, 0.9, 9.0]))
    return Tensor(merge(p, e.tanh(switch(x.node, p, False)), switch(x.node, p, True) * 0.5), False)


def whole(rng: Random, x: Tensor, pool: list[Tensor]) -> Tensor | None:
    """Through whole numbers and back."""
    return Tensor(e.cast(e.cast(x.node * 8.0, int32) % 5, x.node.dtype) * 0.2, True) if x.exact else None


OPS = [
    unary, unary, binary, binary, steady, steady_pair, reduction, reduction, normal, permuted, reshaped, sliced, flipped, padded, joined,
    stretched, product, product, outer, chosen, sought, along, conditional, whole,
]  # fmt: skip
MOST = 40_000  # elements of a tensor


def size(t: Tensor) -> int:
    return math.prod(n if isinstance(n, int) else 17 for n in t.shape)


def build(seed: int, count: int) -> Graph:
    """A graph of so many ops. Fewer ops of the same seed are a part of it, so a failure shrinks to its first ops."""
    rng = Random(seed)
    dtype = rng.choice([float32, float64])
    sizes = rng.sample(SIZES, 3)
    symbols = {n: fresh_dim() for n in sizes if n > 1 and rng.random() < 0.3}
    numbers = np.random.default_rng(seed)
    fed: dict[Node, np.ndarray] = {}
    for k in range(rng.randint(1, 3)):
        shape = tuple(rng.choices(sizes, k=rng.choice([0, 1, 2, 2, 2, 3])))
        x = placeholder(dtype, tuple(symbols.get(n, n) for n in shape), "abc"[k])
        fed[x] = numbers.uniform(-1, 1, shape).astype(dtype.numpy)
    pool = [Tensor(x, True) for x in fed]
    while len(pool) < len(fed) + count:
        made = rng.choice(OPS)(rng, rng.choice(pool[-4:]), pool)
        if made is not None and made.node.ndim <= 4 and size(made) <= MOST:
            pool.append(made)
    grown = [t.node for t in pool[len(fed) :]]
    return Graph(list(dict.fromkeys([grown[-1], *rng.choices(grown, k=rng.randint(0, 2))])), fed, list(fed))


def graphs(most: int = 14) -> st.SearchStrategy[Graph]:
    """Graphs of up to so many ops; some of the sizes are known only when they run."""
    return st.builds(build, st.integers(0, 10**6), st.integers(1, most))
