"""The recipe of packing a transposed operand: square blocks turned in registers.

    panels[b, p, k, j] = B[b, k, p*width + j]      where B's neighbours in memory are neighbours along some letters of k

A gather would touch as many cache lines as there are lanes for every vector; a block of lanes x lanes is read by whole
vectors, turned in log2(lanes) rounds of shuffles, and written by whole vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.kernel import bind_rows, share
from tinyflow.compiler.loops import Kernel, stride
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import DType, int64
from tinyflow.core.expr import Apply, Expr, Index, Index_, Load
from tinyflow.ops.movement import split


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
        rows = (self.batch, *self.outer, block, self.panel)
        tasks = expr.product(i.extent for i in rows)
        with share(em, tasks) as task:
            bind_rows(em, rows, task)
            start = em.op("mul {t} {0}, {1}", [em.env[block], number(self.lanes)])
            start = em.intrinsic(
                "smin", [start, number(depth - self.lanes)], int64
            )  # the last block overlaps the one before
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
        first = em.op(
            "add {t} {0}, {1}", [em.op("mul {t} {0}, {1}", [em.env[self.panel], number(self.width)]), number(j)]
        )
        last = em.op("sub {t} {0}, {1}", [em.value(self.columns), number(1)])
        vector = f"<{self.lanes} x {self.dtype.llvm}>"
        offset, rows = self.at(self.source.offset, 0), []
        for v in range(self.lanes):
            with em.scope():
                column = em.op("add {t} {0}, {1}", [first, number(v)])
                em.env[self.column] = em.intrinsic(
                    "smin", [column, last], int64
                )  # past the end: any column, never used
                p = em.pointer(self.source.buffer, offset, self.dtype)
            rows.append(em.name("x"))
            em.line(f"{rows[-1]} = load {vector}, ptr {p}, align {self.dtype.size}")
        del em.env[self.column]
        (store,) = kernel.stores
        with em.scope():
            em.env[store.inner[0]] = number(j)
            for v, row in enumerate(turned(em, rows, vector)):
                p = em.pointer(store.target.key, self.at(store.offset, v), self.dtype)
                em.line(f"store {vector} {row}, ptr {p}, align {self.dtype.size}")
            del em.env[store.inner[0]]


def number(n: int) -> Value:
    return Value(str(n), int64, False)


def turned(em: Emitter, rows: Sequence[str], vector: str) -> list[str]:
    """The transposition: in round h, lanes whose bit h differs change places between rows whose bit h differs."""
    out, lanes, h = list(rows), len(rows), 1
    while h < lanes:
        for i in range(lanes):
            if i & h:
                continue
            a, b = out[i], out[i | h]
            low = [lane if not lane & h else lanes + (lane ^ h) for lane in range(lanes)]
            high = [lane | h if not lane & h else lanes + lane for lane in range(lanes)]
            for place, order in ((i, low), (i | h, high)):
                out[place] = em.name("x")
                picks = ", ".join(f"i32 {k}" for k in order)
                em.line(f"{out[place]} = shufflevector {vector} {a}, {vector} {b}, <{lanes} x i32> <{picks}>")
        h *= 2
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
