"""x[...], x[...] = y, and everything with indices. Numbers and slices make views; tensors of indices gather and scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core.dtypes import bool_, int64, uint8
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node, Shape
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing as ix
from tinyflow.ops import movement as m
from tinyflow.ops.leaf import constant
from tinyflow.ops.rules import ShapeError, broadcast_shapes
from tinyflow.torch.creation import as_tensor, from_numpy, tensor
from tinyflow.torch.errors import DimError, SizeError
from tinyflow.torch.functions import FUNCTIONS, install, install_tensor, lift, of_known_sizes
from tinyflow.torch.shapes import normal_dim, product
from tinyflow.torch.storage import State
from tinyflow.torch.tensor import Tensor, alias, dtype_of, viewed

# ------------------------------------------------------------------------------------------ reading an index


class Index(NamedTuple):
    """A basic view, and the tensors of indices that apply to some of its axes."""

    part: Tensor
    places: dict[int, Tensor]  # axis -> indices


def parse(x: Tensor, given: Any) -> Index:
    """Numbers, slices, None and ... are applied as views; what remains are tensors of indices."""
    items = list(given) if isinstance(given, tuple) else [given]
    items = [spelled(i) for i in items]
    wanted = sum(
        i.ndim if is_mask(i) else 1 for i in items if i is not None and i is not Ellipsis and not isinstance(i, bool)
    )
    if wanted > x.ndim:
        raise DimError(f"too many indices for tensor of dimension {x.ndim}")
    if not any(i is Ellipsis for i in items):
        items.append(Ellipsis)
    at = next(k for k, i in enumerate(items) if i is Ellipsis)
    items[at : at + 1] = [slice(None)] * (x.ndim - wanted)
    begin, size, step, shape = [], [], [], []  # type: tuple[list[Any], list[Any], list[int], list[Any]]
    places: dict[int, Tensor] = {}
    d = 0
    for i in items:
        if i is None:
            shape.append(1)
            continue
        n = x._shape[d]
        if isinstance(i, Tensor):
            for axis in mask_places(i, x._shape[d : d + i.ndim]) if is_mask(i) else [i]:
                places[len(shape)] = axis
                take_whole(x._shape[d], begin, size, step, shape)
                d += 1
            continue
        if isinstance(i, slice):
            first, count, by = bounds(i, n)
            begin.append(first), size.append(count), step.append(by), shape.append(count)
        else:
            begin.append(checked(i, n, d)), size.append(1), step.append(1)
        d += 1
    return Index(basic(x, begin, size, step, shape), places)


def take_whole(n: Any, begin: list[Any], size: list[Any], step: list[int], shape: list[Any]) -> None:
    begin.append(0), size.append(n), step.append(1), shape.append(n)


def spelled(i: Any) -> Any:
    """An index in one of five forms: None, Ellipsis, slice, int, Tensor."""
    if i is None or i is Ellipsis or isinstance(i, slice) or type(i) is int or isinstance(i, Expr):
        return i
    if isinstance(i, Tensor):
        return i.item() if i.ndim == 0 and dtype_of(i).is_integer and not i._storage.pending else i
    if isinstance(i, bool | np.bool_):
        return tensor(bool(i))
    if isinstance(i, list | tuple | np.ndarray | range):
        return (
            as_tensor(np.asarray(i))
            if not isinstance(i, np.ndarray) and len(i)
            else as_tensor(np.asarray(i, None if len(i) else np.int64))
        )
    if hasattr(i, "__index__"):
        return i.__index__()
    raise TypeError(
        f"only integers, slices (`:`), ellipsis (`...`), None and long or bool tensors are valid indices (got {type(i).__name__})"
    )


def is_mask(i: Any) -> bool:
    return isinstance(i, Tensor) and dtype_of(i) in (bool_, uint8)


def mask_places(mask: Tensor, shape: Shape) -> Sequence[Tensor]:
    """Where the mask holds, one tensor of indices an axis. Its value is looked at: the shape of the result depends on it."""
    if tuple(mask._shape) != tuple(shape):
        raise DimError(f"The shape of the mask {list(mask._shape)} at index 0 does not match the shape of the indexed tensor {list(shape)} at index 0")  # fmt: skip
    return nonzero(mask, as_tuple=True)  # type: ignore[no-any-return]


def bounds(s: slice, n: Any) -> tuple[Any, Any, int]:
    """Where a slice begins, how many elements it has, and by how much it steps."""
    step = 1 if s.step is None else s.step.__index__()
    if step <= 0:
        raise ValueError("step must be greater than zero")
    if isinstance(n, Expr) or isinstance(s.start, Expr) or isinstance(s.stop, Expr):
        start = 0 if s.start is None else s.start if isinstance(s.start, Expr) or s.start >= 0 else n + s.start
        stop = n if s.stop is None else s.stop if isinstance(s.stop, Expr) or s.stop >= 0 else n + s.stop
        return start, (stop - start + step - 1) // step, step
    ends = (None if v is None else int(v) for v in (s.start, s.stop))
    first, last, step = slice(*ends, step).indices(n)
    return first, max(0, -(-(last - first) // step)), step


def checked(i: Any, n: Any, d: int) -> Any:
    if isinstance(n, int) and isinstance(i, int) and not -n <= i < n:
        raise DimError(f"index {i} is out of bounds for dimension {d} with size {n}")
    return i % n if isinstance(n, int) and isinstance(i, int) else i


def basic(x: Tensor, begin: list[Any], size: list[Any], step: list[int], shape: list[Any]) -> Tensor:
    """The view that numbers, slices and None ask for."""
    part = x
    if tuple(size) != tuple(x._shape) or any(s != 1 for s in step):
        part = viewed(x, "slice", (tuple(begin), tuple(size), tuple(step)), "SliceBackward0")
    if tuple(shape) != tuple(part._shape):
        part = viewed(part, "reshape", (tuple(shape),), "SelectBackward0")
    return viewed(x, "reshape", (x._shape,), "AliasBackward0") if part is x else part


# ------------------------------------------------------------------------------------------ gathering


def wrapped(index: Node, n: Any) -> Node:
    """Negative indices count from the end."""
    if not index.dtype.is_integer:
        raise DimError("tensors used as indices must be long, int, byte or bool tensors")
    return e.where(e.less(index, 0), index + n, index) if isinstance(n, int) else index


class Plan(NamedTuple):
    """Which rows of a matrix (all indexed places) x (all other axes) some indices take, and where their shape goes."""

    axes: tuple[int, ...]
    order: tuple[int, ...]  # the indexed axes first
    flat: Node
    index_shape: Shape
    at: int  # where the index's shape stands in the result


def plan(x: Node, places: dict[int, Node]) -> Plan:
    axes = tuple(sorted(places))
    rest = tuple(d for d in range(x.ndim) if d not in axes)
    try:
        index_shape = broadcast_shapes(*(places[d].shape for d in axes))
    except ShapeError:
        shapes = ", ".join(str(list(places[d].shape)) for d in axes)
        raise DimError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
        ) from None
    flat: Any = None
    for d in axes:
        i = m.expand(e.cast(wrapped(places[d], x.shape[d]), int64), index_shape)
        flat = i if flat is None else flat * x.shape[d] + checked_at_run(i, x.shape[d])
    side_by_side = axes == tuple(range(axes[0], axes[0] + len(axes)))
    return Plan(axes, (*axes, *rest), flat, index_shape, axes[0] if side_by_side else 0)


def checked_at_run(i: Node, n: Any) -> Node:
    """The index itself, by way of a gather that fails when it is out of range."""
    return ix.gather(f.arange(0, n), i)


def rows_of(x: Node, p: Plan) -> Node:
    count = product(x.shape[d] for d in p.axes)  # type: ignore[arg-type]
    return m.reshape(m.permute(x, p.order), (count, *(x.shape[d] for d in p.order[len(p.axes) :])))


def result_order(ndim: int, p: Plan, inverse: bool = False) -> tuple[int, ...]:
    """(index..., rest...) -> the rest's axes before p.at, the index's, the others."""
    k = len(p.index_shape)
    forward = (*range(k, k + p.at), *range(k), *range(k + p.at, ndim))
    return m.inverse(forward) if inverse else forward


def take(x: Node, places: dict[int, Node]) -> Node:
    """x at some indices on some axes."""
    p = plan(x, places)
    y = ix.gather(rows_of(x, p), p.flat)
    return m.permute(y, result_order(y.ndim, p))


def put(x: Node, places: dict[int, Node], value: Any, accumulate: bool = False) -> Node:
    """x with the entries at some indices replaced (or added to)."""
    p = plan(x, places)
    rows = rows_of(x, p)
    rest = rows.shape[1:]
    shape = (*rest[: p.at], *p.index_shape, *rest[p.at :])
    v = e.cast(value, x.dtype) if isinstance(value, Node) else constant(value, x.dtype)
    v = m.reshape(v, v.shape[max(v.ndim - len(shape), 0) :])
    v = m.permute(m.expand(v, shape), result_order(len(shape), p, inverse=True))
    new = placed(rows, v, p.flat, 0, accumulate)
    wide = m.reshape(new, tuple(x.shape[d] for d in p.order))
    return m.permute(wide, m.inverse(p.order))


def placed(x: Node, v: Node, index: Node, batch: int, accumulate: bool) -> Node:
    """x with v at an index of its axis `batch`; where an index repeats, the last one stays (unless they add up)."""
    if accumulate:
        return e.cast(ix.scatter_onto(numeric(x), numeric(v), index, batch), x.dtype)
    return ix.scatter_set(x, v, index, batch)


def numeric(x: Node) -> Node:
    return e.cast(x, int64) if x.dtype is bool_ else x


indexed = lift("index", take)


def getitem(self: Tensor, given: Any) -> Tensor:
    """x[...]: a view for numbers, slices, None and ...; a copy for tensors of indices and masks."""
    index = parse(self, given)
    return indexed(index.part, {}) if False else (taken(index) if index.places else index.part)


def taken(index: Index) -> Tensor:
    axes = list(index.places)
    return lift("index", lambda x, *i: take(x, dict(zip(axes, i, strict=True))))(index.part, *index.places.values())


def setitem(self: Tensor, given: Any, value: Any) -> None:
    """x[...] = y"""
    if is_mask(given) and tuple(given._shape) == tuple(self._shape) and not (isinstance(value, Tensor) and value.ndim):
        self.copy_(FUNCTIONS["masked_fill"](alias(self), given.bool(), value))
        return
    index = parse(self, given)
    if not index.places:
        index.part.copy_(value if isinstance(value, Tensor) else tensor(value, dtype=self.dtype))
        return
    axes = list(index.places)
    value = value if isinstance(value, Tensor | int | float) else as_tensor(value)
    new = lift("index_put", lambda x, v, *i: put(x, dict(zip(axes, i, strict=True)), v))(
        index.part, value, *index.places.values()
    )
    index.part.copy_(new)


def index_put(self: Tensor, indices: Sequence[Tensor], values: Any, accumulate: bool = False) -> Tensor:
    axes = list(range(len(indices)))
    return lift("index_put", lambda x, v, *i: put(x, dict(zip(axes, i, strict=True)), v, accumulate))(
        self, values, *indices
    )


# ------------------------------------------------------------------------------------------ one index per element


def needs_long(index: Node, name: str) -> None:
    if not index.dtype.is_integer or index.dtype is uint8:
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")


def gather(input: Node, dim: int, index: Node, *, sparse_grad: bool = False) -> Node:
    """y[i, j] = x[index[i, j], j] for dim 0, and alike for others"""
    needs_long(index, "gather")
    if input.ndim != index.ndim:
        raise SizeError("Index tensor must have the same number of dimensions as input tensor")
    return ix.take_along(input, index, normal_dim(dim, input.ndim))


def take_along_dim(input: Node, indices: Node, dim: int | None = None) -> Node:
    """As gather, with axes that broadcast."""
    if dim is None:
        return ix.gather(m.reshape(input, (-1,)), m.reshape(indices, (-1,)))
    d = normal_dim(dim, input.ndim)
    shape = broadcast_shapes(*(tuple(1 if a == d else n for a, n in enumerate(x.shape)) for x in (input, indices)))
    wide = [m.expand(x, tuple(x.shape[d] if a == d else n for a, n in enumerate(shape))) for x in (input, indices)]
    return ix.take_along(wide[0], wide[1], d)


def index_select(input: Node, dim: int, index: Node) -> Node:
    """The entries along an axis at the places of a vector of indices."""
    needs_long(index, "index_select")
    return ix.gather_axis(input, m.reshape(index, (-1,)), normal_dim(dim, input.ndim))


def scattered(accumulate: bool) -> Any:
    def scatter(
        input: Node, dim: int, index: Node, src: Any = None, *, value: Any = None, reduce: str | None = None
    ) -> Node:
        needs_long(index, "scatter")
        d = normal_dim(dim, input.ndim)
        given = value if src is None else src
        v = m.slice_(given, (0,) * index.ndim, index.shape) if isinstance(given, Node) and given.ndim else f.full(index.shape, given, input.dtype)  # fmt: skip
        return along(input, d, index, e.cast(v, input.dtype), accumulate or reduce == "add")

    return scatter


def along(x: Node, d: int, index: Node, v: Node, accumulate: bool) -> Node:
    """x with v written (or added) at one index per element along an axis."""
    last = (*(a for a in range(x.ndim) if a != d), d)
    x, index, v = (m.permute(y, last) for y in (x, index, v))
    lead = tuple(index.shape[:-1])
    inside = m.slice_(x, (0,) * x.ndim, (*lead, x.shape[-1]))
    new = placed(inside, v, index, x.ndim - 1, accumulate)
    if lead != tuple(x.shape[:-1]):
        high = tuple(a - b for a, b in zip(x.shape, new.shape, strict=True))
        mask = m.pad(f.full(new.shape, True, bool_), (0,) * x.ndim, high, value=False)
        new = e.where(mask, m.pad(new, (0,) * x.ndim, high), x)
    return m.permute(new, m.inverse(last))


def index_add(input: Node, dim: int, index: Node, source: Node, *, alpha: Any = 1) -> Node:
    """input with alpha source added at the places of a vector of indices."""
    return put_axis(input, dim, index, source if alpha == 1 else source * alpha, True)


def put_axis(x: Node, dim: int, index: Node, v: Any, accumulate: bool) -> Node:
    d = normal_dim(dim, x.ndim)
    lead, count = x.shape[:d], index.shape[0]
    v = v if isinstance(v, Node) and v.ndim else f.full((*lead, count, *x.shape[d + 1 :]), v, x.dtype)
    return placed(x, e.cast(v, x.dtype), m.expand(index, (*lead, count)), d, accumulate)


# ------------------------------------------------------------------------------------------ what data alone can tell


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Where the elements are not zero: (count, ndim), or one vector an axis. How many there are is found out when the rest is
    computed, or when somebody asks."""
    if not input.ndim:
        found = np.nonzero(input.detach()._array().reshape(1))[0]
        return (from_numpy(found),) if as_tuple else from_numpy(np.zeros((len(found), 0), np.int64))
    if State.tracing:  # what is traced is cut here
        at = np.nonzero(input.detach()._array())
        return tuple(map(from_numpy, at)) if as_tuple else from_numpy(np.ascontiguousarray(np.stack(at, 1)))
    columns = tuple(found_places(input.detach()))
    return columns if as_tuple else FUNCTIONS["stack"](columns, 1)


