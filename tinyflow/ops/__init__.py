"""The tables of ops, and the functions that make nodes of them."""

from tinyflow.graph.op import TABLE
from tinyflow.ops import (
    attention,
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
    scan,
    sorting,
)

__all__ = [
    "TABLE",
    "attention",
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
    "scan",
    "sorting",
]
