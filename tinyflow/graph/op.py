"""Op: one row of a table, all that the framework knows of an operator.

op := Op(name, numpy, shape, at, grad, samples)

numpy   what the op means, on numpy arrays: the oracle, never derived from the others
shape   the shape rule: shapes (and attributes) in, shape out
dtype   the type rule; by default the first operand's type
at      the value at one index of the output, a scalar expression: lowering and fusion
grad    (g, y, *inputs, **attributes) -> the gradient of each input as a graph, or None where there is none
samples inputs the tests feed it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """What the tests feed a row: operands (a shape, or (shape, dtype, low, high)), and attributes."""

    inputs: tuple[Any, ...]
    attrs: Mapping[str, Any] = {}


class Op:
    """One row. `kind` says how it is lowered:

    at       each output element is an expression of input elements (pull)
    into     each input element is added to some output element (push)
    scan     each output element is made of the one before it along an axis
    sort     the elements of an axis are put in order
    block    blocks of the output are computed by a recipe of their own: attention
    find     how large the result is depends on the data: the attribute `size` is known once it has run
    leaf     a value from outside: placeholder, variable, constant
    control  decides what runs: switch, merge, after, group, assign
    loop     a graph of its own, in the attributes, is done over and over: scan
    """

    __slots__ = ("at", "doc", "dtype", "elementwise", "grad", "kind", "name", "numpy", "samples", "shape", "whole")

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        shape: Callable[..., Any],
        at: Callable[..., Any] | None,
        grad: Callable[..., Any] | None,
        samples: tuple[Sample, ...] = (),
        dtype: Callable[..., Any] | None = None,
        kind: str = "at",
        elementwise: bool = False,
        doc: str = "",
    ) -> None:
        self.name, self.numpy, self.shape, self.at, self.grad = name, numpy, shape, at, grad
        self.samples, self.dtype, self.kind, self.elementwise, self.doc = samples, dtype, kind, elementwise, doc
        # Whether it has a kernel of its own, which writes all of its output: nothing asks it for a value at an index.
        self.whole = kind in ("into", "scan", "sort", "find", "block", "loop")

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return lookup, (self.name,)


TABLE: dict[str, Op] = {}


def define(name: str, **columns: Any) -> Op:
    """A new row of the table."""
    if name in TABLE:
        raise ValueError(f"there is an op named {name!r} already")
    TABLE[name] = Op(name, **columns)
    return TABLE[name]


def lookup(name: str) -> Op:
    return TABLE[name]
