"""execute: from nodes to arrays. Joins passes, compiler and runtime, and holds the cache of programs.

    runner := compile(roots)                 what a run computes (values) and changes (writes), compiled once
    runner(feeds, store) -> arrays           one native call

`feeds` maps placeholders to arrays, `store` variables to the arrays they live in; a store is changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from tinyflow.core.config import config
from tinyflow.core.errors import GraphError
from tinyflow.core.expr import Expr
from tinyflow.graph.evaluate import DEAD, alive, dead_message, evaluate
from tinyflow.graph.node import Node, shape_text, toposort
from tinyflow.ops.leaf import PLACEHOLDER, VARIABLE
from tinyflow.passes import pipeline
from tinyflow.passes.state import effects

Store = MutableMapping[Node, np.ndarray]
NONE: dict[Node, Node] = {}


class Runner:
    """One compiled set of roots."""

    def __init__(self, roots: Sequence[Node], writes: Mapping[Node, Node] = NONE) -> None:
        self.roots = tuple(roots)
        found = effects(roots)
        changes = {**found.writes, **writes}
        self.written = tuple(changes)
        self.nodes = pipeline.run([*found.values, *changes.values()])
        order = toposort(self.nodes)
        self.placeholders = tuple(n for n in order if n.op is PLACEHOLDER)
        self.variables = tuple(n for n in order if n.op is VARIABLE)

    def __call__(self, feeds: Mapping[Node, Any], store: Store) -> list[Any]:
        """The roots' values; the store's variables get their new ones. Every array returned is the caller's own."""
        arrays = {n: feeds[n] for n in self.placeholders} | {n: store[n] for n in self.variables}
        return self.reference(arrays, bind(arrays), store)

    def reference(self, arrays: Mapping[Node, Any], dims: Mapping[Expr, int], store: Store) -> list[Any]:
        value = evaluate(self.nodes, arrays, dims)
        count = len(self.roots)
        new = [np.array(alive(n, value[n])) for n in self.nodes[count:]]
        out = [value[n] if value[n] is DEAD else np.array(value[n]) for n in self.nodes[:count]]
        for v, a in zip(self.written, new, strict=True):
            if v in store and store[v].shape == a.shape:
                np.copyto(store[v], a)
            else:
                store[v] = a
        return out


def bind(arrays: Mapping[Node, Any]) -> dict[Expr, int]:
    """The sizes of symbolic dimensions, read off the arrays; an error if two arrays disagree or do not fit their node."""
    dims: dict[Expr, int] = {}
    for node, a in arrays.items():
        shape = np.shape(a)
        if len(shape) != node.ndim:
            raise GraphError(misfit(node, shape))
        for want, n in zip(node.shape, shape, strict=True):
            if (dims.setdefault(want, n) if isinstance(want, Expr) else want) != n:
                raise GraphError(misfit(node, shape))
    return dims


def misfit(node: Node, shape: tuple[int, ...]) -> str:
    return f"{node.label} ({node.where}) takes shape {shape_text(node.shape)}, and was given an array of shape {shape}"


def compile(roots: Sequence[Node], writes: Mapping[Node, Node] = NONE) -> Runner:  # noqa: A001
    """The runner of some roots; `writes` gives variables new values, besides the assignments that the roots hold."""
    return Runner(roots, writes)


def realise(roots: Sequence[Node], store: Store, writes: Mapping[Node, Node] = NONE) -> list[Any]:
    """The values of the roots now, from the store alone. Programs are found by structure: a graph of the same form,
    made anew on other variables, compiles nothing."""
    return Runner(roots, writes)({}, store)


__all__ = ["Runner", "Store", "bind", "compile", "config", "dead_message", "realise"]
