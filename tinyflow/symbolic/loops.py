"""Loops: while_loop, scan, map_fn, foldl, foldr; what rnn.py runs cells with. The body is written down once.

    repeated(kind, starts, sequences, body, ...) -> last states, results of every step

A body makes operations of a LoopArgument for each state and each slice; the operation of the loop takes what the body
uses from outside as inputs, and its meaning makes the body's nodes in a world in which the arguments are the loop's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.core.dtypes import bool_, int64
from tinyflow.graph.node import Node, rewrite
from tinyflow.ops import leaf
from tinyflow.ops.recurrence import UNBOUNDED, Recurrence
from tinyflow.symbolic import array, nest
from tinyflow.symbolic.graph import Graph
from tinyflow.symbolic.tensor import Tensor, convert, operation, tensor
from tinyflow.symbolic.world import World

Body = Callable[[list[Tensor], list[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]]
NEXT_KEY = -0x2E4ABA5CDB6D12FD  # odd: the keys of the steps of one loop are far from each other


def repeated(kind: str, starts: Sequence[Tensor], sequences: Sequence[Tensor], body: Body, *, reverse: bool = False,
             going: Callable[[list[Tensor]], Any] | None = None, most: int = UNBOUNDED,
             name: str | None = None) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """body(states, slices) -> new states, results, for every entry of the sequences' first axis, or while going(states)."""
    graph: Graph = (*starts, *sequences)[0].graph
    branch = graph._branch
    if branch is not None:
        starts, sequences = [branch.alive(t) for t in starts], [branch.bring(t) for t in sequences]
    first, known_keys = graph.version, set(graph.sources)
    with graph.as_default():
        states, slices = [argument(t, 0) for t in starts], [argument(t, 1) for t in sequences]
        goes = None if going is None else convert(going(states))
        new, results = body(states, slices)
    if goes is not None and (goes.dtype is not bool_ or goes.shape.ndims not in (0, None)):
        raise TypeError(f"the condition of a loop is a bool scalar, not {goes.dtype} of shape {goes.shape}")
    for before, after in zip(starts, new, strict=True):
        if after.dtype is not before.dtype:
            raise TypeError(
                f"a loop variable of type {before.dtype} ({before.name!r}) becomes {after.dtype} in the body; cast it"
            )
    keys = [k for k in graph.sources if k not in known_keys]
    made = [*new, *results, *([] if goes is None else [goes])]

    def meaning(world: Any) -> list[Node]:
        nodes = [world.node(t) for t in sequences]
        r = Recurrence(nodes[0].shape[0] if nodes else most, reverse)
        given = dict(
            zip((*states, *slices), [*(r.state(world.node(t)) for t in starts), *map(r.slice, nodes)], strict=True)
        )
        inner = World({**world.given, **given}, world.marked, world.complete, world.before)
        found = [inner.node(t) for t in made]
        if keys:  # other random numbers at every step
            step = r.slice(leaf.iota(r.length, int64)) if nodes else r.count()
            moved = {k: k + step * leaf.constant(NEXT_KEY, int64) for k in keys}
            changed = rewrite(found, lambda n: n, start=moved)
            found = [changed[n] for n in found]
        r.close(found[: len(new)], None if goes is None else found[-1])
        each = found[len(new) : len(new) + len(results)]
        return r.results([*(r.final(k) for k in range(len(new))), *map(r.each, each)])

    inputs = [*starts, *sequences, *taken(made, first)]
    types = [t.dtype for t in (*new, *results)]
    op = operation(kind, meaning, list(dict.fromkeys(inputs)), name, worldly=True, types=types)
    return op.outputs[: len(new)], op.outputs[len(new) :]


def argument(t: Tensor, axes: int) -> Tensor:
    """What stands in the body for a state, or, without the first axis, for an entry of a sequence."""
    if t.node is None:
        return tensor("Placeholder", None, (), "LoopArgument", types=[t.dtype])
    node = leaf.placeholder(t.dtype, t.node.shape[axes:], "LoopArgument")
    return tensor("LoopArgument", lambda: node, (), "LoopArgument")


def taken(made: Sequence[Tensor], first: int) -> list[Tensor]:
    """The tensors from before operation number `first` that some later ones are made of."""
    found: dict[Tensor, None] = {}
    stack, seen = list(made), set()
    while stack:
        t = stack.pop()
        if t.op.index < first:
            found[t] = None
        elif t.op not in seen:
            seen.add(t.op)
            stack += [*t.op.inputs, *(o for c in t.op.control_inputs for o in c.outputs)]
    return list(found)


# ------------------------------------------------------------------------------------------ TensorFlow's


