"""arithmetic: what a step computes and what memory it must touch, counted from the graphs that it runs.

flops   2 for each product of a contraction, 1 for each element of any other op that computes
bytes   leaves read, values and variables written; what lies between need not leave the processor

A loop's body counts at every step, and sizes that data decide are those that the step has found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tinyflow import execute, programs
from tinyflow.core.expr import Expr, evaluate
from tinyflow.graph.node import Node, bodies, toposort
from tinyflow.ops.contraction import CONTRACT
from tinyflow.ops.movement import CONCAT, EXPAND, PAD, PERMUTE, RESHAPE, SLICE
from tinyflow.ops.reduction import ARGMAX, ARGMIN, MAX, MIN, PROD, SUM
from tinyflow.ops.scan import loops_of
from tinyflow.runtime import program

FREE = {EXPAND, RESHAPE, PERMUTE, SLICE, PAD, CONCAT}  # they move, and compute nothing
FOLDS = {SUM, PROD, MAX, MIN, ARGMAX, ARGMIN}


class Work(NamedTuple):
    flops: int
    bytes: int


class Meter:
    """Knows the graph, as it was before the passes, of every program that is built after it; counts the work of a step."""

    def __init__(self) -> None:
        self.graphs: dict[program.Program, tuple[tuple[Node, ...], list[Expr]]] = {}  # with its dimensions' names there
        made = programs.kept_or_compiled

        def known(runner: execute.Runner, *names: Any) -> programs.Native:
            native = made(runner, *names)
            self.graphs[native.program] = tuple(runner.nodes), [runner.dims[k] for k in native.dims]
            return native

        programs.kept_or_compiled = known

    def work(self, step: Callable[[], object]) -> Work:
        """The work of all that the step runs."""
        each: list[Work] = []
        run = program.Binding.run

        def counted(binding: program.Binding) -> None:
            run(binding)
            if binding.program in self.graphs:  # what lays weights out has no graph, and is no part of a step
                roots, dims = self.graphs[binding.program]
                each.append(work_of(roots, dict(zip(dims, binding.dims, strict=False))))

        program.Binding.run = counted  # type: ignore[method-assign,assignment]
        try:
            step()
        finally:
            program.Binding.run = run  # type: ignore[method-assign]
        return Work(sum(w.flops for w in each), sum(w.bytes for w in each))


def work_of(roots: Sequence[Node], sizes: Mapping[Any, int]) -> Work:
    order = toposort(roots)
    touched = [*(n for n in order if n.op.kind == "leaf"), *dict.fromkeys(roots)]
    return Work(flops_of(roots, sizes), sum(elements(n.shape, sizes) * n.dtype.size for n in touched))


def flops_of(roots: Sequence[Node], sizes: Mapping[Any, int]) -> int:
    order = toposort(roots)
    total = sum(flops(n, sizes) for n in order)
    for results in loops_of(order).values():
        steps = elements([results[0].attrs["loop"].length], sizes)
        total += steps * flops_of(list(dict.fromkeys(root for n in results for root in bodies(n))), sizes)
    return total


def flops(n: Node, sizes: Mapping[Any, int]) -> int:
    if n.op is CONTRACT:
        return 2 * elements([d for _, d in n.attrs["spec"].sizes], sizes)
    if n.op in FOLDS:
        return elements(n.inputs[0].shape, sizes)
    if n.op in FREE or n.op.kind != "at" or not n.inputs:
        return 0
    return elements(n.shape, sizes)


def elements(shape: Sequence[Any], sizes: Mapping[Any, int]) -> int:
    return math.prod(d if isinstance(d, int) else evaluate(d, sizes) for d in shape)
