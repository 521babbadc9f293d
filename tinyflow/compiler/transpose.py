"""The recipes of what is transposed: square blocks turned in registers.

    panels[b, p, k, j] = B[b, k, p*width + j]      where B's neighbours in memory are neighbours along some letters of k
    y[.., i, .., j] = x[.., j, .., i]              a copy in another order

A gather would touch as many cache lines as there are lanes for every vector; a block of lanes x lanes is read by whole
vectors, turned in log2(lanes) rounds of shuffles, and written by whole vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.kernel import bind_rows, share
from tinyflow.compiler.loops import Kernel, Store, stride
from tinyflow.compiler.microkernel import transposed
from tinyflow.compiler.phrases import add, const, least, mul, sub
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import DType, bool_
from tinyflow.core.expr import Apply, Expr, Index, Index_, Load
from tinyflow.ops.movement import split

RUN = 256  # elements of a line that one task reads or writes


@dataclass(frozen=True, eq=False)
class Turn:
    """Tasks are (batch, other letters of K, block of a line, panel); a line is all of B that lies in one piece along K."""

    batch: Index
    panel: Index
    outer: tuple[Index, ...]
    line: Index
    letters: tuple[Index, ...]  # that make the line, the last one fastest
    column: Index  # stands for one column of B
    source: Load  # B at batch, letters of K, column
    columns: Index_
    width: int
    lanes: int
    dtype: DType
    written: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"turn {expr.show(self.source)} in blocks of {self.lanes} x {self.lanes}"

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        em.lanes = self.lanes
        depth = self.line.extent
        assert isinstance(depth, int)
        block = expr.index(-(-depth // self.lanes), "block")
        rows = (self.batch, *self.outer, self.panel, block)
        tasks = expr.product(i.extent for i in rows)
        with share(em, tasks) as task:
            bind_rows(em, rows, task)
            start = mul(em, em.env[block], const(self.lanes))
            start = least(em, start, const(depth - self.lanes))  # the last block overlaps the one before
            em.env[self.line] = start
            for j in range(self.width // self.lanes):
                self.block(em, kernel, j * self.lanes)
            del em.env[self.line]
        return tasks

    def at(self, offset: Index_, along: int) -> Index_:
        """An offset that many places on along the line."""
        extents = tuple(i.extent for i in self.letters)
        return expr.substitute(offset, dict(zip(self.letters, split(self.line + along, extents), strict=True)))

    def block(self, em: Emitter, kernel: Kernel, j: int) -> None:
        first = add(em, mul(em, em.env[self.panel], const(self.width)), const(j))
        last = sub(em, em.value(self.columns), const(1))
        vector = f"<{self.lanes} x {self.dtype.llvm}>"
        offset, rows = self.at(self.source.offset, 0), []
        for v in range(self.lanes):
            with em.scope():
                column = add(em, first, const(v))
                em.env[self.column] = least(em, column, last)  # past the end: any column, never used
                p = em.pointer(self.source.buffer, offset, self.dtype)
            rows.append(em.name("x"))
            em.line(f"{rows[-1]} = load {vector}, ptr {p}, align {self.dtype.size}")
        del em.env[self.column]
        (store,) = kernel.stores
        with em.scope():
            em.env[store.inner[0]] = const(j)
            for v, row in enumerate(turned(em, rows, vector)):
                p = em.pointer(store.target.key, self.at(store.offset, v), self.dtype)
                em.line(f"store {vector} {row}, ptr {p}, align {self.dtype.size}")
            del em.env[store.inner[0]]


@dataclass(frozen=True, eq=False)
class Copy:
    """Blocks follow each other along the lines that lie further apart, read or written: each is an end that the processor
    sees go on. Those at the end overlap the ones before; lines shorter than a vector are read or written under a mask."""

    along: Index  # along which neighbours are read
    others: tuple[Index, ...]
    lanes: int
    written: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"turned in blocks of {self.lanes} along {self.along.name}"

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        em.lanes = self.lanes
        (store,) = kernel.stores
        (line,) = store.inner
        assert isinstance(self.along.extent, int) and isinstance(line.extent, int)
        read, written = stride(store.value.offset, line), stride(store.offset, self.along)  # type: ignore[attr-defined]
        inner, outer = (self.along, line) if apart(read) > apart(written) else (line, self.along)
        run, block = (expr.index(-(-i.extent // n), "block") for i, n in ((inner, RUN), (outer, self.lanes)))
        rows = (*self.others, run, block)
        tasks = expr.product(i.extent for i in rows)
        with share(em, tasks) as task:
            bind_rows(em, rows, task)
            low = mul(em, em.env[run], const(RUN))
            high = least(em, add(em, low, const(RUN)), em.value(inner.extent))
            self.begin(em, outer, mul(em, em.env[block], const(self.lanes)))
            with em.counting(low.name, high.name, self.lanes) as i:
                self.begin(em, inner, i)
                self.block(em, store, min(self.along.extent, self.lanes), min(line.extent, self.lanes))
                del em.env[inner]
            del em.env[outer]
        return tasks

    def begin(self, em: Emitter, i: Index, first: Value) -> None:
        """Where a block begins: the last one ends with the line."""
        assert isinstance(i.extent, int)
        em.env[i] = least(em, first, const(max(i.extent - self.lanes, 0)))

    def block(self, em: Emitter, store: Store, read: int, written: int) -> None:
        """`written` lines of `read` elements become `read` lines of `written` elements."""
        load, (line,), dtype = store.value, store.inner, store.target.dtype
        assert isinstance(load, Load)
        vector, lines = f"<{self.lanes} x {dtype.llvm}>", ["zeroinitializer"] * self.lanes
        for v in range(written):
            p = em.pointer(load.buffer, expr.substitute(load.offset, {line: line + v}), dtype)
            lines[v] = em.name("x")
            if read < self.lanes:
                em.masked_load(Value(lines[v], dtype, True), p, self.first(read))
            else:
                em.line(f"{lines[v]} = load {vector}, ptr {p}, align {dtype.size}")
        for v, x in enumerate(turned(em, lines, vector)[:read]):
            p = em.pointer(store.target.key, expr.substitute(store.offset, {self.along: self.along + v}), dtype)
            if written < self.lanes:
                em.masked_store(p, Value(x, dtype, True), self.first(written))
            else:
                em.line(f"store {vector} {x}, ptr {p}, align {dtype.size}")

    def first(self, count: int) -> Value:
        """A mask of so many lanes."""
        return Value("<" + ", ".join(f"i1 {int(v < count)}" for v in range(self.lanes)) + ">", bool_, True)


def turned_copy(kernel: Kernel, vector_bytes: int) -> Kernel:
    """A copy whose neighbours lie apart where they are read, by blocks; any other kernel as it is."""
    if kernel.recipe is not None or kernel.checks or len(kernel.stores) != 1:
        return kernel
    ((target, inner, offset, value, lane),) = kernel.stores
    if not isinstance(value, Load) or value.dtype is not target.dtype or target.dtype.size < 4:
        return kernel
    along = next((i for i in kernel.rows if stride(value.offset, i) == 1), None)
    if along is None or lane is None or inner != (lane,):
        return kernel
    lanes, lengths = vector_bytes // target.dtype.size, [i.extent for i in (along, lane) if isinstance(i.extent, int)]
    strided = stride(offset, lane) == 1 and stride(value.offset, lane) != 0 and stride(offset, along) is not None
    if len(lengths) < 2 or max(lengths) < lanes or not strided:
        return kernel
    return replace(kernel, recipe=Copy(along, tuple(i for i in kernel.rows if i is not along), lanes))


def apart(step: Index_ | None) -> float:
    """How far lines are from each other, at least."""
    return step if isinstance(step, int) else math.inf


def turned(em: Emitter, rows: Sequence[str], vector: str) -> list[str]:
    lines, out = transposed(rows, vector, em.name()[1:])
    em.lines += lines
    return out


def source_of(value: expr.Expr) -> Load | None:
    """The load that a packed value is, but for the guard of its last panel."""
    if isinstance(value, Apply) and value.fn == "guard" and isinstance(value.args[1], Load):
        return value.args[1]
    return value if isinstance(value, Load) else None


def line_of(value: Expr, k: Sequence[Index], column: Index, lanes: int) -> tuple[Index, ...]:
    """The letters of K along which a packed value lies in one piece, the fastest last. None where a block of vectors cannot
    be read from that: it is shorter than a vector, or columns are neighbours too."""
    source = source_of(value)
    if source is None or stride(source.offset, column) in (1, None):
        return ()
    found: list[Index] = []
    length = 1
    while True:
        i = next((i for i in k if i not in found and stride(source.offset, i) == length), None)
        if i is None or not isinstance(i.extent, int):
            return tuple(found) if length >= lanes else ()
        found.insert(0, i)
        length *= i.extent
