"""The tables of ops, and the functions that make nodes of them."""

from tinyflow.graph.op import TABLE
from tinyflow.ops import (
    contraction,
    control,
    cumulative,
    elementwise,
    functions,
    indexing,
    leaf,
    movement,
    pooling,
    random,
    reduction,
    sorting,
)

__all__ = [
    "TABLE",
    "contraction",
    "control",
    "cumulative",
    "elementwise",
    "functions",
    "indexing",
    "leaf",
    "movement",
    "pooling",
    "random",
    "reduction",
    "sorting",
]
