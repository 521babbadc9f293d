"""Program: the compiled part of a run, for arrays of certain shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyflow.core.expr import Dim as Symbol
from tinyflow.core.expr import Expr, fresh_dim
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import Node, rewrite, toposort
from tinyflow.ops import leaf
from tinyflow.ops.control import AFTER, group
from tinyflow.ops.leaf import PLACEHOLDER, VARIABLE
from tinyflow.symbolic import errors, known
from tinyflow.symbolic.graph import GraphKeys, Operation
from tinyflow.symbolic.shape import TensorShape
from tinyflow.symbolic.tensor import Tensor
from tinyflow.symbolic.world import HERE, Open, World, parents


class Program:
    """A runner, and what it is fed with."""

    def __init__(
        self, runner: Any, nodes: Sequence[Node | None], sources: Sequence[tuple[Node, Any]], concrete: bool
    ) -> None:
        self.runner, self.nodes, self.sources = runner, tuple(nodes), tuple(sources)
        self.concrete = concrete  # whether it is for arrays of certain shapes only
        self.checked: Any = None  # the store that has all variables
        self.lacking: list[Node] = []

    def __call__(self, session: Any, arrays: Sequence[np.ndarray]) -> list[Any]:
        if self.checked is not session.store:
            self.check(session)
        feeds = dict(zip(self.nodes, arrays))
        for node, value in self.sources:
            feeds[node] = value(session, feeds)
        if self.lacking:
            return self.run_without(session, feeds)
        return self.runner(feeds, session.store)

    def check(self, session: Any) -> None:
        """Every variable has a value, or a source that tells whether it has one: then the graph chooses."""
        self.lacking = []
        told = {n for n, _ in self.sources}
        initialized = session.graph.state.get("initialized", {})
        for v in self.runner.variables:
            if v in session.store:
                continue
            if v in known.arrays:
                session.store[v] = known.arrays[v]
            elif initialized.get(v) in told:
                self.lacking.append(v)
            else:
                raise uninitialised(session.graph, v)
        self.checked = None if self.lacking else session.store

    def run_without(self, session: Any, feeds: Mapping[Node, Any]) -> list[Any]:
        """A run in which variables without a value stand there, but are not chosen."""
        store = {**session.store, **{v: np.zeros(v.shape, v.dtype.numpy) for v in self.lacking}}
        out = self.runner(feeds, store)
        session.store.update({v: store[v] for v in self.runner.written})
        return out


INITIALIZERS = {
    GraphKeys.GLOBAL_VARIABLES: "tf.global_variables_initializer()",
    GraphKeys.LOCAL_VARIABLES: "tf.local_variables_initializer()",
}


def uninitialised(graph: Any, node: Node) -> Exception:
    variable = graph.state.get("variables", {}).get(node)
    if variable is None:
        return errors.FailedPreconditionError(None, None, f"{node.label} ({node.where}) has no value in this session")
    own = f"the initializer of the variable, {variable.initializer.name!r}"
    call = next((c for name, c in INITIALIZERS.items() if variable in graph.get_collection(name)), own)
    return errors.FailedPreconditionError(
        None, variable.op, f"the variable {variable.op.name!r} ({variable.op.where}) has no value in this session yet; "
        f"run sess.run({call}) first",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ preparing


def build(plan: Any, arrays: Sequence[np.ndarray], concrete: bool) -> Program:
    """The program of the plan's graph in the world of what is fed. `concrete` writes all sizes in.

    Errors of feeding are raised here, before anything runs.
    """
    graph = plan.session.graph
    given: dict[Tensor, Node] = {}
    marked: dict[Tensor, tuple[Node, ...]] = {}
    replaced: dict[Node, Node] = {}
    fed = [feed(t, a, concrete, given, marked, replaced) for t, a in zip(plan.fed, arrays, strict=True)]
    world: Any = World(given, marked, before=plan.before) if given or marked or plan.before or plan.open else HERE
    try:
        roots = [world.node(t) for t in plan.tensors]
        if plan.targets:
            roots.append(group(*(n for op in plan.targets for n in world.nodes(op) if n is not None)))
    except Open as e:
        raise unfed(plan, e.op) from None
    if replaced:
        new = rewrite(roots, lambda n: replaced.get(n.inputs[1], n) if n.op is AFTER else n)
        roots = [new[r] for r in roots]
    runner = runner_of(graph, roots)
    missing = [n for n in runner.placeholders if n not in fed and n not in graph.sources and known.source(n) is None]
    if missing:
        raise unfed(plan, missing[0])
    sources = [(n, graph.sources.get(n) or Size(known.source(n))) for n in runner.placeholders if n not in fed]
    return Program(runner, fed, sources, concrete)


def runner_of(graph: Any, roots: Sequence[Node]) -> Any:
    """Compiled once for a graph, whichever session asks."""
    from tinyflow import execute

    runners = graph.state.setdefault("runners", {})
    key = tuple(roots)
    if key not in runners:
        leaves = [n for n in toposort(roots) if n.op is VARIABLE]
        runners[key] = execute.compile(roots, private=leaves)
    return runners[key]


def feed(
    t: Tensor, a: np.ndarray, concrete: bool, given: dict[Tensor, Node], marked: dict[Tensor, tuple[Node, ...]],
    replaced: dict[Node, Node],
) -> Node | None:  # fmt: skip
    """The leaf that takes a fed array; None for what only Python computes with.

    A placeholder without a rank is given one. A tensor that is computed is marked, so that gradients still go through it,
    and what bears the mark is replaced at last.
    """
    if t.op.host is not None:
        return None
    node = t.node
    if node is not None and node.op is PLACEHOLDER and t.op.type == "Placeholder":
        if concrete and any(isinstance(n, Expr) for n in node.shape):
            node = given[t] = leaf_of(t, a.shape)
        return node
    if node is None:
        rank = tuple(None for _ in a.shape)
        given[t] = leaf_of(t, a.shape if concrete else rank)
        return given[t]
    mark = leaf.placeholder(t.dtype, (), "fed")
    marked[t] = (mark,)
    shape = tuple(n if isinstance(n, int | Symbol) else None for n in node.shape)
    replaced[mark] = leaf_of(t, a.shape if concrete else shape)
    return replaced[mark]


def leaf_of(t: Tensor, shape: Sequence[Any]) -> Node:
    """The placeholder of a tensor in some shape: one and the same each time."""
    made = t.graph.state.setdefault("leaves", {})
    key = (t, tuple(shape))
    if key not in made:
        made[key] = leaf.placeholder(t.dtype, tuple(fresh_dim() if n is None else n for n in shape), t.op.name)
    return made[key]


# ------------------------------------------------------------------------------------------ sizes


class Value:
    """The value of a node, computed by numpy before the run from what is fed."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.variables = [n for n in toposort([node]) if n.op is VARIABLE]

    def __call__(self, session: Any, feeds: Mapping[Any, np.ndarray]) -> np.ndarray:
        if self.node in feeds:
            return feeds[self.node]
        given = {**feeds, **{n: session.store.get(n, known.arrays.get(n)) for n in self.variables}}
        given = {n: a for n, a in given.items() if n is not None and a is not None}
        try:
            return evaluate([self.node], given)[self.node]
        except KeyError as e:
            raise errors.InvalidArgumentError(
                None, None, f"{self.node.label} ({self.node.where}) depends on what is not fed: {e.args[0]}"
            ) from None


