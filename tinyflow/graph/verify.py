"""What must hold of every graph, checked between passes under CHECK=1; and that a pass kept its meaning, under CHECK=2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tinyflow.core.errors import GraphError
from tinyflow.core.expr import Dim, Expr, walk
from tinyflow.graph.evaluate import DEAD, evaluate
from tinyflow.graph.node import Node, substitute, toposort, with_all_bodies


def verify(roots: Iterable[Node], name: str) -> None:
    """Shapes and types are what the rows say; inputs are older than their users."""
    for node in with_all_bodies(roots):
        shape = node.op.shape(*(x.shape for x in node.inputs), **node.attrs)
        if tuple(shape) != tuple(node.shape):
            raise GraphError(f"after {name}: {node} has shape {node.shape}, its row says {shape}")
        if any(x.uid >= node.uid for x in node.inputs):
            raise GraphError(f"after {name}: {node} uses a node that is newer than itself")


def same_meaning(before: Sequence[Node], after: Sequence[Node], name: str) -> None:
    """Both graphs have the same values on random input; names the pass that changed them."""
    for size in SIZES:
        feeds = random_feeds([*before, *after], size)
        try:
            old = evaluate(before, *feeds)
        except (ValueError, IndexError):  # a reshape, say, that these sizes do not fit
            continue
        break
    else:
        return
    new = evaluate(after, *feeds)
    for a, b in zip(before, after, strict=True):
        x, y = old[a], new[b]
        if (x is DEAD) != (y is DEAD) or (
            x is not DEAD and not np.allclose(x, y, rtol=1e-4, atol=1e-5, equal_nan=True)
        ):
            raise GraphError(f"the pass {name} changed the value of {a} (made at {a.where}): {x} became {y}")


SIZES = (3, 8, 48)  # for dimensions that are not known: one of them will suit most graphs


def random_feeds(roots: Sequence[Node], size: int = SIZES[0]) -> tuple[dict[Node, np.ndarray], dict[Expr, int]]:
    """An array for every leaf, positive so that logarithms and roots are defined; and sizes for symbolic dimensions."""
    rng = np.random.default_rng(0)
    sizes: dict[Expr, int] = {}
    feeds: dict[Node, np.ndarray] = {}
    for node in toposort(roots):
        if node.op.kind != "leaf":
            continue
        for d in node.shape:
            for atom in walk(d):
                if isinstance(atom, Dim):
                    sizes.setdefault(atom, size)
        shape = substitute(tuple(node.shape), sizes)
        feeds[node] = (rng.uniform(0.1, 1.0, shape) if node.dtype.is_floating else rng.integers(0, 2, shape)).astype(
            node.dtype.numpy
        )
    return feeds, sizes
