"""Tensor: what a user holds. A view of a storage, and what autograd knows about it.

    tensor := storage, view?, requires_grad, grad

An op on tensors makes a node at once (so an error is on the user's line) and computes nothing; looking at a value does.
The functions and most methods come from tables: see install in functions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyflow.core.dtypes import DType
from tinyflow.core.expr import is_found
from tinyflow.graph.node import Node, Shape
from tinyflow.ops.elementwise import cast, stop_gradient
from tinyflow.ops.movement import expand
from tinyflow.torch import dtypes
from tinyflow.torch import view as views
from tinyflow.torch.dtypes import CPU, FACE, LEGACY, Size
from tinyflow.torch.errors import INPLACE_LEAF, INPLACE_VIEW_OF_LEAF, NOT_SCALAR, NUMPY_NEEDS_DETACH
from tinyflow.torch.leaves import CUT, STORE, leaf_for
from tinyflow.torch.modes import MODE
from tinyflow.torch.storage import LEAVES, OPEN, RETAINED, State, Storage, bound, settle_sizes
from tinyflow.torch.view import View


class GradFn:
    """What made a tensor that has a gradient history."""

    def __init__(self, name: str, node: Node) -> None:
        self._name, self.node = name, node

    def name(self) -> str:
        return self._name

    @property
    def next_functions(self) -> tuple[Any, ...]:
        return ()

    def __repr__(self) -> str:
        return f"<{self._name} object at {id(self):#x}>"


class Tensor:
    """An array that operations are recorded on. Made by tensor(...), zeros(...) and the like."""

    __slots__ = ("__dict__", "__weakref__", "_base", "_detached", "_fn", "_grad", "_hooks", "_retains", "_seen", "_shape", "_storage", "_view")  # fmt: skip
    __array_priority__ = 1000

    _storage: Storage
    _shape: Shape
    _view: View | None
    _detached: bool  # shares a storage whose history is not its own
    _fn: str | None  # the name shown as grad_fn
    _grad: Tensor | None
    _retains: bool
    _hooks: dict[int, Callable[..., Any]] | None
    _base: Node | None  # the storage's node that `_seen` was read from
    _seen: Node | None

    if TYPE_CHECKING:  # methods that come from tables

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        from tinyflow.torch.creation import legacy_tensor

        return legacy_tensor(*args, **kwargs)

    # -------------------------------------------------------------------------------- the node

    @property
    def node(self) -> Node:
        """The node that stands for this tensor in what is recorded now."""
        return use(self)

    @staticmethod
    def from_node(node: Node, requires_grad: bool = False) -> Tensor:
        """A tensor whose value is a node's; with requires_grad, gradients flow through the node to the leaves below it."""
        return fresh(node, requires_grad, not requires_grad)

    @property
    def shape(self) -> Size:
        return Size(sized(self))

    @property
    def dtype(self) -> dtypes.dtype:
        return FACE[self._storage.node.dtype]

    @property
    def ndim(self) -> int:
        return len(self._shape)

    # -------------------------------------------------------------------------------- autograd's part

    @property
    def requires_grad(self) -> bool:
        return self._storage.attached and not self._detached

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        require_grad(self, value)

    @property
    def is_leaf(self) -> bool:
        return not self.requires_grad or (self._storage.grad_leaf and self._view is None)

    @property
    def grad_fn(self) -> GradFn | None:
        return None if self.is_leaf else GradFn(self._fn or "ViewBackward0", self.node)

    @property
    def grad(self) -> Tensor | None:
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and tuple(value._shape) != tuple(self._shape):
            raise RuntimeError(
                f"assigned grad has data of a different size: {list(value._shape)} for {list(self._shape)}"
            )
        self._grad = value

    @property
    def data(self) -> Tensor:
        return alias(self, detached=True)

    @data.setter
    def data(self, value: Tensor) -> None:
        if self._view is None and value._shape == self._shape and value._storage.node.dtype is self._storage.node.dtype:
            assign(alias(self, detached=True), value)
            return
        keeps = self._storage.grad_leaf and not self._detached
        self._storage, self._view, self._shape = Storage(use(value), False, True), None, value._shape
        self._detached, self._base = False, None
        if keeps:
            require_grad(self, True)

    # -------------------------------------------------------------------------------- looking at the value

    def _array(self) -> np.ndarray:
        """The value, computed now; the memory is the storage's own."""
        s = self._storage
        array = s.look()
        if self._view is None:
            return array
        at = views.layout(self._view, s.node.shape)
        if array.size == 0 or views.numel(at.shape) == 0:
            return np.empty(at.shape, array.dtype)
        flat = array.reshape(-1)[at.offset :]
        return np.lib.stride_tricks.as_strided(flat, at.shape, tuple(n * array.itemsize for n in at.strides))

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The value as an array that shares this tensor's memory."""
        if self.requires_grad and not force:
            raise RuntimeError(NUMPY_NEEDS_DETACH)
        if self._storage.node.dtype.name == "bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16; numpy has no such type: say x.float().numpy()")
        self._storage.share()
        return self._array().view()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return array if dtype is None and not copy else np.array(array, dtype)

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.numel() != 1:
            raise RuntimeError(NOT_SCALAR.format(self.numel()))
        found = self._array().item()
        return float(found) if self._storage.node.dtype.is_low else found

    def tolist(self) -> Any:
        low = self._storage.node.dtype.is_low
        return (self._array().astype(np.float32) if low else self._array()).tolist()

    def __bool__(self) -> bool:
        if self.numel() > 1:
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        if self.numel() == 0:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._storage.node.dtype.is_floating:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        from tinyflow.torch.printing import tensor_text

        return tensor_text(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 and spec else format(str(self), spec)

    # -------------------------------------------------------------------------------- Python's protocols

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of a 0-d tensor")
        return sized(self)[0]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Tensor]:
        if not self._shape:
            raise TypeError("iteration over a 0-d tensor")
        sized(self)
        return iter(self.unbind(0))

    def __contains__(self, element: Any) -> bool:
        return bool((self == element).any())

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment"
            )
        if id(self) not in memo:
            memo[id(self)] = copied(self)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        from tinyflow.torch.creation import rebuilt

        return rebuilt, (type(self), np.array(self._array()), self.requires_grad)

    # -------------------------------------------------------------------------------- facts

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else sized(self)[dim]

    def dim(self) -> int:
        return len(self._shape)

    ndimension = dim

    def numel(self) -> int:
        return views.numel(sized(self))

    nelement = numel

    def stride(self, dim: int | None = None) -> Any:
        sized(self)
        strides = views.layout(self._view, self._storage.node.shape).strides
        return strides if dim is None else strides[dim]

    def storage_offset(self) -> int:
        return views.layout(self._view, self._storage.node.shape).offset

    def is_contiguous(self, memory_format: Any = None) -> bool:
        return self._view is None or views.is_dense(views.layout(self._view, self._storage.node.shape))

    def data_ptr(self) -> int:
        self._storage.show()
        return self._array().ctypes.data

    def element_size(self) -> int:
        return self._storage.node.dtype.size

    def is_floating_point(self) -> bool:
        return self._storage.node.dtype.is_floating

    def is_complex(self) -> bool:
        return False

    def get_device(self) -> int:
        return -1

    device = property(lambda self: CPU)
    itemsize = property(lambda self: self._storage.node.dtype.size)
    nbytes = property(lambda self: self.numel() * self._storage.node.dtype.size)
    is_cuda = property(lambda self: False)
    is_sparse = property(lambda self: False)
    is_quantized = property(lambda self: False)
    is_meta = property(lambda self: False)
    layout = property(lambda self: "torch.strided")
    retains_grad = property(lambda self: self._retains)
    _version = property(lambda self: self._storage.version)
    output_nr = property(lambda self: 0)

    def type(self, dtype: Any = None) -> Any:
        if dtype is None:
            return f"torch.{LEGACY[self._storage.node.dtype]}Tensor"
        return self.to(getattr(dtype, "dtype", dtype))

    # -------------------------------------------------------------------------------- history

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        require_grad(self, requires_grad)
        return self

    def detach(self) -> Tensor:
        """The same memory, without the history."""
        return alias(self, detached=True)

    def detach_(self) -> Tensor:
        self._detached = True
        return self

    def retain_grad(self) -> None:
        """Keep the gradient of this tensor too, though it is no leaf."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        self._retains = True
        if not self.is_leaf:
            RETAINED[use(self)] = self

    def share_memory_(self) -> Tensor:
        return self

    def is_shared(self) -> bool:
        return False

    def pin_memory(self) -> Tensor:
        return self

    def untyped_storage(self) -> Storage:
        return self._storage


# ------------------------------------------------------------------------------------------ making tensors


def fresh(node: Node, attached: bool = False, taint: bool = False, fn: str | None = None) -> Tensor:
    """The tensor of a node just recorded."""
    return over(Storage(node, attached, taint), node.shape, fn)


def over(storage: Storage, shape: Shape, fn: str | None = None, cls: type[Tensor] = Tensor) -> Tensor:
    """A tensor that is the whole of a storage."""
    t = object.__new__(cls)
    t._storage, t._shape, t._fn = storage, shape, fn
    t._view = t._grad = t._base = t._hooks = None
    t._detached = t._retains = False
    for d in shape:
        if type(d) is not int and is_found(d):
            OPEN[id(t)] = t
    return t


def sized(t: Tensor) -> Shape:
    """The shape in numbers; what data tells of it is found out now."""
    if OPEN and id(t) in OPEN:
        settle_sizes()
    return t._shape


def from_array(array: np.ndarray, shared: bool = False) -> Tensor:
    """A tensor that lives in this very array (dense, of a type that tinyflow computes with)."""
    return over(bound(array, shared), array.shape)


def alias(t: Tensor, detached: bool = False) -> Tensor:
    """The same view of the same storage."""
    new = over(t._storage, t._shape, t._fn)
    new._view, new._detached = t._view, detached or t._detached
    return new


def viewed(t: Tensor, kind: str, args: tuple[Any, ...], fn: str) -> Tensor:
    """A view of a tensor's view; its node is made at once, so that a shape that does not fit is an error here."""
    view = View(t._view, kind, args)
    base = t._storage.value()
    node = views.KINDS[kind].read(base if t._view is None else read_through(t, base), *args)
    new = over(t._storage, node.shape, fn)
    new._view, new._base, new._seen = view, base, node
    new._detached = t._detached or not MODE.grad
    return new


