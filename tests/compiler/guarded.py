"""Runs programs on arrays that lie against pages nobody may touch: reading or writing one element outside ends the process.

python -m tests.compiler.guarded [rows]      prints each case before it runs, and "done" at the end
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from tests.compiler import test_contraction, test_convolution, test_fusion, test_indexing
from tests.graph import rows
from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.core.errors import IndexOutOfRange
from tinyflow.core.expr import fresh_dim
from tinyflow.graph.node import Node
from tinyflow.ops.leaf import placeholder
from tinyflow.passes.gradient import gradients
from tinyflow.runtime import items

PAGE = mmap.PAGESIZE
KEPT: list[Any] = []
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
NONE = 0


def guarded(shape: Any, dtype: Any = float, last: bool = True) -> np.ndarray:
    """An array whose last (or first) element is the last (first) before a page that may not be touched."""
    count, dtype = int(np.prod(shape, dtype=np.int64)), np.dtype(dtype)
    size = max(count * dtype.itemsize, 8)  # a masked scalar load reads the first element, even of nothing
    pages = -(-size // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        assert protect(base + page * PAGE, PAGE, NONE) == 0
    start = PAGE * (pages + 1) - -(-size // dtype.itemsize) * dtype.itemsize if last else PAGE
    KEPT.append(memory)
    return np.frombuffer(memory, dtype, count, start).reshape(shape)


def cases() -> Iterator[tuple[str, Callable[[], Any]]]:
    yield from of_rows()
    for name in test_fusion.FUNCTIONS:
        for shape in ((33, 50), (1, 1), (16, 16), (7, 1023)):
            yield f"{name} {shape}", lambda name=name, shape=shape: function(name, shape)
    for name in test_contraction.ALL:
        yield f"product, {name}", lambda name=name: around_a_product(name)
    for sizes in itertools.product((1, 13, 14, 15, 31, 32, 33, 100), (1, 17, 400), (7, 16, 31, 32, 33, 65)):
        yield f"product of {sizes}", lambda sizes=sizes: product(*sizes)
    for name in test_convolution.SPECS:
        yield f"convolution, {name}", lambda name=name: convolution(name)
    for name, bad in itertools.product(test_indexing.USES, (0, test_indexing.ROWS, -1, 2**31 - 1, -(2**31))):
        yield f"indexing by {bad}, {name}", lambda name=name, bad=bad: indexing(name, bad)


def of_rows() -> Iterator[tuple[str, Callable[[], Any]]]:
    for case in rows.cases():
        for make in (rows.apply, rows.symbolic):
            yield f"{case.id} {make.__name__}", lambda make=make, case=case: listed(*make(*case.values))


def listed(node: Node, fed: Mapping[Node, np.ndarray]) -> Any:
    return [node], fed


a, b = (placeholder(float32, dims, n) for dims in [(fresh_dim("n"), fresh_dim("m"))] for n in "ab")
m, k, n = fresh_dim("m"), fresh_dim("k"), fresh_dim("n")
left, right = placeholder(float32, (m, k), "left"), placeholder(float32, (k, n), "right")


def function(name: str, shape: tuple[int, int]) -> Any:
    nodes = test_fusion.FUNCTIONS[name](a, b)
    inner = [g for g in gradients([y * y for y in nodes if y.dtype.is_floating], [a, b]) if g is not None]
    return nodes + inner, dict(zip((a, b), test_fusion.pair(shape).values(), strict=True))


def around_a_product(name: str) -> Any:
    t = test_contraction
    fed = {x: t.random(x.shape, x.dtype) for x in (t.X, t.W, t.B, t.R, t.C, t.P)}
    return t.ALL[name](), {**fed, t.I: np.arange(t.M, dtype=np.int32)}


def product(rows: int, inner: int, columns: int) -> Any:
    nodes = [test_contraction.matmul(left, right)]
    return nodes, {left: test_contraction.random((rows, inner)), right: test_contraction.random((inner, columns))}


def convolution(name: str) -> Any:
    y, x, w, fed, _ = test_convolution.made(name)
    return [y, *gradients([y], [x, w])], fed


def indexing(name: str, bad: int) -> Any:
    """The error that a bad index ends in must come without a look at what lies there."""
    t = test_indexing
    return [t.USES[name]()], t.fed(t.indices(slice(5, None, 9), bad))


def main(cases: Iterator[tuple[str, Callable[[], Any]]]) -> None:
    items.SMALL = 0
    plain = np.empty
    for label, make in cases:
        nodes, fed = make()
        runner = execute.compile(nodes)
        needed = {x: fed[x] for x in runner.placeholders}
        for last in (True, False):
            print(label, flush=True)
            arrays = {}
            for x, given in needed.items():
                arrays[x] = guarded(np.shape(given), x.dtype.numpy, last)
                arrays[x][...] = given
            np.empty = lambda shape, dtype=float, last=last: guarded(shape, dtype, last)
            try:
                with config(THREADS=1 + last), suppress(IndexOutOfRange):
                    runner(arrays, {})
            finally:
                np.empty = plain
    print("done", flush=True)


if __name__ == "__main__":
    main(of_rows() if sys.argv[1:] == ["rows"] else cases())
