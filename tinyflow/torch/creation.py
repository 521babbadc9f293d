"""Tensors out of nothing, out of numbers, and out of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType, bool_, int64
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node, Shape
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.leaf import constant, iota
from tinyflow.torch.dtypes import Defaults, Size, check_device, core_of
from tinyflow.torch.functions import FUNCTIONS
from tinyflow.torch.pointwise import number_type, result_type
from tinyflow.torch.storage import Storage
from tinyflow.torch.tensor import Tensor, fresh, from_array, over, require_grad, use

# ------------------------------------------------------------------------------------------ from data


def array_of(data: Any, dtype: Any = None) -> np.ndarray:
    """A new dense array of nested sequences, numbers, arrays and tensors, of the type that PyTorch would give it."""
    if isinstance(data, Tensor):
        array = np.array(data.detach()._array())
    elif isinstance(data, np.ndarray | np.generic):
        array = np.array(data)
    else:
        plain = plain_data(data)
        array = rectangular(plain)
        if not isinstance(data, np.ndarray) and dtype is None and array.dtype.kind in "fiub":
            array = array.astype(literal_type(plain, array).numpy)
    if dtype is None:
        dtype = NARROW.get(array.dtype.name, array.dtype)
    return np.ascontiguousarray(array, core_of(dtype).numpy).reshape(array.shape)


NARROW = {
    "float16": "float32",
    "int8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}


def plain_data(data: Any) -> Any:
    """Nested sequences with their tensors as arrays."""
    if isinstance(data, list | tuple):
        return [plain_data(x) for x in data]
    return np.array(data.detach()._array()) if isinstance(data, Tensor) else data


def rectangular(data: Any) -> np.ndarray:
    try:
        array = np.array(data)
    except ValueError as e:
        raise ValueError(f"expected sequences of equal length at every depth: {e}") from None
    if array.dtype == object or array.dtype.kind in "USc":
        raise TypeError(f"a tensor is made of numbers; could not infer one from {str(data)[:60]}")
    return array


def literal_type(data: Any, array: np.ndarray) -> DType:
    """Python numbers give bool, int64 and the default float; arrays among them keep their type."""
    if array.size and not isinstance(first(data), np.ndarray | np.generic):
        return {"b": bool_, "f": Defaults.dtype}.get(array.dtype.kind, int64)
    return (
        core_of(NARROW.get(array.dtype.name, array.dtype)) if array.size and array.dtype.kind != "V" else Defaults.dtype
    )


def first(data: Any) -> Any:
    while isinstance(data, list) and data:
        data = data[0]
    return data


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor with a copy of the data: numbers, nested sequences of them, or an array."""
    check_device(device)
    t = from_array(array_of(data, dtype))
    if requires_grad:
        require_grad(t, True)
    return t


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """The data as a tensor, sharing its memory where that is possible."""
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if (
        isinstance(data, np.ndarray)
        and data.dtype.name in SHAREABLE
        and (dtype is None or core_of(dtype).numpy == data.dtype)
    ):
        return from_numpy(data)
    return tensor(data, dtype=dtype)