def places(x: Node) -> list[Node]:
    """The places of the elements that are not zero, one vector an axis."""
    found = ix.find(x if x.dtype is bool_ else e.not_equal(*e.broadcast(x, 0)))
    at: list[Node] = []
    for n in reversed(x.shape):
        at, found = [e.mod(found, n), *at], e.floordiv(found, n)  # type: ignore[operator]
    return at


found_places = lift("nonzero", places)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector. Looks at the mask."""
    shape = broadcast_shapes(input._shape, mask._shape)
    return input.expand(shape)[mask.expand(shape)]


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct values in ascending order. Looks at the value."""
    a = input.detach()._array()
    wide = (
        a.astype(np.float32) if input._storage.node.dtype.is_low else a
    )  # numpy sorts no NaN of a type that is not its own
    values, inverse, counts = np.unique(wide, return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
    values = values.astype(a.dtype)
    shape = input._shape if dim is None else (-1,)
    parts = [from_numpy(values), from_numpy(inverse.reshape(shape)), from_numpy(counts)]
    chosen = [p for p, wanted in zip(parts, (True, return_inverse, return_counts), strict=True) if wanted]
    return chosen[0] if len(chosen) == 1 else tuple(chosen)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each whole number occurs. Looks at the value."""
    w = None if weights is None else weights.detach()._array()
    return from_numpy(np.bincount(input.detach()._array(), w, minlength))


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """input where the condition holds, other elsewhere; with the condition alone, where it holds."""
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    return choose(condition, input, other)


choose = FUNCTIONS["where"]

# fmt: off
ROWS: dict[str, Any] = {
    "gather": gather, "take_along_dim": take_along_dim, "index_select": index_select, "scatter": scattered(False), "scatter_add": scattered(True),
    "index_add": index_add, "index_copy": lambda input, dim, index, source: put_axis(input, dim, index, source, False),
    "index_fill": lambda input, dim, index, value: put_axis(input, dim, index, value, False),
    "take": lambda input, index: ix.gather(m.reshape(input, (-1,)), index),
}
TENSORS: dict[str, Any] = {"nonzero": nonzero, "argwhere": nonzero, "masked_select": masked_select, "unique": unique, "bincount": bincount, "index_put": index_put}
# fmt: on
install(ROWS, in_place="scatter scatter_add index_add index_copy index_fill")
install_tensor(TENSORS)
FUNCTIONS["where"] = where
Tensor.where = lambda self, condition, other: choose(condition, self, other)
Tensor.index_put_ = lambda self, indices, values, accumulate=False: self.copy_(
    index_put(alias(self), indices, values, accumulate)
)
Tensor.masked_scatter = lambda self, mask, source: index_put(self, mask_places(mask.expand(self._shape), self._shape), source.reshape(-1)[: int(mask.expand(self._shape).sum())])  # fmt: skip
Tensor.__getitem__ = of_known_sizes(getitem)
Tensor.__setitem__ = of_known_sizes(setitem)
