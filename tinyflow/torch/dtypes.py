"""Element types, devices and sizes, as PyTorch shows them: torch.float32, device(type='cpu'), torch.Size([2, 3])."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyflow.core import dtypes as core
from tinyflow.core.dtypes import DType, as_dtype


class dtype:
    """An element type as this face names it; `core` is the type of nodes that it stands for."""

    __slots__ = ("core", "name")

    def __init__(self, name: str, stands_for: DType) -> None:
        self.name, self.core = name, stands_for

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return {"bool": "bool_"}.get(self.name, self.name)

    is_floating_point = property(lambda self: self.core.is_floating)
    is_complex = property(lambda self: False)
    is_signed = property(lambda self: self.core.kind in "fi")
    itemsize = property(lambda self: self.core.size)


# fmt: off
float32 = dtype("float32", core.float32)
float64 = dtype("float64", core.float64)
int32   = dtype("int32",   core.int32)
int64   = dtype("int64",   core.int64)
uint8   = dtype("uint8",   core.uint8)
bool_   = dtype("bool",    core.bool_)
bfloat16 = dtype("bfloat16", core.bfloat16)
float16  = dtype("float16",  core.float16)
# fmt: on

FACE = {d.core: d for d in (float32, float64, int32, int64, uint8, bool_, bfloat16, float16)}
PYTHON = {float: core.float32, int: core.int64, bool: core.bool_}
LEGACY = {
    core.float32: "Float",
    core.float64: "Double",
    core.int32: "Int",
    core.int64: "Long",
    core.uint8: "Byte",
    core.bool_: "Bool",
    core.bfloat16: "BFloat16",
    core.float16: "Half",
}
CATEGORY = {
    core.bool_: 0,
    core.uint8: 1,
    core.int32: 1,
    core.int64: 1,
    core.float32: 2,
    core.float64: 2,
    core.bfloat16: 2,
    core.float16: 2,
}


class Defaults:
    """What may be set for the whole process."""

    dtype: DType = core.float32


def core_of(given: Any) -> DType:
    """The type of nodes that a torch dtype, a Python type or a numpy type stands for."""
    if isinstance(given, dtype):
        return given.core
    if given is float:
        return Defaults.dtype
    return PYTHON[given] if given in PYTHON else as_dtype(given)


def get_default_dtype() -> dtype:
    return FACE[Defaults.dtype]


def set_default_dtype(d: dtype) -> None:
    """The type that float literals get."""
    if not d.core.is_floating:
        raise TypeError(f"only floating-point types are supported as the default type, not {d}")
    Defaults.dtype = d.core


class Size(tuple[Any, ...]):
    """The shape of a tensor: a tuple that prints as torch.Size([2, 3])."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def numel(self) -> int:
        n = 1
        for d in self:
            n = n * d
        return n

    def __getitem__(self, i: Any) -> Any:
        got = tuple.__getitem__(self, i)
        return Size(got) if isinstance(i, slice) else got

    def __add__(self, other: Any) -> Any:
        return Size(tuple.__add__(self, tuple(other)))


class device:
    """Where a tensor lives: the CPU."""

    __slots__ = ("index", "type")

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        name = type.type if isinstance(type, device) else str(type)
        kind, _, number = name.partition(":")
        if kind not in ("cpu", "cuda", "mps", "meta"):
            raise RuntimeError(f"Expected one of cpu, cuda, mps, meta device type at start of device string: {kind}")
        self.type = kind
        self.index = int(number) if number else index

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + (f", index={self.index})" if self.index is not None else ")")

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))


CPU = device("cpu")


def check_device(given: Any) -> None:
    """Everything lives on the CPU; asking for another device is an error that says so."""
    if given is not None and device(given).type != "cpu":
        raise AssertionError(f"tinyflow computes on the CPU; there is no device {str(given)!r}. Use device='cpu'.")


class finfo:
    """The limits of a floating-point type."""

    def __init__(self, type: Any = None) -> None:
        d = Defaults.dtype if type is None else core_of(type)
        if not d.is_floating:
            raise TypeError(
                f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{FACE[d]}'"
            )
        f: Any = np.finfo(d.numpy) if d is not core.bfloat16 else bfloat16_limits()
        self.bits, self.dtype = int(f.bits), d.name
        self.eps, self.max, self.min = float(f.eps), float(f.max), float(f.min)
        self.tiny = self.smallest_normal = float(f.tiny)
        self.resolution = float(f.resolution)

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{n}={getattr(self, n):g}' for n in names)}, dtype={self.dtype})"


def bfloat16_limits() -> Any:
    from types import SimpleNamespace

    last = 2.0**-7
    least, most = 2.0**-126, 2.0**127 * (2 - last)
    return SimpleNamespace(bits=16, eps=last, max=most, min=-most, tiny=least, resolution=0.01)


class iinfo:
    """The limits of an integer type."""

    def __init__(self, type: Any) -> None:
        d = core_of(type)
        if not d.is_integer:
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{FACE[d]}'")
        i = np.iinfo(d.numpy)
        self.bits, self.min, self.max, self.dtype = int(i.bits), int(i.min), int(i.max), d.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
