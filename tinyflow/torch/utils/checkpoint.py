"""torch.utils.checkpoint: a part of a model that is computed again for the gradient, instead of keeping what lies in it.

y = checkpoint(f, x)       f(x); its gradient is that of f on again(x, g), once the gradient g of y is there
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from tinyflow.graph.node import Node
from tinyflow.ops.control import kept
from tinyflow.torch.modes import MODE
from tinyflow.torch.tensor import Tensor, fresh, use


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs), of which only the arguments are kept for the gradient.

    use_reentrant and preserve_rng_state have no effect: there is one way, and random numbers are the same both times.
    """
    outputs = function(*args, **kwargs)
    if not MODE.grad:
        return outputs
    given = [use(t) for t in tensors([*args, *kwargs.values()]) if t.is_floating_point()]
    if isinstance(outputs, Tensor):
        return computed_again(outputs, given)
    if isinstance(outputs, tuple | list):
        return type(outputs)([computed_again(y, given) if isinstance(y, Tensor) else y for y in outputs])
    return outputs


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """The functions one after the other, in so many parts; all but the last part are computed again."""
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(steps) // segments
    cuts = [k * size for k in range(segments)]
    for begin, end in pairwise(cuts):
        input = checkpoint(lambda x, part=steps[begin:end]: in_turn(part, x), input)
    return in_turn(steps[cuts[-1] :], input)


def in_turn(functions: Sequence[Callable[[Any], Any]], x: Any) -> Any:
    for f in functions:
        x = f(x)
    return x


def tensors(values: Sequence[Any]) -> list[Tensor]:
    """Those among the arguments, in lists too."""
    found: list[Tensor] = []
    for v in values:
        if isinstance(v, Tensor):
            found.append(v)
        elif isinstance(v, tuple | list):
            found += tensors(v)
        elif isinstance(v, dict):
            found += tensors(list(v.values()))
    return found


def computed_again(y: Tensor, given: Sequence[Node]) -> Tensor:
    """y; its gradient goes through nodes of its own."""
    if not y.requires_grad:
        return y
    value = use(y)
    out = kept(value, given)
    return y if out is value else fresh(out, True, False, "CheckpointBackward")
