"""TensorShape and Dimension: shapes as a user sees them.

    TensorShape := unknown rank | Dimension*
    Dimension   := int | a size known only when the graph runs | unknown

A size known only when running shows itself as None, as in TensorFlow 1; used in a shape it stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tinyflow.core import expr
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Dim, Shape


class Dimension:
    """One size: an int, or None where only a run can tell."""

    __slots__ = ("dim",)
    dim: Dim | None

    def __init__(self, value: Any) -> None:
        if isinstance(value, Dimension):
            self.dim = value.dim
        elif value is None or isinstance(value, Expr):
            self.dim = value
        else:
            self.dim = int(value)
            if self.dim < 0:
                raise ValueError(f"a dimension is 0 or more, or None, not {value}")

    @property
    def value(self) -> int | None:
        return self.dim if isinstance(self.dim, int) else None

    def is_compatible_with(self, other: Any) -> bool:
        """Whether both may be the same size."""
        other = Dimension(other).value
        return self.value is None or other is None or self.value == other

    def merge_with(self, other: Any) -> Dimension:
        """The size that both are; ValueError if they differ."""
        other = Dimension(other)
        if not self.is_compatible_with(other):
            raise ValueError(f"the sizes {self} and {other} differ")
        return other if self.value is None and other.dim is not None else self

    def __int__(self) -> int:
        if self.value is None:
            raise TypeError("this size is known only when the graph runs; tf.shape(x)[d] is it as a tensor")
        return self.value

    __index__ = __int__

    def __repr__(self) -> str:
        return f"Dimension({self.value})"

    def __str__(self) -> str:
        return "?" if self.value is None else str(self.value)

    def __eq__(self, other: Any) -> Any:
        """As in TensorFlow 1: None where one of them is unknown."""
        try:
            other = Dimension(other)
        except (TypeError, ValueError):
            return NotImplemented
        return None if self.value is None or other.value is None else self.value == other.value

    def __ne__(self, other: Any) -> Any:
        same = self.__eq__(other)
        return same if same is None or same is NotImplemented else not same

    def __hash__(self) -> int:
        return hash(self.value)

    def __lt__(self, other: Any) -> bool | None:
        return compare(self, other, lambda a, b: a < b)

    def __le__(self, other: Any) -> bool | None:
        return compare(self, other, lambda a, b: a <= b)

    def __gt__(self, other: Any) -> bool | None:
        return compare(self, other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> bool | None:
        return compare(self, other, lambda a, b: a >= b)

    def __add__(self, other: Any) -> Dimension:
        return combine(self, other, expr.add)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Dimension:
        return combine(self, other, expr.mul)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Dimension:
        return combine(self, other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Dimension:
        return combine(other, self, lambda a, b: a - b)

    def __floordiv__(self, other: Any) -> Dimension:
        return combine(self, other, expr.floordiv)

    __truediv__ = __floordiv__

    def __mod__(self, other: Any) -> Dimension:
        return combine(self, other, expr.mod)


def combine(a: Any, b: Any, fn: Any) -> Dimension:
    a, b = Dimension(a).dim, Dimension(b).dim
    return Dimension(None if a is None or b is None else fn(a, b))


def compare(a: Any, b: Any, fn: Any) -> bool | None:
    a, b = Dimension(a).value, Dimension(b).value
    return None if a is None or b is None else fn(a, b)


class TensorShape:
    """The shape of a tensor; `dims` is None where not even the rank is known."""

    __slots__ = ("_dims",)
    _dims: tuple[Dim | None, ...] | None

    def __init__(self, dims: Any) -> None:
        if isinstance(dims, TensorShape):
            self._dims = dims._dims
        elif dims is None:
            self._dims = None
        else:
            entries = dims if isinstance(dims, Iterable) else (dims,)
            self._dims = tuple(Dimension(d).dim for d in entries)

    @property
    def dims(self) -> list[Dimension] | None:
        return None if self._dims is None else [Dimension(d) for d in self._dims]

    @property
    def ndims(self) -> int | None:
        return None if self._dims is None else len(self._dims)

    rank = ndims

    def as_list(self) -> list[int | None]:
        """The sizes, None where unknown. ValueError if the rank is unknown."""
        return [d if isinstance(d, int) else None for d in self.known("as_list()")]

    def known(self, what: str) -> tuple[Dim | None, ...]:
        if self._dims is None:
            raise ValueError(f"{what} of a shape of unknown rank; give the placeholder a shape, such as [None, 784]")
        return self._dims

    def num_elements(self) -> int | None:
        if self._dims is None:
            return None
        total = expr.product(d if d is not None else expr.fresh_dim() for d in self._dims)
        return total if isinstance(total, int) else None

    def is_fully_defined(self) -> bool:
        return self._dims is not None and all(isinstance(d, int) for d in self._dims)

    def assert_is_fully_defined(self) -> None:
        if not self.is_fully_defined():
            raise ValueError(f"the shape {self} is not fully known")

    def assert_has_rank(self, rank: int) -> None:
        if self.ndims not in (None, rank):
            raise ValueError(f"the shape {self} has not rank {rank}")

    def is_compatible_with(self, other: Any) -> bool:
        """Whether both may be the same shape."""
        a, b = self._dims, TensorShape(other)._dims
        if a is None or b is None:
            return True
        return len(a) == len(b) and all(Dimension(x).is_compatible_with(y) for x, y in zip(a, b, strict=True))

    def assert_is_compatible_with(self, other: Any) -> None:
        if not self.is_compatible_with(other):
            raise ValueError(f"the shapes {self} and {TensorShape(other)} do not fit each other")

    def merge_with(self, other: Any) -> TensorShape:
        """The shape with what either knows; ValueError if they differ."""
        other = TensorShape(other)
        self.assert_is_compatible_with(other)
        if self._dims is None or other._dims is None:
            return other if self._dims is None else self
        return TensorShape([Dimension(a).merge_with(b) for a, b in zip(self._dims, other._dims, strict=True)])

    def with_rank(self, rank: int) -> TensorShape:
        return self.merge_with([None] * rank)

    def with_rank_at_least(self, rank: int) -> TensorShape:
        if self.ndims is not None and self.ndims < rank:
            raise ValueError(f"the shape {self} has fewer than {rank} dimensions")
        return self

    def concatenate(self, other: Any) -> TensorShape:
        other = TensorShape(other)
        return TensorShape(None if self._dims is None or other._dims is None else (*self._dims, *other._dims))

    def __getitem__(self, key: Any) -> Any:
        if self._dims is None:
            return TensorShape(None) if isinstance(key, slice) else Dimension(None)
        return TensorShape(self._dims[key]) if isinstance(key, slice) else Dimension(self._dims[key])

    def __iter__(self) -> Iterator[Dimension]:
        return (Dimension(d) for d in self.known("iteration"))

    def __len__(self) -> int:
        return len(self.known("len()"))

    def __bool__(self) -> bool:
        return self._dims is not None

    def __eq__(self, other: Any) -> bool:
        try:
            other = TensorShape(other)
        except (TypeError, ValueError):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[int | None, ...] | None:
        return None if self._dims is None else tuple(self.as_list())

    def __str__(self) -> str:
        if self._dims is None:
            return "<unknown>"
        inside = ", ".join(str(Dimension(d)) for d in self._dims)
        return f"({inside},)" if len(self._dims) == 1 else f"({inside})"

    def __repr__(self) -> str:
        return f"TensorShape({None if self._dims is None else self.dims})"


def as_dims(shape: Any, hint: str = "n") -> Shape:
    """The dimensions of a node: a fresh symbol for every None."""
    dims = TensorShape(shape)._dims
    if dims is None:
        raise ValueError("the rank of this shape is not known")
    return tuple(expr.fresh_dim(hint) if d is None else d for d in dims)


def unknown_shape(ndims: int | None = None) -> TensorShape:
    return TensorShape(None if ndims is None else [None] * ndims)