SHAREABLE = ("float32", "float64", "int32", "int64", "uint8", "bool", "float16", "bfloat16")


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory: a change of one is seen in the other, once what is pending has been computed.

    An array whose elements do not lie dense in any order of its axes is copied.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    if array.dtype.name not in SHAREABLE:
        raise TypeError(
            f"can't convert np.ndarray of type {array.dtype}. The supported types are: {', '.join(SHAREABLE)}"
        )
    if array.flags.c_contiguous and array.dtype.isnative:
        return from_array(array.view(np.ndarray), shared=True)
    order = sorted(range(array.ndim), key=lambda d: -array.strides[d])
    turned = array.transpose(order)
    if turned.flags.c_contiguous and array.dtype.isnative:
        return FUNCTIONS["permute"](from_array(turned, shared=True), [order.index(d) for d in range(array.ndim)])
    return from_array(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def legacy_tensor(*args: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """torch.Tensor(2, 3) is uninitialised (here: zeros), torch.Tensor([1, 2]) holds the data, as the default float."""
    d = Defaults.dtype if dtype is None else core_of(dtype)
    if not args:
        return from_array(np.zeros((0,), d.numpy))
    if len(args) == 1 and isinstance(args[0], Tensor):
        return args[0].detach()
    if len(args) == 1 and not isinstance(args[0], int) and not isinstance(args[0], Size):
        return tensor(args[0], dtype=d)
    return empty(*args, dtype=d)


def legacy_class(d: DType) -> Callable[..., Tensor]:
    """torch.FloatTensor and its kind."""
    call = lambda *args: legacy_tensor(*args, dtype=d)
    call.dtype = d
    return call


def rebuilt(cls: type[Tensor], array: np.ndarray, requires_grad: bool) -> Tensor:
    """What copying and pickling make a tensor of."""
    t = over(from_array(array)._storage, array.shape, None, cls)
    if requires_grad:
        require_grad(t, True)
    return t


# ------------------------------------------------------------------------------------------ filling


def sizes(given: Sequence[Any]) -> Shape:
    """(2, 3), ((2, 3),) and ([2, 3],) all say the shape (2, 3)."""
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = given[0]
    shape = tuple(n if isinstance(n, Expr) else int(n) for n in given)
    if any(not isinstance(n, Expr) and n < 0 for n in shape):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    return shape


def made(node: Node, requires_grad: bool, device: Any = None, out: Tensor | None = None) -> Tensor:
    check_device(device)
    t = fresh(node)
    if requires_grad:
        require_grad(t, True)
    return t if out is None else out.copy_(t)  # type: ignore[attr-defined, no-any-return]


def filler(value: Any, doc: str) -> Callable[..., Tensor]:
    def fill(
        *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, out: Any = None, **layout: Any
    ) -> Tensor:
        shape = sizes((layout["size"],) if "size" in layout else size)
        kind = core_of(dtype) if dtype is not None else Defaults.dtype if out is None else out.dtype
        return made(f.full(shape, value, core_of(kind)), requires_grad, device, out)

    fill.__doc__ = doc
    return fill


zeros = filler(0, "A tensor of zeros.")
ones = filler(1, "A tensor of ones.")
empty = filler(0, "A tensor of a given shape. Its values are not to be relied upon (they are zeros).")


def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    out: Tensor | None = None, layout: Any = None, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor with one value everywhere."""
    if isinstance(fill_value, Tensor):
        node = e.cast(use(fill_value), core_of(dtype)) if dtype is not None else use(fill_value)
        return made(e.expand(node, sizes((size,))), requires_grad, device, out)
    d = number_type(fill_value) if dtype is None else core_of(dtype)
    return made(f.full(sizes((size,)), fill_value, d), requires_grad, device, out)


def like(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same, with shape and type of another tensor."""

    def call(input: Tensor, *args: Any, dtype: Any = None, memory_format: Any = None, **kwargs: Any) -> Tensor:
        return make(input._shape, *args, dtype=input.dtype if dtype is None else dtype, **kwargs)

    call.__doc__ = make.__doc__
    return call


zeros_like, ones_like, empty_like, full_like = like(zeros), like(ones), like(empty), like(full)


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, out: Any = None) -> Tensor:  # fmt: skip
    """start, start + step, ... below end"""
    start, end = (0, start) if end is None else (start, end)
    start, end, step = (x.item() if isinstance(x, Tensor | np.generic) else x for x in (start, end, step))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not isinstance(end, Expr) and not isinstance(start, Expr) and (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    whole = all(isinstance(x, int | Expr) for x in (start, end, step))
    d = (int64 if whole else Defaults.dtype) if dtype is None else core_of(dtype)
    if whole:
        return made(e.cast(f.arange(start, end, step, int64), d), requires_grad, device, out)
    count = math.ceil((end - start) / step)
    node = (
        iota(count, d) * constant(step, d) + constant(start, d)
        if d.is_floating
        else e.cast(iota(count, int64), d) * int(step) + int(start)
    )
    return made(node, requires_grad, device, out)


def torch_range(start: Any, end: Any, step: Any = 1, **kwargs: Any) -> Tensor:
    """start, start + step, ... up to end, which is included."""
    kwargs.setdefault("dtype", Defaults.dtype)
    return arange(start, end + step / 2, step, **kwargs)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """steps numbers from start to end, evenly spaced; counted from the nearer end, so that both ends are exact"""
    d = Defaults.dtype if dtype is None else core_of(dtype)
    start, end = float(start), float(end)
    if steps == 1:
        return full((1,), start, dtype=d, device=device, requires_grad=requires_grad)
    step = (end - start) / (steps - 1) if steps else 0.0
    i = iota(steps, int64)
    low = e.cast(i, d) * constant(step, d) + constant(start, d) if d.is_floating else None
    if low is None:
        return made(e.cast(use(linspace(start, end, steps, dtype=Defaults.dtype)), d), requires_grad, device)
    high = constant(end, d) - e.cast(steps - 1 - i, d) * constant(step, d)  # type: ignore[operator]
    return made(e.where(e.less(i, steps // 2), low, high), requires_grad, device)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal, zeros elsewhere."""
    shape = (n, n if m is None else m)
    hit = e.equal(f.position(shape, 0), f.position(shape, 1))
    return made(e.cast(hit, Defaults.dtype if dtype is None else core_of(dtype)), requires_grad, device)


# ------------------------------------------------------------------------------------------ new_*, clone, types


def new(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(self: Tensor, *args: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        return make(*args, dtype=self.dtype if dtype is None else dtype, **kwargs)

    return call


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy that gradients flow through."""
    return FUNCTIONS["copied"](input)


def fill_(self: Tensor, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return self.copy_(value)
    return self.copy_(fresh(constant(value, self._storage.node.dtype)))


def convert(self: Tensor, d: DType, copy: bool = False) -> Tensor:
    if self._storage.node.dtype is d:
        return clone(self) if copy else self
    return FUNCTIONS["cast"](self, d)


def to(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False, **_: Any) -> Tensor:
    """Another element type or device; the tensor itself if nothing changes."""
    for a in args:
        if isinstance(a, Tensor):
            dtype = a.dtype
        elif isinstance(a, str) or type(a).__name__ == "device":
            device = a
        elif a is not None and not isinstance(a, bool):
            dtype = a
    check_device(device)
    return convert(self, core_of(dtype), copy) if dtype is not None else clone(self) if copy else self


def result_dtype(*xs: Any) -> Any:
    from tinyflow.torch.dtypes import FACE

    return FACE[result_type(*(use(x) if isinstance(x, Tensor) else x for x in xs))]


def storage_of(t: Tensor) -> Storage:
    return t._storage


def converter(d: DType) -> Callable[..., Tensor]:
    return lambda self, memory_format=None: convert(self, d)


METHODS: dict[str, Any] = {
    "new_zeros": new(zeros), "new_ones": new(ones), "new_empty": new(empty), "new_full": new(full), "new_tensor": new(tensor), "new": new(legacy_tensor),
    "clone": clone, "fill_": fill_, "zero_": lambda self: fill_(self, 0), "to": to, "storage": storage_of,
    "type_as": lambda self, other: to(self, other), "cpu": lambda self, memory_format=None: self,
    "cuda": lambda self, *_, **__: check_device("cuda"),
}  # fmt: skip
TYPES = {
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "long": "int64",
    "bool": "bool",
    "byte": "uint8",
    "half": "float16",
    "bfloat16": "bfloat16",
}
for _name, _function in METHODS.items():
    setattr(Tensor, _name, _function)
for _name, _type in TYPES.items():
    setattr(Tensor, _name, converter(core_of(_type)))


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """self takes the values of src, stretched to its shape and cast to its type."""
    from tinyflow.torch.pointwise import broadcast_text
    from tinyflow.torch.tensor import assign

    src = src if isinstance(src, Tensor) else as_tensor(src)
    fits = len(src._shape) <= len(self._shape) and all(
        a == b or a == 1 for a, b in zip(src._shape[::-1], self._shape[::-1])
    )
    if not fits:
        raise RuntimeError(broadcast_text([self._shape, src._shape]))
    return assign(self, src, fn="CopyBackwards")


Tensor.copy_ = copy_
