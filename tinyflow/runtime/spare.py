"""Spare: big arrays whose owners are gone, for the next that are made. Their memory is mapped already; new memory comes page by page.

give(array)   nobody else may hold it
take(shape, dtype)
turn()        one run is over: what two runs did not take is let go
"""

from __future__ import annotations

from typing import Any

import numpy as np

LEAST = 1 << 16  # bytes; smaller arrays come cheaply


class Spare:
    def __init__(self) -> None:
        self.now: dict[Any, list[np.ndarray]] = {}
        self.before: dict[Any, list[np.ndarray]] = {}

    def give(self, array: np.ndarray) -> None:
        if array.base is None and array.flags.c_contiguous and array.flags.writeable:
            self.now.setdefault((array.shape, array.dtype), []).append(array)

    def take(self, shape: Any, dtype: Any) -> np.ndarray:
        if self.now or self.before:
            for kept in (self.now, self.before):
                try:
                    return kept[shape, dtype].pop()
                except (KeyError, IndexError):
                    continue
        return np.empty(shape, dtype)

    def turn(self) -> None:
        if self.now or self.before:
            self.now, self.before = {}, self.now


SPARE = Spare()
