"""The right operand of a contraction, packed into panels: any producer is computed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinyflow.compiler import transpose
from tinyflow.compiler.blocks import ceil_div
from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.loops import Kernel, Scratch, Store, Target, loads, stride
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.microkernel import Tile
from tinyflow.compiler.operands import Roles, extent, opened_read
from tinyflow.core import expr
from tinyflow.core.expr import Expr, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops import rules
from tinyflow.ops.contraction import Spec
from tinyflow.ops.movement import flatten, split
from tinyflow.ops.rules import guard

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group


def pack(
    core: Node, found: Roles, spec: Spec, panels: Scratch, tile: Tile, buffered: Buffers, group: Group, name: str
) -> Kernel:
    """panels[batch][p][k][j] = B at column p*width + j; zero after the last column."""
    scope, columns, width = Scope(buffered, {}, core.ndim), extent(spec, found.n), tile.width
    b, p = expr.index(extent(spec, found.batch), "batch"), expr.index(ceil_div(columns, width), "panel")
    j, column = expr.index(width, "column"), expr.index(columns, "n")
    k = tuple(expr.index(spec.size[a], a) for a in found.k)
    plain = right_operand(core, found, spec, scope, b, k, column)
    value = expr.as_expr(expr.substitute(plain, {column: p * width + j}))
    if not (isinstance(columns, int) and columns % width == 0):
        value = within(p * width + j, columns, value)
    places = (b, p, *k)
    offset = flatten((*places, j), (*(i.extent for i in places), width))
    rows = (b, *in_memory_order([*k, p], value))  # reads whole lines of B, writes a piece of every panel
    work = expr.product(i.extent for i in (*rows, j))
    turn = None
    if line := transpose.line_of(plain, k, column, tile.lanes):
        length, rest = expr.index(expr.product(i.extent for i in line), "line"), tuple(i for i in k if i not in line)
        source = transpose.source_of(plain)
        turn = transpose.Turn(b, p, rest, length, line, column, source, columns, width, tile.lanes, core.dtype.computed)  # type: ignore[arg-type]
    store = Store(Target(panels, "own", core.dtype.computed), (j,), offset, value, j)
    return Kernel(name, rows, (store,), tuple(scope.checks), work, turn, group.conditions, (core,))


def pack_terms(
    core: Node, found: Roles, spec: Spec, panels: Scratch, tile: Tile, buffered: Buffers, group: Group, name: str
) -> Kernel:
    """panels[batch][k / lanes][j][k % lanes] = B at column j; zero after the last term."""
    scope, columns, depth = Scope(buffered, {}, core.ndim), extent(spec, found.n), extent(spec, found.k)
    b, j, flat = expr.index(extent(spec, found.batch), "batch"), expr.index(columns, "column"), expr.index(depth, "k")
    block, lane = expr.index(ceil_div(depth, tile.lanes), "block"), expr.index(tile.lanes, "term")
    k = split(flat, tuple(spec.size[a] for a in found.k))
    at = block * tile.lanes + lane
    value = expr.as_expr(expr.substitute(right_operand(core, found, spec, scope, b, k, j), {flat: at}))
    if depth % tile.lanes:
        value = within(at, depth, value)
    offset = flatten((b, block, j, lane), tuple(i.extent for i in (b, block, j, lane)))
    store = Store(Target(panels, "own", core.dtype.computed), (lane,), offset, value, lane)
    work = expr.product(i.extent for i in (b, block, j, lane))
    packing = Kernel(name, (b, block, j), (store,), tuple(scope.checks), work, None, group.conditions, (core,))
    return transpose.turned_copy(packing, tile.lanes * core.dtype.computed.size)


def right_operand(
    core: Node, found: Roles, spec: Spec, scope: Scope, b: Index_, k: Sequence[Index_], column: Index_
) -> Expr:
    """B at an entry of the batch, values of the letters of K, and a column."""
    letters: dict[str, Index_] = dict(zip(found.k, k, strict=True))
    letters.update(zip(found.batch, split(b, tuple(spec.size[a] for a in found.batch)), strict=True))
    letters.update(zip(found.n, split(column, tuple(spec.size[a] for a in found.n)), strict=True))
    return opened_read(Reader(core.inputs[found.b], scope, core), spec.operands[found.b], letters)


def within(at: Index_, end: Index_, value: Expr) -> Expr:
    """The value at places before the end, zero after."""
    return guard(rules.less(expr.as_expr(at), expr.as_expr(end)), value, expr.const(0, value.dtype))


def in_memory_order(indices: list[Index], value: Expr) -> list[Index]:
    """Loops over what a value reads, so that it is read once from one end to the other, as far as that can be told."""
    read = loads(value)

    def step(i: Index) -> int:
        found = [stride(x.offset, i) for x in read]
        return -max((s for s in found if isinstance(s, int)), default=0) if None not in found else 0

    return sorted(indices, key=step) if len(read) == 1 else indices
