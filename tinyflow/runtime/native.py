"""The functions of spmd.py, compiled and callable.

run      Python's own kind of native function: 100 ns a call, where ctypes takes 900 to convert seven numbers
others   through ctypes: they are called seldom
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinyflow.runtime import machine, spmd, target

METH_FASTCALL = 0x80
PYTHON_FUNCTIONS = (
    "PyLong_AsLongLong",
    "PyLong_FromLongLong",
    "PyErr_Occurred",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
)


# numpy keeps the address of an array's elements right behind Python's own header.
PLACE = f"""
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)

define ptr @python_place(ptr %self, ptr %arguments, i64 %count) nounwind {{
entry:
  %o0 = load ptr, ptr %arguments
  %v0 = call i64 @PyLong_AsLongLong(ptr %o0)
  %slots = inttoptr i64 %v0 to ptr
  %a1 = getelementptr ptr, ptr %arguments, i64 1
  %o1 = load ptr, ptr %a1
  %v1 = call i64 @PyLong_AsLongLong(ptr %o1)
  %numbers = inttoptr i64 %v1 to ptr
  br label %head
head:
  %i = phi i64 [ 2, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %done
body:
  %at = getelementptr ptr, ptr %arguments, i64 %i
  %array = load ptr, ptr %at
  %data.at = getelementptr i8, ptr %array, i64 {object.__basicsize__}
  %data = load ptr, ptr %data.at
  %k = sub i64 %i, 2
  %number.at = getelementptr i64, ptr %numbers, i64 %k
  %number = load i64, ptr %number.at
  %slot = getelementptr ptr, ptr %slots, i64 %number
  store ptr %data, ptr %slot
  %next = add i64 %i, 1
  br label %head
done:
  %zero = call ptr @PyLong_FromLongLong(i64 0)
  ret ptr %zero
}}
"""


class Native(NamedTuple):
    """`run` takes control, table, slots, dims, first, last, nthreads; `work` control and tid."""

    run: Callable[[int, int, int, int, int, int, int], int]
    work: Callable[[int, int], None]
    refuse: Callable[[int], None]
    dismiss: Callable[[int], None]


@cache
def placer() -> Callable[..., object]:
    """`place(slots, numbers, *arrays)`: slots[numbers[i]] becomes the address of array i's elements; 30 ns an array."""
    symbols = {name: address_of(getattr(ctypes.pythonapi, name)) for name in PYTHON_FUNCTIONS[:2]}
    found = python_function("place", machine.compile_ir(PLACE, "place", symbols).address("python_place"))
    probe, slot, number = np.empty(3), array("Q", [0]), array("q", [0])
    found(slot.buffer_info()[0], number.buffer_info()[0], probe)
    return found if slot[0] == probe.ctypes.data else place_slowly


def place_slowly(slots: int, numbers: int, *arrays: np.ndarray) -> None:
    """For a Python or numpy whose objects are laid out otherwise."""
    for k, a in enumerate(arrays):
        number = ctypes.c_int64.from_address(numbers + 8 * k).value
        ctypes.c_uint64.from_address(slots + 8 * number).value = a.ctypes.data


class MethodDef(ctypes.Structure):
    """What Python asks to know of a native function. It must outlive the function."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


METHODS: list[MethodDef] = []


@cache
def native() -> Native:
    symbols = {name: address_of(getattr(ctypes.pythonapi, name)) for name in PYTHON_FUNCTIONS}
    library = machine.compile_ir(spmd.text(target.host_arch(), sys.platform), "spmd", symbols)
    number = ctypes.c_int64
    return Native(
        run=python_function("run", library.address("python_run")),
        work=ctypes.CFUNCTYPE(None, number, number)(library.address("work")),
        refuse=ctypes.CFUNCTYPE(None, number)(library.address("refuse")),
        dismiss=ctypes.CFUNCTYPE(None, number)(library.address("dismiss")),
    )


def python_function(name: str, address: int) -> Any:
    """The function at the address, of C type PyCFunctionFast, as a Python object."""
    METHODS.append(MethodDef(name.encode(), address, METH_FASTCALL, None))
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(MethodDef), ctypes.c_void_p, ctypes.c_void_p)
    return make(("PyCFunction_NewEx", ctypes.pythonapi))(ctypes.byref(METHODS[-1]), None, None)


def address_of(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address
