"""Gradients: backward extends the graph from an output to the leaves that require them, and computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.core.errors import LINE, user_line
from tinyflow.graph.node import Node, toposort
from tinyflow.ops.functions import ones, zeros
from tinyflow.passes.gradient import gradients
from tinyflow.torch.custom import Function, once_differentiable, watch
from tinyflow.torch.errors import MODIFIED, NO_GRAD_FN, NOT_DIFFERENTIATED, NOT_SCALAR_OUTPUT, UNUSED, SizeError
from tinyflow.torch.leaves import CUT, GOING, Remembered
from tinyflow.torch.modes import MODE, enable_grad, inference_mode, no_grad, set_grad_enabled
from tinyflow.torch.storage import LEAVES
from tinyflow.torch.tensor import RETAINED, Tensor, assign, fresh, use


def many(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]


def history(t: Tensor) -> Node:
    """The node that leads from a tensor back to the leaves."""
    if not t.requires_grad:
        raise RuntimeError(NO_GRAD_FN)
    with enable_grad():
        return use(t)


def seed(t: Tensor, node: Node, gradient: Tensor | None) -> Node:
    """What the gradient starts from: ones for a scalar."""
    if gradient is None:
        if t.numel() != 1:
            raise RuntimeError(NOT_SCALAR_OUTPUT)
        return ones(node.shape, node.dtype)
    if tuple(gradient._shape) != tuple(t._shape):
        raise SizeError(
            f"Mismatch in shape: grad_output[0] has a shape of {gradient.shape} and output[0] has a shape of {t.shape}."
        )
    return use(gradient)


def differentiate(
    outputs: Sequence[Tensor], seeds: Sequence[Any], inputs: Sequence[Tensor] | None
) -> tuple[list[Tensor], list[Node | None]]:
    """The tensors that take gradients (all leaves below the outputs, if none are named), and their gradients."""
    roots = tuple([history(t) for t in outputs])
    before, GOING.busy = LINE.held, GOING.busy + 1
    LINE.held = user_line()
    try:
        starts = tuple([seed(t, n, g) for t, n, g in zip(outputs, roots, seeds, strict=True)])
        takers = takers_below(roots) if inputs is None else list(inputs)
        with enable_grad():
            targets = tuple([use(t) for t in takers])
        if CUT and any(n in CUT for n in leaves_below(roots)):
            raise RuntimeError(MODIFIED)
        key = roots, targets, starts
        found = FOUND.get(key)
        if found is None:
            found = derived(roots, targets, starts)
            FOUND.put(key, found)
        return takers, found
    finally:
        LINE.held, GOING.busy = before, GOING.busy - 1


FOUND = Remembered(256)  # outputs, inputs, seeds -> gradients
BELOW = Remembered(256)  # outputs -> the leaves below them, in order


def leaves_below(roots: tuple[Node, ...]) -> list[Node]:
    found = BELOW.get(roots)
    if found is None:
        found = [n for n in toposort(roots) if n.op.kind == "leaf"]
        BELOW.put(roots, found)
    return found  # type: ignore[no-any-return]


def takers_below(roots: tuple[Node, ...]) -> list[Tensor]:
    """The leaves that require gradients, and what retains its own; the nodes of a tensor of old may be another's now."""
    if not RETAINED:
        return [t for n in leaves_below(roots) if (t := LEAVES.get(n)) is not None]
    with enable_grad():
        kept = {n: t for n, t in list(RETAINED.items()) if use(t) is n}
    return [t for n in toposort(roots) if (t := LEAVES.get(n) if n.op.kind == "leaf" else kept.get(n)) is not None]


def derived(roots: Sequence[Node], targets: Sequence[Node], starts: Sequence[Node]) -> list[Node | None]:
    found = gradients(roots, targets, starts)
    if all(g is not None for g in found):
        return found
    met = flowing(roots)
    return [zeros(n.shape, n.dtype) if g is None and n in met else g for n, g in zip(targets, found, strict=True)]