def copied(t: Tensor) -> Tensor:
    """A leaf of its own, with the same value, class and attributes."""
    new = over(Storage(use(t), False, True), t._shape, None, type(t))
    if t.requires_grad:
        require_grad(new, True)
    for name, value in getattr(t, "__dict__", {}).items():
        setattr(new, name, value)
    if t._grad is not None:
        new._grad = copied(t._grad)
    return new


# ------------------------------------------------------------------------------------------ using tensors


def use(t: Tensor) -> Node:
    """The node that an op on this tensor takes now.

    Where gradients are recorded, a tensor with history is read through its history, and gradients are stopped at one
    without whose node would lead to leaves that require them.
    """
    s = t._storage
    if not MODE.grad:
        base = s.node if s.pending else s.leaf
        return base if t._view is None else read_through(t, base)  # type: ignore[arg-type]
    if s.attached and not t._detached:
        if (
            s.grad_leaf and s.pending
        ):  # the leaf has a new value on the way: compute it, so that the leaf stays the leaf
            s.look()
        base = s.leaf if s.grad_leaf else s.node
        return base if t._view is None else read_through(t, base)  # type: ignore[arg-type]
    base = s.node if s.pending else s.leaf
    node = base if t._view is None else read_through(t, base)  # type: ignore[arg-type]
    if s.grad_leaf or (s.pending and (s.taint or s.attached)):
        return stop_gradient(node)
    return node


