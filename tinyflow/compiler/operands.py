"""What a contraction reads: which operand is which, what its letters are for, and how it lies in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tinyflow.compiler import borders, cost, transpose
from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.loops import loads, stride
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.core import expr
from tinyflow.core.dtypes import DType
from tinyflow.core.expr import Expr, Index, Index_, Load
from tinyflow.graph.node import Node
from tinyflow.ops import contraction as ops
from tinyflow.ops.contraction import Spec
from tinyflow.ops.movement import split

PAGE = 4096  # bytes
COLUMNS = 32  # of a product, that are enough


class Roles(NamedTuple):
    """Which operand is which, and what its letters are for."""

    a: int
    b: int
    batch: tuple[str, ...]
    m: tuple[str, ...]
    n: tuple[str, ...]
    k: tuple[str, ...]


def roles(spec: Spec) -> Roles | None:
    """None where the spec is not a product of two operands with rows and columns of its own."""
    if len(spec.operands) != 2 or not spec.out:
        return None
    has = [{a for p in places for a, _ in p.terms} for places in spec.operands]
    last = next((a for a in reversed(spec.out) if a not in has[0] & has[1]), None)
    if last is None:
        return None
    b = 0 if last in has[0] else 1
    a = 1 - b
    m, n = tuple(x for x in spec.out if x in has[a] - has[b]), tuple(x for x in spec.out if x in has[b] - has[a])
    images = entries(spec, m, n)
    batch = tuple(x for x in spec.out if x in images or (x in has[0] and x in has[1]))
    n = tuple(x for x in n if x not in images)
    k = tuple(
        sorted(spec.folded, key=lambda x: isinstance(spec.size[x], int))
    )  # a size known only when running comes first
    return Roles(a, b, batch, m, n, k)


def entries(spec: Spec, m: Sequence[str], n: Sequence[str]) -> tuple[str, ...]:
    """The letters of N that come before all of M in the output, as those of images with channels first do: each of their values
    is a product of its own, whose results lie in one piece, if that has enough columns."""
    first = min((spec.out.index(x) for x in m), default=0)
    leading = tuple(x for x in n if spec.out.index(x) < first)
    columns = extent(spec, [x for x in n if x not in leading])
    return leading if expr.at_least(expr.add(columns, -COLUMNS), 0) else ()


def extent(spec: Spec, letters: Sequence[str]) -> Index_:
    return expr.product(spec.size[a] for a in letters)


def opened_read(x: Reader, positions: Sequence[ops.Position], letters: Mapping[str, Index_]) -> Expr:
    return expr.as_expr(expr.opened(ops.read(x, positions, letters)))


class Left(NamedTuple):
    """The left operand, and how the places of a tile are numbered."""

    roles: Roles
    indices: tuple[Index, Index, Index, Index]  # batch, run, row of the run, column
    letters: dict[str, Index_]  # what each letter is, of these and of K
    k: tuple[Index, ...]
    a: Expr
    tests: tuple[Expr, ...]  # where these do not hold, A is zero
    around: borders.Border | None
    upright: bool  # whether rows are neighbours in memory


def left_operand(core: Node, spec: Spec, found: Roles, scope: Scope, height: int) -> Left:
    """Runs are the places of an image, where its border is worth it, else rows that lie in one piece, else all of M is one."""

    def read(letters: Mapping[str, Index_]) -> Expr:
        return opened_read(Reader(core.inputs[found.a], scope, core), spec.operands[found.a], letters)

    k, letters = summed(spec, found)
    around = borders.border(spec, found, core.inputs[found.a].shape, height)
    upright = 0 if around else upright_letters(spec, found, read, letters, k, height)
    if not around and not upright and not spec.plain:
        found = found._replace(k=in_steps(spec, found, read, letters))
        k, letters = summed(spec, found)
    cut = len(found.m) - (upright or len(found.m))
    rows = around.together if around else extent(spec, found.m[cut:])
    runs = expr.floordiv(extent(spec, found.m), rows) if around else extent(spec, found.m[:cut])
    batch, run = expr.index(extent(spec, found.batch), "batch"), expr.index(runs, "run")
    row, column = expr.index(rows, "row"), expr.index(extent(spec, found.n), "column")
    numbers: list[tuple[Sequence[str], Index_]] = [(found.batch, batch), (found.n, column)]
    if around:
        which, place = around.of_run(run, spec)
        numbers += [(around.places, place), (around.images, which * around.together + row)]
    else:
        numbers += [(found.m[:cut], run), (found.m[cut:], row)]
    for names, i in numbers:
        letters.update(zip(names, split(i, tuple(spec.size[x] for x in names)), strict=True))
    tests, a = borders.tests(read(letters)) if around else ((), read(letters))
    return Left(found, (batch, run, row, column), letters, k, a, tests, around, bool(upright))


def summed(spec: Spec, found: Roles) -> tuple[tuple[Index, ...], dict[str, Index_]]:
    """Indices for the letters summed over that have a choice, and what each letter is."""
    letters = {a: expr.axis(spec.size[a], a) for a in found.k}
    return tuple(k for k in letters.values() if isinstance(k, Index)), dict(letters)


def upright_letters(
    spec: Spec,
    found: Roles,
    left: Callable[[Mapping[str, Index_]], Expr],
    letters: Mapping[str, Index_],
    k: Sequence[Index],
    height: int,
) -> int:
    """How many of the last letters of M number neighbours in A's memory; 0 where packing along them gains nothing."""
    rows = {x: expr.axis(spec.size[x], x) for x in (*found.batch, *found.m)}
    a = left({**letters, **rows})
    read = loads(a)
    in_step = isinstance(a, Load) and all(neighbouring(a.offset, x) for x in ([rows[m] for m in found.m], k))
    if isinstance(a, Load) and in_step and not clash(stride(a.offset, k[-1]), a.dtype):
        return 0  # it may be read in place
    count, size = 0, 1
    for x in reversed(found.m):
        i = rows[x]
        if isinstance(i, Index) and not all(stride(f.offset, i) == size for f in read):
            break
        count += 1
        if not isinstance(n := spec.size[x], int):
            break
        size *= n
    along = any(stride(f.offset, k[-1]) == 1 for f in read)
    return count if read and not along and size >= height // 2 else 0


