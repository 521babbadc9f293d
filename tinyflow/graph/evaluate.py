"""The meaning of a graph, by the numpy column alone: what REFERENCE=1 runs, and what the tests compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinyflow.core.errors import DeadTensorError
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node, substitute, toposort


class Dead:
    """The value of a tensor on the side of a Switch that was not taken."""


DEAD = Dead()


def bind_dims(feeds: Mapping[Node, Any]) -> dict[Expr, int]:
    """The sizes of the symbolic dimensions, read off the fed arrays."""
    return {
        d: n for leaf, a in feeds.items() for d, n in zip(leaf.shape, np.shape(a), strict=True) if isinstance(d, Expr)
    }


def evaluate(
    roots: Iterable[Node], feeds: Mapping[Node, Any], dims: Mapping[Expr, int] | None = None
) -> dict[Node, Any]:
    """The value of every node below the roots."""
    sizes = dict(bind_dims(feeds) if dims is None else dims)
    value: dict[Node, Any] = {}
    order = toposort(roots, stop=feeds.__contains__)
    finds = sorted((n for n in order if n.op.kind == "find"), key=lambda n: n.uid)
    if finds:  # what finds out a size stands before all that has it
        order = toposort([*finds, *order], stop=feeds.__contains__)
    for node in order:
        if node in feeds:
            value[node] = np.asarray(feeds[node], node.dtype.numpy)
            continue
        operands = [widened(value[x], x) for x in node.inputs]
        if any(x is DEAD for x in operands) and node.op.name != "merge":
            value[node] = DEAD
            continue
        with np.errstate(all="ignore"):
            got = node.op.numpy(*operands, **{k: substitute(v, sizes) for k, v in node.attrs.items()})
        if node.op.kind == "find":
            sizes[node.attrs["size"]] = len(got)
        value[node] = got if got is DEAD else np.asarray(got, dtype=node.dtype.numpy)
    return value


def widened(value: Any, x: Node) -> Any:
    """What an op computes with: low types are for storing."""
    return value.astype(x.dtype.computed.numpy) if x.dtype.is_low and value is not DEAD else value


def alive(node: Node, value: Any) -> Any:
    """The value, or the error that says why there is none."""
    if value is DEAD:
        raise DeadTensorError(dead_message(node))
    return value


def dead_message(node: Node) -> str:
    return (
        f"{node.label} has no value in this run: it lies on the side of a switch that was not taken "
        f"({node.where}). Fetch the merge of both sides instead, the result of cond."
    )
