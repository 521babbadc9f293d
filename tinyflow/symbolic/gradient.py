"""tf.gradients: the gradient of tensors, as new tensors of the same graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from tinyflow.core.dtypes import bool_
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Node, rewrite
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import leaf
from tinyflow.ops.control import AFTER, kept
from tinyflow.passes import gradient as passes
from tinyflow.symbolic.tensor import Tensor, convert, operation, tensor
from tinyflow.symbolic.world import World


def gradients(ys: Any, xs: Any, grad_ys: Any = None, name: str = "gradients", colocate_gradients_with_ops: bool = False,
              gate_gradients: bool = False, aggregation_method: Any = None, stop_gradients: Any = None,
              unconnected_gradients: Any = "none") -> list[Tensor | None]:  # fmt: skip
    """d(sum of all ys)/dx for every x; None where no path of differentiable operations leads from x to a y.

    grad_ys         a weight for every y, of its shape; None is ones
    stop_gradients  tensors that are taken as constants
    """
    ys, xs, stops = elements(ys), elements(xs), elements(stop_gradients)
    seeds = (
        [None] * len(ys)
        if grad_ys is None
        else [None if g is None else convert(g, y.dtype) for g, y in zip(listed(grad_ys), ys, strict=True)]
    )
    for y in ys:
        if not y.dtype.is_floating:
            raise TypeError(
                f"gradients: {y.name!r} is of type {y.dtype}; only floats have gradients. Differentiate what it is computed from"
            )
    zero = str(getattr(unconnected_gradients, "value", unconnected_gradients)) == "zero"
    late = False  # whether the ranks, and so the nodes, are known only when running

    def meaning(world: Any) -> list[Node | None]:
        return within(world, ys, xs, seeds, stops, zero or late)

    inputs = [*ys, *xs, *(s for s in seeds if s is not None), *stops]
    op = operation("SymbolicGradient", meaning, inputs, name, worldly=True, types=[x.dtype for x in xs])
    if op.nodes is None:
        late = True  # what is handed out now has a value then
        alive = [reaches(ys, x) for x in xs]
    else:
        alive = [n is not None for n in op.nodes]
    return [t if ok else None for t, ok in zip(op.outputs, alive, strict=True)]


def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, of which only the arguments and variables are kept for the gradient; what lies in it is computed again."""

    @wraps(f)
    def inner(*args: Any, **kwargs: Any) -> Any:
        given = [x for a in (*args, *kwargs.values()) for x in elements(a) if x.dtype.is_floating]

        def again(y: Any) -> Any:
            if isinstance(y, tuple | list):
                return type(y)([again(part) for part in y])
            y = convert(y)
            return tensor("RecomputeGrad", lambda y, *xs: kept(y, xs), [y, *given]) if y.dtype.is_floating else y

        return again(f(*args, **kwargs))

    return inner


def elements(given: Any) -> list[Tensor]:
    """A tensor, a variable or a list of such, as tensors; a variable is taken for itself, not for a reading of it."""
    return [getattr(x, "_as_graph_element", lambda x=x: convert(x))() for x in listed(given)]


def listed(given: Any) -> list[Any]:
    """What is given, as a list: one thing, or several in any collection but a dict."""
    several = (
        hasattr(given, "__iter__") and not isinstance(given, Tensor | Mapping) and not hasattr(given, "_as_tensor")
    )
    return [] if given is None else list(given) if several else [given]


def within(
    world: Any,
    ys: Sequence[Tensor],
    xs: Sequence[Tensor],
    seeds: Sequence[Tensor | None],
    stops: Sequence[Tensor],
    zero: bool,
) -> list[Node | None]:
    """The gradients in a world.

    Equal operations share their nodes, but a gradient is with respect to one tensor: so every x that is computed is
    marked, which makes it a node of its own, and the marks are taken off the result.
    """
    marked = {t: leaf.placeholder(bool_, (), "mark") for t in (*xs, *stops) if t.op.inputs or t.op.type == "Const"}
    marks = set(marked.values())
    place = (
        World(
            world.given,
            {**world.marked, **{t: (*world.marked.get(t, ()), m) for t, m in marked.items()}},
            world.complete,
            world.before,
        )
        if marked
        else world
    )
    targets = [place.node(x) for x in xs]
    ends = [matched(place.node(y), None if s is None else place.node(s)) for y, s in zip(ys, seeds, strict=True)]
    found = passes.gradients([place.node(y) for y in ys], targets, ends, [place.node(s) for s in stops])
    if zero:
        found = [f.zeros(x.shape, x.dtype) if g is None else g for g, x in zip(found, targets, strict=True)]
    if not marks:
        return found
    clean = rewrite(
        [g for g in found if g is not None], lambda n: n.inputs[0] if n.op is AFTER and n.inputs[1] in marks else n
    )
    return [None if g is None else clean[g] for g in found]


def matched(y: Node, seed: Node | None) -> Node | None:
    """A seed in the shape of its y."""
    if seed is None or seed.shape == y.shape:
        return seed
    try:
        return e.broadcast(y, seed)[1]
    except ShapeError:
        raise ShapeError(f"grad_ys has shape {seed.shape} for a tensor of shape {y.shape}") from None


FLAT = {"StopGradient", "Floor", "Ceil", "Round", "Rint", "FloorDiv"}  # no gradient goes through


def reaches(ys: Sequence[Tensor], x: Tensor) -> bool:
    """Whether some y is computed from x, by floats all the way."""
    stack, seen = list(ys), set()
    while stack:
        t = stack.pop()
        if t is x:
            return True
        if t.op not in seen and t.dtype.is_floating and t.op.type not in FLAT:
            seen.add(t.op)
            stack.extend(t.op.inputs)
    return False