def read_through(t: Tensor, base: Node) -> Node:
    """The view's node, remembered as long as the storage's stays."""
    if t._base is not base:
        t._base, t._seen = base, views.read(t._view, base)  # type: ignore[arg-type]
    return t._seen  # type: ignore[return-value]


def assign(
    t: Tensor, value: Tensor | Node, attached: bool = False, taint: bool = False, fn: str | None = None
) -> Tensor:
    """In place: t gets a new value, and so do all that share its memory."""
    s = t._storage
    if s.grad_leaf and not t._detached and MODE.grad:
        raise RuntimeError(INPLACE_LEAF if t._view is None else INPLACE_VIEW_OF_LEAF)
    if isinstance(value, Tensor):
        attached = MODE.grad and value.requires_grad
        taint = value._storage.taint or value._storage.attached
        value = use(value)
    want = s.node.dtype
    node = value if value.dtype is want else cast(value, want)
    if node.shape != t._shape:
        node = expand(node, t._shape)
    if t._view is not None:
        node = views.write(t._view, s.node if s.attached and not s.grad_leaf else s.value(), node)
    if s.attached and not s.grad_leaf and (t._detached or not MODE.grad):  # the value changes, the history does not
        from tinyflow.torch.custom import straight_through

        if State.tracing:
            raise RuntimeError("a value changes behind its history; no trace can say that")
        node = straight_through(node, s.node)
    s.update(node, attached and not t._detached, taint)
    if fn is not None:
        t._fn = fn
    return t


