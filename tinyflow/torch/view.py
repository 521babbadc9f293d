"""Views: how a tensor reads its value from the storage it shares, and writes it back.

    view := View(parent, kind, arguments)           kind in KINDS; parent is None for the storage itself

Each kind has its reading (a node of a node), its writing (the parent's new value, given the old one and what is written)
and its layout (shape, strides, offset in elements, as PyTorch reports them).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tinyflow.core.dtypes import bool_
from tinyflow.graph.node import Node, Shape
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions, movement


class Layout(NamedTuple):
    shape: Shape
    strides: tuple[int, ...]
    offset: int


class View(NamedTuple):
    parent: View | None
    kind: str
    args: tuple[Any, ...]


class Kind(NamedTuple):
    read: Callable[..., Node]
    write: Callable[..., Node]
    layout: Callable[..., Layout]


def read(view: View, base: Node) -> Node:
    """The view's value, given that of the storage."""
    node = base if view.parent is None else read(view.parent, base)
    return KINDS[view.kind].read(node, *view.args)


def write(view: View, base: Node, value: Node) -> Node:
    """The storage's value after the view was given a new one."""
    old = base if view.parent is None else read(view.parent, base)
    new = KINDS[view.kind].write(old, value, *view.args)
    return new if view.parent is None else write(view.parent, base, new)


def layout(view: View | None, shape: Shape) -> Layout:
    """Where the view's elements lie in a storage of some shape."""
    if view is None:
        return Layout(shape, row_major(shape), 0)
    return KINDS[view.kind].layout(layout(view.parent, shape), *view.args)


def row_major(shape: Shape) -> tuple[Any, ...]:
    """The strides of a dense tensor."""
    strides: list[Any] = []
    step: Any = 1
    for n in reversed(shape):
        strides.append(step)
        step = step * (max(n, 1) if isinstance(n, int) else n)
    return tuple(reversed(strides))


def is_dense(at: Layout) -> bool:
    """Whether the elements lie one after the other in row-major order."""
    if any(n == 0 for n in at.shape):
        return True
    return all(n == 1 or a == b for n, a, b in zip(at.shape, at.strides, row_major(at.shape), strict=True))


def reshaped_strides(at: Layout, shape: Shape) -> tuple[int, ...] | None:
    """The strides that show a layout's elements in another shape; None if that takes a copy.

    Axes that lie dense in each other form a chunk; the new axes must divide the chunks.
    """
    if is_dense(at):
        return row_major(shape)
    chunks: list[tuple[int, int]] = []  # (elements, innermost stride), from the last axis
    for n, s in zip(reversed(at.shape), reversed(at.strides), strict=True):
        if n == 1:
            continue
        if chunks and s == chunks[-1][0] * chunks[-1][1]:
            chunks[-1] = (chunks[-1][0] * n, chunks[-1][1])
        else:
            chunks.append((n, s))
    strides: list[int] = []
    room, step = chunks.pop(0) if chunks else (1, 1)
    for n in reversed(shape):
        if n == 1:
            strides.append(step)
            continue
        if room == 1 and chunks:
            room, step = chunks.pop(0)
        if room % n:
            return None
        strides.append(step)
        room, step = room // n, step * n
    return tuple(reversed(strides))


def reshape_layout(at: Layout, shape: Shape) -> Layout:
    strides = reshaped_strides(at, shape)
    assert strides is not None
    return Layout(shape, strides, at.offset)


def slice_layout(at: Layout, begin: Shape, size: Shape, step: tuple[int, ...]) -> Layout:
    strides = tuple(s * k for s, k in zip(at.strides, step, strict=True))
    return Layout(size, strides, at.offset + sum(b * s for b, s in zip(begin, at.strides, strict=True)))


def expand_layout(at: Layout, shape: Shape) -> Layout:
    lead = len(shape) - len(at.shape)
    old = ((0,) * lead + at.strides, (1,) * lead + tuple(at.shape))
    return Layout(shape, tuple(0 if m == 1 and n != 1 else s for s, m, n in zip(*old, shape, strict=True)), at.offset)


def put_slice(old: Node, value: Node, begin: Shape, size: Shape, step: tuple[int, ...]) -> Node:
    """old, with a slice of it replaced."""
    if any(n == 0 for n in size):
        return old
    if tuple(size) == tuple(old.shape):
        return value
    high = tuple(n - (b + (m - 1) * k + 1) for n, b, m, k in zip(old.shape, begin, size, step, strict=True))
    inner = tuple(k - 1 for k in step)
    inside = movement.pad(functions.full(size, True, bool_), begin, high, inner, False)
    return e.where(inside, movement.pad(value, begin, high, inner), old)


def put_expanded(*_: Any) -> Node:
    raise RuntimeError(
        "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
        "Please clone() the tensor before performing the operation."
    )


# fmt: off
KINDS = {
    "reshape": Kind(movement.reshape, lambda old, value, shape: movement.reshape(value, old.shape),                      reshape_layout),
    "permute": Kind(movement.permute, lambda old, value, order: movement.permute(value, movement.inverse(order)),
                    lambda at, order: Layout(tuple(at.shape[d] for d in order), tuple(at.strides[d] for d in order), at.offset)),
    "slice":   Kind(movement.slice_,  put_slice,                                                                         slice_layout),
    "expand":  Kind(movement.expand,  put_expanded,                                                                      expand_layout),
}
# fmt: on


def numel(shape: Shape) -> int:
    return math.prod(shape)  # type: ignore[arg-type]
