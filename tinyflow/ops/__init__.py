"""The tables of ops, and the functions that make nodes of them."""

from tinyflow.graph.op import TABLE
from tinyflow.ops import contraction, control, elementwise, functions, indexing, leaf, movement, random, reduction

__all__ = [
    "TABLE",
    "contraction",
    "control",
    "elementwise",
    "functions",
    "indexing",
    "leaf",
    "movement",
    "random",
    "reduction",
]