def flowing(roots: Sequence[Node]) -> set[Node]:
    """What a gradient would reach through ops of floats: where it ends on the way, as at floor, it is zero and not absent."""
    met: set[Node] = set()
    stack = list(roots)
    while stack:
        n = stack.pop()
        if n not in met and n.dtype.is_floating:
            met.add(n)
            if n.op.name != "stop_gradient":
                stack.extend(n.inputs)
    return met


def backward_from(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Adds d(self)/d(leaf), weighted by `gradient`, to the .grad of every leaf that requires it."""
    takers, grads = differentiate([self], [gradient], None if inputs is None else many(inputs))
    for t, g in zip(takers, grads, strict=True):
        if g is not None:
            accumulate(t, g, create_graph)


def accumulate(t: Tensor, g: Node, create_graph: bool) -> None:
    new = fresh(g, create_graph, True)
    for hook in list((t._hooks or {}).values()) if t.is_leaf else ():
        changed = hook(new)
        new = new if changed is None else changed
    if t._grad is None:
        t._grad = new
    elif create_graph:
        t._grad = t._grad + new  # type: ignore[operator]
    else:
        before, MODE.grad = MODE.grad, False
        try:
            assign(t._grad, t._grad + new)  # type: ignore[operator]
        finally:
            MODE.grad = before


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """torch.autograd.backward: the sum of what several outputs contribute."""
    outputs = many(tensors)
    seeds = [None] * len(outputs) if grad_tensors is None else many(grad_tensors)
    takers, grads = differentiate(outputs, seeds, None if inputs is None else many(inputs))
    for t, g in zip(takers, grads, strict=True):
        if g is not None:
            accumulate(t, g, create_graph)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """d(sum of outputs)/d(input) for each input, weighted by grad_outputs; nothing is added to .grad."""
    if is_grads_batched:
        raise NotImplementedError("grad with is_grads_batched; call it once for each row of grad_outputs")
    ys, xs = many(outputs), many(inputs)
    if any(not x.requires_grad for x in xs):
        raise RuntimeError(NOT_DIFFERENTIATED)
    seeds = [None] * len(ys) if grad_outputs is None else many(grad_outputs)
    _, found = differentiate(ys, seeds, xs)
    if None in found and not (allow_unused or materialize_grads):
        raise RuntimeError(UNUSED.format(found.index(None)))
    result = []
    for x, g in zip(xs, found, strict=True):
        if g is None and materialize_grads:
            g = ones(x._shape, x._storage.node.dtype) * 0.0
        result.append(None if g is None else fresh(g, create_graph, True))
    return tuple(result)


class Handle:
    """Takes a hook away again."""

    def __init__(self, hooks: dict[int, Any], number: int) -> None:
        self.hooks, self.number = hooks, number

    def remove(self) -> None:
        self.hooks.pop(self.number, None)


def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> Handle:
    """Calls hook(gradient) when this tensor's gradient has been found; what it returns takes the gradient's place."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if self._hooks is None:
        self._hooks = {}
        if not self.is_leaf:  # what is computed of it from now on sends its gradient through the hooks
            hooked = watch(self, self._hooks)
            self._storage, self._view, self._base = hooked._storage, None, None
    number = max(self._hooks, default=-1) + 1
    self._hooks[number] = hook
    return Handle(self._hooks, number)


for _name, _method in ({"backward": backward_from, "register_hook": register_hook}).items():
    setattr(Tensor, _name, _method)


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:
    """The tensor without its history; kept for old programs."""
    data = data.detach() if data.requires_grad else data
    return data.requires_grad_() if requires_grad else data


class function:
    """The names of torch.autograd.function."""

    Function, once_differentiable = Function, staticmethod(once_differentiable)


__all__ = [
    "Function",
    "Variable",
    "backward",
    "enable_grad",
    "function",
    "grad",
    "inference_mode",
    "no_grad",
    "set_grad_enabled",
]