def require_grad(t: Tensor, wanted: bool) -> None:
    """Make a tensor a leaf that requires gradients, or stop it being one."""
    s = t._storage
    if not wanted:
        if not t.is_leaf:
            raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach().")  # fmt: skip
        if t.requires_grad:
            LEAVES.pop(s.leaf, None)
            s.attached = s.grad_leaf = False
        return
    if t.requires_grad:
        return
    if not s.node.dtype.is_floating:
        raise RuntimeError("only Tensors of floating point dtype can require gradients")
    if (
        t._view is not None or t._detached or s.attached
    ):  # it shares memory with tensors that have no part in its gradients
        own_leaf(t)
        s = t._storage
    if s.leaf is None:
        s.leaf = leaf_for(s.node.dtype, s.node.shape, s.home)
    else:
        taint_readers(s)
    s.attached = s.grad_leaf = True
    LEAVES[s.leaf] = t


def own_leaf(t: Tensor) -> None:
    """A storage of its own over the same memory (a copy, if the tensor's elements do not lie dense in it)."""
    if dense := t._array().flags.c_contiguous:
        t._storage.share()
    array = t._array()
    t._storage = bound(array if dense else array.copy(), dense)
    t._view, t._detached, t._base = None, False, None


def taint_readers(s: Storage) -> None:
    """What was computed of a value before it required gradients has no part in them."""
    from tinyflow.graph.node import toposort
    from tinyflow.passes.gradient import dependents

    others = [o for o in s.registry.unsettled() if o.pending and not o.attached]
    if others and s.leaf is not None:
        found = dependents(toposort([o.node for o in others]), [s.leaf])
        for o in others:
            o.taint = o.taint or o.node in found


def dtype_of(t: Tensor) -> DType:
    return t._storage.node.dtype


__all__ = ["CUT", "RETAINED", "STORE", "GradFn", "Tensor", "alias", "assign", "copied", "fresh", "from_array", "over", "require_grad", "use", "viewed"]  # fmt: skip