def neighbouring(offset: Index_, letters: Sequence[Index_]) -> bool:
    """Whether a number of the letters together has one step in memory."""
    own = [i for i in letters if isinstance(i, Index)]
    steps = [stride(offset, i) for i in own]
    wanted = [expr.mul(step, i.extent) for step, i in zip(steps[1:], own[1:], strict=True) if step is not None]
    return None not in steps and steps[:-1] == wanted


def in_steps(
    spec: Spec, found: Roles, left: Callable[[Mapping[str, Index_]], Expr], letters: Mapping[str, Index_]
) -> tuple[str, ...]:
    """The letters summed over, those of longer steps in A's memory first, so that A is packed along neighbours; as they are
    where the last one numbers neighbours already, or none does."""
    read = loads(left({**letters, **{x: expr.axis(spec.size[x], x) for x in (*found.batch, *found.m)}}))
    if len(read) != 1:
        return found.k
    steps = {x: stride(read[0].offset, i) if isinstance(i := letters[x], Index) else 0 for x in found.k}
    if 1 not in steps.values() or steps[found.k[-1]] == 1:
        return found.k
    known = {x: step for x, step in steps.items() if isinstance(step, int)}
    return tuple(sorted(found.k, key=lambda x: -abs(known[x]))) if len(known) == len(steps) else found.k


class Strides(NamedTuple):
    """Of an operand that is a buffer read at strides that do not change: it need not be packed."""

    rows: Index_
    terms: Index_


def flat_strides(a: Expr, m: Index, k: Sequence[Index]) -> Strides | None:
    if not isinstance(a, Load):
        return None
    flat = expr.index(expr.product(i.extent for i in k), "k")
    offset = expr.substitute(a.offset, dict(zip(k, split(flat, tuple(i.extent for i in k)), strict=True)))
    rows, terms = stride(offset, m), stride(offset, flat)
    return None if rows is None or terms is None else Strides(rows, terms)


def clash(step: Index_ | None, dtype: DType) -> bool:
    """Whether elements lie a multiple of a page apart: they would drive each other out of the first cache."""
    return isinstance(step, int) and step != 0 and step * dtype.size % PAGE == 0


class Right(NamedTuple):
    """The right operand, and what it takes to use it."""

    b: Expr  # at batch, column and `row`, a number of K
    row: Index
    line: int  # elements from row to row where it may be read in place, else 0
    packing: float  # cycles of a vector
    checked: bool  # whether it has indices that are checked


def right_in_place(core: Node, spec: Spec, left: Left, depth: Index_, buffered: Buffers, lanes: int) -> Right:
    scope, column, k = Scope(buffered, {}, core.ndim), left.indices[3], left.k
    b = opened_read(Reader(core.inputs[left.roles.b], scope, core), spec.operands[left.roles.b], left.letters)
    row = expr.index(depth, "k")
    flat = expr.as_expr(expr.substitute(b, dict(zip(k, split(row, tuple(i.extent for i in k)), strict=True))))
    line, packing = 0, cost.COMPUTED
    if isinstance(b, Load) and isinstance(flat, Load):
        step = stride(flat.offset, row)
        straight = stride(flat.offset, column) == 1
        if straight and isinstance(step, int) and b.dtype is core.dtype.computed:
            line = step
        packing = cost.COPIED if straight else cost.TURNED if transpose.line_of(b, k, column, lanes) else packing
    return Right(flat, row, line, packing, bool(scope.checks))
