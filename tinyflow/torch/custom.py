"""Functions with gradients of their own: torch.autograd.Function, and hooks on gradients.

    y = custom(out, *xs)       out; its gradient is not that of how out was computed, but what `call` makes of it

The node holds its call as an attribute, so it is taken out before a graph is run: what runs is `out`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

from tinyflow.graph.node import Node, make, rewrite, toposort
from tinyflow.graph.op import Op
from tinyflow.torch.functions import lift
from tinyflow.torch.leaves import Passing
from tinyflow.torch.modes import MODE, no_grad
from tinyflow.torch.storage import BEFORE_RUN
from tinyflow.torch.tensor import Tensor, fresh, use

MADE: WeakSet[Node] = WeakSet()  # the custom nodes that live: most programs have none


class Call:
    """What a custom node does with a gradient: one object a node, so that no two are merged."""

    __slots__ = ("__weakref__", "grad")

    def __init__(self, grad: Callable[[Node], tuple[Node | None, ...]]) -> None:
        self.grad = grad
        Passing.living += 1

    def __del__(self, passing: Any = Passing) -> None:  # the names of modules may be gone at the end
        passing.living -= 1


CUSTOM = Op(  # in no table: it has no meaning of its own, and never runs
    "custom",
    numpy=lambda out, *xs, call: out,
    shape=lambda out, *xs, call: out,
    at=lambda i, out, *xs, call: out(*i),
    grad=lambda g, y, out, *xs, call: call.grad(g),
)


def custom(out: Node, *xs: Node, call: Call) -> Node:
    node = make(CUSTOM, out, *xs, call=call)
    MADE.add(node)
    return node


def without_custom(nodes: Sequence[Node]) -> list[Node]:
    """The nodes that are to be run."""
    if not MADE or not any(n.op is CUSTOM for n in toposort(nodes)):
        return list(nodes)
    new = rewrite(nodes, lambda n: n.inputs[0] if n.op is CUSTOM else n)
    return [new[n] for n in nodes]


STRAIGHT = Call(lambda g: (None, g))
Passing.living = 0  # that one holds nothing


def straight_through(value: Node, history: Node) -> Node:
    """The value of one node with the gradient of another: what is left when a value is changed behind autograd's back."""
    return custom(value, history, call=STRAIGHT)


BEFORE_RUN.append(without_custom)


class FunctionCtx:
    """What forward leaves for backward."""

    def __init__(self) -> None:
        self.saved_tensors: tuple[Any, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()
        self.constant_outputs: tuple[Tensor, ...] = ()
        self.zeros = True

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    saved_variables = property(lambda self: self.saved_tensors)

    def mark_dirty(self, *tensors: Tensor) -> None:
        pass

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        self.constant_outputs = tensors

    def set_materialize_grads(self, value: bool) -> None:
        self.zeros = value


class Function:
    """A function with its own backward. Subclasses write two static methods:

    forward(ctx, *inputs)        computes; ctx.save_for_backward keeps what backward needs
    backward(ctx, *gradients)    the gradient of each input, given that of each output
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function to use it with backward mode AD.")  # fmt: skip

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        ctx = FunctionCtx()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        attached = MODE.grad and any(ctx.needs_input_grad)
        with no_grad():
            if hasattr(cls, "setup_context"):
                outputs = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, outputs)
            else:
                outputs = cls.forward(ctx, *args, **kwargs)
        if not attached:
            return outputs
        many = outputs if isinstance(outputs, tuple) else (outputs,)
        made = tuple(cls._output(ctx, args, many, k) for k in range(len(many)))
        return made if isinstance(outputs, tuple) else made[0]

    @classmethod
    def _output(cls, ctx: FunctionCtx, args: Sequence[Any], many: Sequence[Any], k: int) -> Any:
        """Output k, whose gradient is that which backward gives when the others' are zero."""
        y = many[k]
        if not isinstance(y, Tensor) or not y.is_floating_point() or any(y is c for c in ctx.constant_outputs):
            return y
        tensors = [a for a in args if isinstance(a, Tensor)]

        def grad(g: Node) -> tuple[Node | None, ...]:
            seeds = [
                fresh(g, True) if i == k else other.new_zeros(other.shape) if ctx.zeros else None
                for i, other in enumerate(many)
            ]
            found = cls.backward(ctx, *seeds)
            found = found if isinstance(found, tuple) else (found,)
            pairs = [(a, d) for a, d in zip(args, found, strict=False) if isinstance(a, Tensor)]
            return (None, *(None if d is None else use(d) for _, d in pairs))

        node = custom(y._storage.node if y._view is None else use(y), *map(use, tensors), call=Call(grad))
        return fresh(node, True, False, f"{cls.__name__}Backward")


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a backward whose result is not to be differentiated again."""

    def call(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            found = backward(ctx, *grads)
        cut = lambda d: d.detach() if isinstance(d, Tensor) else d
        return tuple(map(cut, found)) if isinstance(found, tuple) else cut(found)

    return call


def watched(x: Node, hooks: dict[int, Callable[..., Any]]) -> Node:
    """x; its gradient passes through the hooks."""

    def grad(g: Node) -> tuple[Node]:
        for hook in list(hooks.values()):
            changed = hook(fresh(g, True))
            g = g if changed is None else use(changed)
        return (g,)

    return custom(x, call=Call(grad))


watch = lift("watched", watched)
