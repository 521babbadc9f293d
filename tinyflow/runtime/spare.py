"""Spare: memory of big arrays that are gone, for the next that are made. It is mapped already; new memory comes page by page.

take(shape, dtype)    an array that begins at a whole cache line; its memory comes back when nobody has any part of it
turn()                one run is over: what two runs did not take is let go
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyflow.runtime.memory import ALIGN

LEAST = 1 << 16  # bytes; smaller arrays come cheaply from numpy

Give = Callable[[np.ndarray], None]


class Block:
    """Memory that lives as long as an array in it does: it is the base of them all."""

    __slots__ = ("__array_interface__", "give", "memory")

    def __init__(self, memory: np.ndarray, shape: Any, dtype: np.dtype[Any], give: Give) -> None:
        self.memory, self.give = memory, give
        data = memory.ctypes.data
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": (data + -data % ALIGN, False)}  # fmt: skip

    def __del__(self) -> None:
        self.give(self.memory)


class Spare:
    def __init__(self) -> None:
        self.now: dict[int, list[np.ndarray]] = {}
        self.before: dict[int, list[np.ndarray]] = {}

    def take(self, shape: Any, dtype: np.dtype[Any]) -> np.ndarray:
        memory = self.memory(math.prod(shape) * dtype.itemsize + ALIGN)
        made = np.asarray(Block(memory, shape, dtype, self.give))
        return made if made.dtype == dtype else made.view(dtype)  # numpy does not know every type by its letters

    def memory(self, size: int) -> np.ndarray:
        for kept in (self.now, self.before):
            try:
                return kept[size].pop()
            except (KeyError, IndexError):
                continue
        return np.empty(size, np.uint8)

    def give(self, memory: np.ndarray) -> None:
        self.now.setdefault(memory.size, []).append(memory)

    def turn(self) -> None:
        if self.now or self.before:
            self.now, self.before = {}, self.now


def owns(array: np.ndarray) -> bool:
    """Whether the array is not a part of another."""
    return array.base is None or isinstance(array.base, Block)


SPARE = Spare()


def maker(shape: Any, dtype: np.dtype[Any]) -> Callable[..., np.ndarray]:
    """What makes an array of that shape soonest."""
    return SPARE.take if math.prod(shape) * dtype.itemsize >= LEAST else np.empty