class Size(Value):
    """The array that is as long as the value of a scalar says: how a value becomes a size."""

    def __call__(self, session: Any, feeds: Mapping[Any, np.ndarray]) -> np.ndarray:
        value = super().__call__(session, feeds)
        if value < 0:
            raise errors.InvalidArgumentError(None, None, f"a size ({self.node.where}) is {value}; sizes are 0 or more")
        return np.empty(int(value), np.uint8)


# ------------------------------------------------------------------------------------------ what is missing


def unfed(plan: Any, what: Any) -> Exception:
    """The error of a placeholder without a value, with the way from the fetch to it."""
    op = what if isinstance(what, Operation) else source(plan, what)
    if op is None:
        return errors.InvalidArgumentError(None, None, f"{what} has no value: it must be fed")
    shape = "" if op.outputs[0].shape == TensorShape(None) else f" and shape {op.outputs[0].shape}"
    return errors.InvalidArgumentError(
        None, op, f"the placeholder {op.name!r} ({op.where}) was not fed: give feed_dict={{{op.name}: value}} a value of type "
        f"{op.outputs[0].dtype}{shape}. It is needed by {path(plan, op)}",
    )  # fmt: skip


def source(plan: Any, what: Any) -> Operation | None:
    """The placeholder operation that a node, or a dimension, is of."""
    for op in plan.session.graph._operations:
        for n in op.nodes or () if op.type in ("Placeholder", "PlaceholderWithDefault") else ():
            if n is what or what in n.shape:
                return op
    return None


def path(plan: Any, op: Operation) -> str:
    """The operations from a fetch down to one that it needs."""
    came: dict[Operation, Operation | None] = {x.op: None for x in plan.leaves}
    queue = list(came)
    given = set(plan.fed)
    for at in queue:
        for x in parents(at, given):
            if x not in came:
                came[x] = at
                queue.append(x)
    names: list[str] = []
    step: Operation | None = op
    while step is not None and step in came:
        names.append(step.name)
        step = came[step]
    shown = names[::-1] if len(names) < 12 else [*names[:-6:-1], "...", *names[5::-1]]
    return " <- ".join(shown) if names else "the fetches"