def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, shape_invariants: Any = None,
    parallel_iterations: int = 10, back_prop: bool = True, swap_memory: bool = False, name: str | None = None,
    maximum_iterations: Any = None, return_same_structure: bool = False,
) -> Any:  # fmt: skip
    """loop_vars, changed by body(*loop_vars) as long as cond(*loop_vars) holds.

    The run asks the condition before every step, and returns to Python only at the end. Variables keep their type and
    shape. Gradients go through if maximum_iterations, an int, says how many steps there are at most.
    """
    if not callable(cond) or not callable(body):
        raise TypeError("while_loop wants two functions: while_loop(cond, body, loop_vars)")
    given = list(loop_vars) if isinstance(loop_vars, list | tuple) else [loop_vars]
    if not given:
        raise ValueError("while_loop wants loop variables")
    starts = [convert(x) for x in nest.flatten(given)]
    most = UNBOUNDED if maximum_iterations is None else int(maximum_iterations)

    def step(states: list[Tensor], _: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        new = body(*nest.pack(given, states))
        new = list(new) if isinstance(new, list | tuple) and (len(given) > 1 or len(new) == 1) else [new]
        leaves = [convert(x) for x in nest.flatten(new)]
        if len(leaves) != len(starts):
            raise ValueError(f"the body of while_loop returns {len(leaves)} values for {len(starts)} loop variables")
        return leaves, []

    graph = starts[0].graph
    with graph.as_default(), graph.name_scope(name or "while"):
        last, _ = repeated(
            "While", starts, [], step, going=lambda s: cond(*nest.pack(given, s)), most=most, name="Exit"
        )
    packed = nest.pack(given, last)
    if len(packed) == 1 and not return_same_structure:
        return packed[0]
    return (
        type(loop_vars)(packed) if isinstance(loop_vars, list | tuple) and not hasattr(loop_vars, "_fields") else packed
    )


def scan(
    fn: Callable[..., Any], elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
    swap_memory: bool = False, infer_shape: bool = True, reverse: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """a := fn(a, x) for each x along the first axis of elems, from `initializer` on (else from the first x): all values of a."""
    xs = [convert(x) for x in nest.flatten(elems)]
    first = None
    if initializer is None:
        at = -1 if reverse else 0
        first = [x[at] for x in xs]
        initializer, xs = nest.pack(elems, first), [x[:-1] if reverse else x[1:] for x in xs]
    starts = [convert(a) for a in nest.flatten(initializer)]

    def step(states: list[Tensor], slices: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        new = [convert(a) for a in nest.flatten(fn(nest.pack(initializer, states), nest.pack(elems, slices)))]
        return new, new

    with starts[0].graph.name_scope(name or "scan"):
        _, each = repeated("Scan", starts, xs, step, reverse=reverse)
        if first is not None:
            ends = [array.expand_dims(a, 0) for a in first]
            each = [array.concat([y, a] if reverse else [a, y], 0) for a, y in zip(ends, each, strict=True)]
    return nest.pack(initializer, each)


def map_fn(
    fn: Callable[..., Any], elems: Any, dtype: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
    swap_memory: bool = False, infer_shape: bool = True, name: str | None = None,
) -> Any:  # fmt: skip
    """fn(x) for each x along the first axis of elems, stacked."""
    xs = [convert(x) for x in nest.flatten(elems)]
    made: list[Any] = []

    def step(_: list[Tensor], slices: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        made.append(fn(nest.pack(elems, slices)))
        return [], [convert(y) for y in nest.flatten(made[0])]

    with xs[0].graph.name_scope(name or "map"):
        _, each = repeated("Map", [], xs, step)
    return nest.pack(made[0], each)


def foldl(
    fn: Callable[..., Any], elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
    swap_memory: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """fn(...fn(fn(a, x0), x1)..., xn) over the first axis of elems, with a the initializer, else the first x."""
    return fold(fn, elems, initializer, False, name or "foldl")


def foldr(
    fn: Callable[..., Any], elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
    swap_memory: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """As foldl, from the last entry to the first."""
    return fold(fn, elems, initializer, True, name or "foldr")


def fold(fn: Callable[..., Any], elems: Any, initializer: Any, reverse: bool, name: str) -> Any:
    xs = [convert(x) for x in nest.flatten(elems)]
    if initializer is None:
        initializer = nest.pack(elems, [x[-1 if reverse else 0] for x in xs])
        xs = [x[:-1] if reverse else x[1:] for x in xs]
    starts = [convert(a) for a in nest.flatten(initializer)]

    def step(states: list[Tensor], slices: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return [convert(a) for a in nest.flatten(fn(nest.pack(initializer, states), nest.pack(elems, slices)))], []

    with starts[0].graph.name_scope(name):
        last, _ = repeated("Fold", starts, xs, step, reverse=reverse)
    return nest.pack(initializer, last)
