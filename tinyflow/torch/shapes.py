"""Views and rearrangements. What PyTorch does without copying is a view here too: it shares its storage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tinyflow.core.expr import Expr, floordiv, product
from tinyflow.graph.node import Dim, Node, Shape
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import movement as m
from tinyflow.torch import view as views
from tinyflow.torch.errors import DimError, SizeError
from tinyflow.torch.functions import FUNCTIONS, install, install_tensor
from tinyflow.torch.pointwise import result_type
from tinyflow.torch.tensor import Tensor, viewed

# ------------------------------------------------------------------------------------------ reading arguments


def normal_dim(dim: int, ndim: int) -> int:
    """A dimension counted from the front; a scalar counts as of one dimension."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise DimError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


def listed(given: Sequence[Any]) -> tuple[Any, ...]:
    """f(1, 2), f((1, 2)) and f([1, 2]) say the same."""
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = given[0]
    return tuple(n if isinstance(n, int | Expr) else n.__index__() for n in given)


def full_shape(shape: Sequence[Any], have: Shape) -> Shape:
    """A shape whose -1 is computed."""
    shape = listed(shape)
    if any(isinstance(n, Expr) for n in (*shape, *have)):
        others = [n for n in shape if isinstance(n, Expr) or n != -1]
        return tuple(floordiv(product(have), product(others)) if isinstance(n, int) and n == -1 else n for n in shape)
    known, total = 1, views.numel(have)
    for n in shape:
        known *= n if n != -1 else 1
    bad = (
        shape.count(-1) > 1
        or any(n < -1 for n in shape)
        or (total % known if -1 in shape and known else total != known)
    )
    if shape.count(-1) > 1:
        raise SizeError("only one dimension can be inferred")
    if bad:
        raise SizeError(f"shape '{list(shape)}' is invalid for input of size {total}")
    if -1 in shape and not known:
        raise SizeError(f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 can be any value and is ambiguous")  # fmt: skip
    return tuple(total // known if n == -1 else n for n in shape)


# ------------------------------------------------------------------------------------------ views


def shown_as(t: Tensor, shape: Shape, fn: str) -> Tensor | None:
    """The tensor's elements in another shape, if that takes no copy."""
    if t._view is not None and not any(isinstance(n, Expr) for n in (*shape, *t._shape)):
        at = views.layout(t._view, t._storage.node.shape)
        if views.reshaped_strides(at, shape) is None:
            return None
    return viewed(t, "reshape", (shape,), fn)


def view(self: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; an error where that would take a copy."""
    if len(shape) == 1 and type(shape[0]).__name__ == "dtype":
        raise NotImplementedError(
            "view(dtype) reads the same bytes as another type, which tinyflow does not; use to(dtype)"
        )
    got = shown_as(self, full_shape(shape, self._shape), "ViewBackward0")
    if got is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous "
            "subspaces). Use .reshape(...) instead."
        )
    return got


def reshape(input: Tensor, *shape: Any, **named: Any) -> Tensor:
    """The same elements in another shape: a view if that takes no copy."""
    want = full_shape(shape or (named["shape"],), input._shape)
    got = shown_as(input, want, "ViewBackward0")
    return FUNCTIONS["reshaped"](input, want) if got is None else got


def permute(input: Tensor, *dims: Any, **named: Any) -> Tensor:
    """The axes in another order."""
    order = listed(dims or (named["dims"],))
    if len(order) != input.ndim:
        raise SizeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired ordering of dimensions i.e. input.dim() = {input.ndim} is not equal to len(dims) = {len(order)}".replace("(sparse_coo)", ""))  # fmt: skip
    axes = tuple(normal_dim(d, input.ndim) for d in order)
    if len(set(axes)) != len(axes):
        raise SizeError("permute(): duplicate dims are not allowed.")
    return viewed(input, "permute", (axes,), "PermuteBackward0")


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged."""
    a, b = normal_dim(dim0, input.ndim), normal_dim(dim1, input.ndim)
    order = list(range(input.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return viewed(input, "permute", (tuple(order),), "TransposeBackward0")


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or scalar as it is."""
    if input.ndim > 2:
        raise SizeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return viewed(input, "permute", (tuple(reversed(range(input.ndim))),), "TBackward0")


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Some axes moved to other places, the others in their order."""
    src = [normal_dim(d, input.ndim) for d in (source if isinstance(source, tuple | list) else (source,))]
    dst = [
        normal_dim(d, input.ndim) for d in (destination if isinstance(destination, tuple | list) else (destination,))
    ]
    rest = iter(d for d in range(input.ndim) if d not in src)
    return permute(input, *(src[dst.index(d)] if d in dst else next(rest) for d in range(input.ndim)))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without axes of size 1."""
    dims = (
        range(input.ndim)
        if dim is None
        else [normal_dim(d, input.ndim) for d in (dim if isinstance(dim, tuple | list) else (dim,))]
    )
    shape = tuple(n for d, n in enumerate(input._shape) if not (d in dims and n == 1))
    return viewed(input, "reshape", (shape,), "SqueezeBackward1" if dim is not None else "SqueezeBackward0")


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With an axis of size 1 put in."""
    d = normal_dim(dim, input.ndim + 1)
    return viewed(input, "reshape", ((*input._shape[:d], 1, *input._shape[d:]),), "UnsqueezeBackward0")


def expand(input: Tensor, *shape: Any) -> Tensor:
    """Axes of size 1 stretched, and axes added in front, without copying; -1 keeps a size."""
    want = listed(shape)
    lead = len(want) - input.ndim
    if lead < 0:
        raise SizeError(f"expand(torch.FloatTensor{{{list(input._shape)}}}, size={list(want)}): the number of sizes provided ({len(want)}) must be greater or equal to the number of dimensions in the tensor ({input.ndim})")  # fmt: skip
    have = (None,) * lead + tuple(input._shape)
    target = tuple(h if isinstance(n, int) and n == -1 else n for n, h in zip(want, have, strict=True))
    for d, (n, h) in enumerate(zip(target, have, strict=True)):
        if h is not None and isinstance(h, int) and isinstance(n, int) and h not in (1, n):
            raise SizeError(f"The expanded size of the tensor ({n}) must match the existing size ({h}) at non-singleton dimension {d}.  Target sizes: {list(want)}.  Tensor sizes: {list(input._shape)}")  # fmt: skip
    return viewed(input, "expand", (target,), "ExpandBackward0")


def sliced(input: Tensor, dim: int, start: Dim, length: Dim, step: int = 1) -> Tensor:
    """length elements from start along one axis."""
    begin = tuple(start if d == dim else 0 for d in range(input.ndim))
    size = tuple(length if d == dim else n for d, n in enumerate(input._shape))
    return viewed(
        input, "slice", (begin, size, tuple(step if d == dim else 1 for d in range(input.ndim))), "SliceBackward0"
    )


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """length elements from start along one axis."""
    d = normal_dim(dim, input.ndim)
    n = input._shape[d]
    start = start + n if start < 0 else start  # type: ignore[operator]
    if start + length > n:  # type: ignore[operator]
        raise SizeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return sliced(input, d, start, length)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One entry along an axis, without it."""
    if input.ndim == 0:
        raise DimError("select() cannot be applied to a 0-dim tensor.")
    d = normal_dim(dim, input.ndim)
    n = input._shape[d]
    if isinstance(n, int) and not -n <= index < n:
        raise DimError(f"select(): index {index} out of range for tensor of size {list(input._shape)} at dimension {d}")
    part = sliced(input, d, index % n if isinstance(n, int) else index, 1)
    return viewed(part, "reshape", (tuple(k for a, k in enumerate(part._shape) if a != d),), "SelectBackward0")


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The entries along an axis."""
    n = input._shape[normal_dim(dim, input.ndim)]
    return tuple(select(input, dim, i) for i in range(n))  # type: ignore[arg-type]


def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of a given size (the last may be less), or of given sizes, along an axis."""
    d = normal_dim(dim, input.ndim)
    n: Any = input._shape[d]
    k = split_size_or_sections
    if isinstance(k, int):
        if k <= 0 and n:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        sections = [min(k, n - i) for i in range(0, n, k)] if n else [0]
    else:
        sections = list(k)
        if sum(sections) != n:
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {d}), but got split_sizes={sections}")  # fmt: skip
    starts = [sum(sections[:i]) for i in range(len(sections))]
    return tuple(sliced(input, d, a, size) for a, size in zip(starts, sections, strict=True))


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size along an axis; the last may be less."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n: Any = input._shape[normal_dim(dim, input.ndim)]
    return split(input, max(-(-n // chunks), 1), dim)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Some axes made one."""
    a, b = normal_dim(start_dim, input.ndim), normal_dim(end_dim, input.ndim)
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if input.ndim == 0:
        return reshape(input, 1)
    return (
        input
        if a == b
        else reshape(input, (*input._shape[:a], product(input._shape[a : b + 1]), *input._shape[b + 1 :]))
    )


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One axis made several."""
    d = normal_dim(dim, input.ndim)
    return view(input, (*input._shape[:d], *full_shape((tuple(sizes),), (input._shape[d],)), *input._shape[d + 1 :]))


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements whose places on two axes differ by `offset`, along a new last axis."""
    a, b = normal_dim(dim1, input.ndim), normal_dim(dim2, input.ndim)
    moved = movedim(input, (a, b), (-2, -1))
    rows, columns = moved._shape[-2:]
    row, column = max(-offset, 0), max(offset, 0)
    length = max(min(rows - row, columns - column), 0)  # type: ignore[operator,type-var]
    if not length:
        return sliced(select(moved, -1, 0), moved.ndim - 2, 0, 0)
    flat = FUNCTIONS["reshape"](moved, (*moved._shape[:-2], rows * columns))  # type: ignore[operator]
    return sliced(flat, flat.ndim - 1, row * columns + column, length, columns + 1)  # type: ignore[operator,arg-type]


def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if its elements lie dense in row-major order, else a copy in which they do."""
    return self if self.is_contiguous() else FUNCTIONS["copied"](self)


def transposed_last(self: Tensor) -> Tensor:
    return transpose(self, -2, -1)


def reversed_axes(self: Tensor) -> Tensor:
    return permute(self, *reversed(range(self.ndim)))


def in_place_view(f: Any) -> Any:
    """A view that the tensor itself becomes."""

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        new = f(self, *args, **kwargs)
        self._view, self._shape, self._base = new._view, new._shape, None
        return self

    return call


# ------------------------------------------------------------------------------------------ functions of nodes


def cat(tensors: Sequence[Node], dim: int = 0) -> Node:
    """Tensors joined along an axis; empty vectors count for nothing."""
    xs = [x for x in tensors if x.shape != (0,)] or list(tensors)[:1]
    if not xs:
        raise RuntimeError("torch.cat(): expected a non-empty list of Tensors")
    d = normal_dim(dim, xs[0].ndim)
    for i, x in enumerate(xs):
        if x.ndim == 0:
            raise SizeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
        if x.ndim != xs[0].ndim:
            raise SizeError(f"Tensors must have same number of dimensions: got {xs[0].ndim} and {x.ndim}")
        for a, (p, q) in enumerate(zip(xs[0].shape, x.shape, strict=True)):
            if a != d and isinstance(p, int) and isinstance(q, int) and p != q:
                raise SizeError(f"Sizes of tensors must match except in dimension {d}. Expected size {p} but got size {q} for tensor number {i} in the list.")  # fmt: skip
    kind = result_type(*xs)
    return m.concat([e.cast(x, kind) for x in xs], d)


def stack(tensors: Sequence[Node], dim: int = 0) -> Node:
    """Tensors of one shape joined along a new axis."""
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    for i, x in enumerate(tensors):
        if tuple(x.shape) != tuple(tensors[0].shape):
            raise SizeError(f"stack expects each tensor to be equal size, but got {list(tensors[0].shape)} at entry 0 and {list(x.shape)} at entry {i}")  # fmt: skip
    kind = result_type(*tensors)
    return m.stack([e.cast(x, kind) for x in tensors], normal_dim(dim, tensors[0].ndim + 1))


def at_least(ndim: int) -> Any:
    def grow(x: Node) -> Node:
        return m.reshape(x, (1,) * (ndim - x.ndim) + tuple(x.shape)) if x.ndim < ndim else x

    return grow


def hstack(tensors: Sequence[Node]) -> Node:
    xs = [at_least(1)(x) for x in tensors]
    return cat(xs, 0 if xs[0].ndim == 1 else 1)


def repeat(input: Node, *repeats: Any) -> Node:
    """The tensor repeated along each axis, copied."""
    times = listed(repeats)
    if len(times) < input.ndim:
        raise SizeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    return f.tile(at_least(len(times))(input), times)


def tile(input: Node, *dims: Any) -> Node:
    times = listed(dims)
    return repeat(input, *((1,) * (input.ndim - len(times)) + times))


def repeat_interleave(input: Node, repeats: int, dim: int | None = None) -> Node:
    """Each entry along an axis repeated, one after the other."""
    if not isinstance(repeats, int):
        raise NotImplementedError(
            "repeat_interleave takes a whole number of repeats; a tensor of them makes a shape that only data can tell"
        )
    x = input if dim is not None else m.reshape(input, (-1,))
    d = normal_dim(0 if dim is None else dim, x.ndim)
    wide = m.expand(m.expand_dims(x, d + 1), (*x.shape[: d + 1], repeats, *x.shape[d + 1 :]))
    return m.reshape(wide, (*x.shape[:d], x.shape[d] * repeats, *x.shape[d + 1 :]))


def flip(input: Node, *dims: Any) -> Node:
    """The order along some axes reversed, copied."""
    return m.flip(input, [normal_dim(d, input.ndim) for d in listed(dims)])


def roll(input: Node, shifts: Any, dims: Any = None) -> Node:
    """Entries moved along an axis; those that leave at the end come in at the start."""
    if dims is None:
        return m.reshape(roll(m.reshape(input, (-1,)), shifts, 0), input.shape)
    moves = zip(
        listed((shifts,)) if not isinstance(shifts, int) else (shifts,),
        (dims,) if isinstance(dims, int) else dims,
        strict=True,
    )
    for shift, dim in moves:
        d = normal_dim(dim, input.ndim)
        n: Any = input.shape[d]
        k = shift % n if n else 0
        if k:
            a, b = f.split(input, (n - k, k), d)
            input = m.concat([b, a], d)
    return input


def triangle(lower: bool) -> Any:
    def keep(input: Node, diagonal: int = 0) -> Node:
        rows, columns = input.shape[-2:]
        inside = f.triangle(rows, columns, diagonal if lower else diagonal - 1)
        return e.where(inside, input, 0) if lower else e.where(inside, 0, input)

    keep.__doc__ = f"The {'lower' if lower else 'upper'} triangle of the last two axes, zeros elsewhere."
    return keep


def diag(input: Node, diagonal: int = 0) -> Node:
    """A matrix with the vector on a diagonal."""
    n: Any = input.shape[0]
    size = n + abs(diagonal)
    i, j = f.position((size, size), 0), f.position((size, size), 1)
    line = m.pad(input, (max(-diagonal, 0),), (max(diagonal, 0),))
    return e.where(e.equal(j - i, diagonal), m.expand(m.expand_dims(line, 1), (size, size)), 0)


def meshgrid(*tensors: Any, indexing: str = "ij") -> list[Node]:
    """Each vector stretched over the grid that they all span."""
    xs = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], tuple | list) else list(tensors)
    order = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        order[:2] = [1, 0]
    shape = tuple(m.reshape(xs[d], (-1,)).shape[0] for d in order)
    return [
        m.expand(m.reshape(x, tuple(-1 if order[a] == d else 1 for a in range(len(xs)))), shape)
        for d, x in enumerate(xs)
    ]


def one_hot(tensor: Node, num_classes: int = -1) -> Node:
    return f.one_hot(tensor, num_classes, tensor.dtype)


def copied(input: Node) -> Node:
    return input


# fmt: off
ROWS: dict[str, Any] = {
    "reshaped": m.reshape, "copied": copied, "cast": e.cast, "repeat": repeat, "tile": tile, "repeat_interleave": repeat_interleave, "flip": flip, "roll": roll,
    "fliplr": lambda input: flip(input, 1), "flipud": lambda input: flip(input, 0),
    "tril": triangle(True), "triu": triangle(False),
}
JOINS = {"cat": cat, "concat": cat, "concatenate": cat, "stack": stack, "hstack": hstack, "vstack": lambda tensors: cat([at_least(2)(x) for x in tensors]),
         "dstack": lambda tensors: cat([m.reshape(x, (*at_least(2)(x).shape, 1)) if x.ndim < 3 else x for x in tensors], 2), "meshgrid": meshgrid, "diag_vector": diag}
VIEWS: dict[str, Any] = {
    "reshape": reshape, "permute": permute, "transpose": transpose, "swapaxes": transpose, "swapdims": transpose, "t": t, "movedim": movedim, "moveaxis": movedim,
    "squeeze": squeeze, "unsqueeze": unsqueeze, "narrow": narrow, "select": select, "unbind": unbind, "split": split, "chunk": chunk, "flatten": flatten,
    "ravel": lambda input: reshape(input, -1), "unflatten": unflatten, "diagonal": diagonal, "diag": lambda input, diagonal=0: (
        FUNCTIONS["diag_vector"](input, diagonal) if input.ndim == 1 else FUNCTIONS["copied"](VIEWS["diagonal"](input, diagonal))),
    "tensor_split": lambda input, n, dim=0: split(input, even(input._shape[normal_dim(dim, input.ndim)], n), dim),
    "adjoint": transposed_last,
}
METHODS: dict[str, Any] = {
    "view": view, "expand": expand, "view_as": lambda self, other: view(self, other._shape), "reshape_as": lambda self, other: reshape(self, other._shape),
    "expand_as": lambda self, other: expand(self, other._shape), "contiguous": contiguous,
    "squeeze_": in_place_view(squeeze), "unsqueeze_": in_place_view(unsqueeze), "t_": in_place_view(t), "transpose_": in_place_view(transpose),
    "T": property(reversed_axes), "mT": property(transposed_last), "H": property(transposed_last), "mH": property(transposed_last),
}
# fmt: on


def even(n: Any, parts: Any) -> list[int]:
    """n cut into parts that differ by one at most, or at the given places."""
    if not isinstance(parts, int):
        places = [0, *parts, n]
        return [max(b - a, 0) for a, b in pairwise(places)]
    return [n // parts + (i < n % parts) for i in range(parts)]


install(ROWS, in_place="tril triu")
install(JOINS, methods=False)
install_tensor(VIEWS)
install_tensor({k: v for k, v in METHODS.items() if not isinstance(v, property)})
for _name in ("T", "mT", "H", "mH"):
    setattr(Tensor, _name, METHODS[_name])
