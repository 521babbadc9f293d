"""The functions of spmd.py, compiled and callable.

run      Python's own kind of native function: 100 ns a call, where ctypes takes 900 to convert seven numbers
others   through ctypes: they are called seldom
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from tinyflow.runtime import machine, spmd, target

METH_FASTCALL = 0x80
PYTHON_FUNCTIONS = (
    "PyLong_AsLongLong",
    "PyLong_FromLongLong",
    "PyErr_Occurred",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
)


class Native(NamedTuple):
    """`run` takes control, table, slots, dims, first, last, nthreads; `work` control and tid."""

    run: Callable[[int, int, int, int, int, int, int], int]
    work: Callable[[int, int], None]
    refuse: Callable[[int], None]
    dismiss: Callable[[int], None]


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
