"""How the operands of Winograd's filters are read: tile by tile, and columns by panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.microkernel import Tile
from tinyflow.compiler.minimal import Form, Line, Place, number, transformed
from tinyflow.compiler.operands import opened_read
from tinyflow.core import expr
from tinyflow.core.dtypes import float32
from tinyflow.core.expr import Expr, Index, Index_, const
from tinyflow.graph.node import Node
from tinyflow.ops import rules
from tinyflow.ops.contraction import Spec
from tinyflow.ops.movement import split
from tinyflow.runtime import target as targets

EVEN = 4  # blocks come in multiples of this, so that threads have as many

Letters = dict[str, Index_]


class Reading(NamedTuple):
    """How the operands are read, tile by tile."""

    form: Form
    spec: Spec
    core: Node
    scope: Scope
    sizes: tuple[int, int, int]
    group: Index
    tile: Index
    channel: Index
    column: Index
    letters: Letters  # of groups, images, channels and columns; and where a tile begins

    @property
    def results(self) -> tuple[int, ...]:
        """Of a tile."""
        return (2,) * len(self.form.axes)

    @property
    def taps(self) -> tuple[int, ...]:
        return tuple(x.transforms.taps for x in self.form.axes)

    @property
    def products(self) -> tuple[int, ...]:
        return tuple(x.transforms.products for x in self.form.axes)

    def by(self, name: str, counts: Sequence[int], at: Callable[[Place], Expr]) -> Line:
        """What is at so many places, by the transforms of that name."""
        return transformed([getattr(x.transforms, name) for x in self.form.axes], counts, at)

    def at(self, place: Place) -> Letters:
        """The letters at one place of a tile."""
        found = self.letters
        return found | {
            x.place: expr.add(found[x.place], k * x.apart) for x, k in zip(self.form.axes, place, strict=True)
        }

    def tap(self, place: Place) -> Letters:
        """The letters of a tap, counted the way the image is."""
        axes = zip(self.form.axes, place, strict=True)
        return {x.tap: x.transforms.taps - 1 - k if x.flipped else k for x, k in axes}

    def inside(self, place: Place) -> tuple[Expr, ...]:
        """What must hold for a place to be one, where tiles go beyond the last."""
        at, found = self.at(place), []
        for x, k in zip(self.form.axes, place, strict=True):
            size = number(self.spec.size[x.place])
            if 2 * x.tiles(size) - x.apart * (1 - k) > size:
                found.append(rules.less(expr.as_expr(at[x.place]), expr.as_expr(size)))
        return tuple(found)

    def read(self, operand: int, letters: Letters) -> Expr:
        reader = Reader(self.core.inputs[operand], self.scope, self.core)
        return opened_read(reader, self.spec.operands[operand], letters)

    def image(self, place: Place) -> Expr:
        return self.read(self.form.a, self.letters | self.tap(place))

    def filter(self, tap: Place) -> Expr:
        return self.read(self.form.b, self.letters | self.tap(tap))

    def result(self, place: Place) -> Expr:
        return rules.guard(rules.both(*self.inside(place)), self.read(self.form.b, self.at(place)), const(0.0, float32))


class Panels(NamedTuple):
    """How columns are cut."""

    like: Tile
    panel: Index
    j: Index  # a column of the panel

    def reading(self, r: Reading) -> Reading:
        """For a column of a panel."""
        return r._replace(letters=r.letters | numbered(r.spec, r.form.columns, self.here))

    @property
    def here(self) -> Expr:
        return expr.as_expr(expr.add(expr.mul(self.panel, self.like.width), self.j))

    def cut(self, values: Line, columns: int) -> Line:
        """Zero after the last column."""
        if columns % self.like.width == 0:
            return values
        test, zero = rules.less(self.here, expr.as_expr(columns)), const(0.0, float32)
        return [rules.guard(test, e, zero) for e in values]


def numbered(spec: Spec, names: Sequence[str], i: Index_) -> Letters:
    """What letters are at a number of theirs together."""
    return dict(zip(names, split(i, tuple(spec.size[x] for x in names)), strict=True))


def panels_of(columns: int) -> Panels:
    target = targets.current()
    (height, vectors), lanes = target.tile(float32), target.lanes(float32)
    like = Tile(height, min(vectors, -(-columns // lanes)), lanes, float32, None, None)
    return Panels(like, expr.index(-(-columns // like.width), "panel"), expr.index(like.width, "column"))


def apart(n: int) -> int:
    """From one product to the next: not a multiple of a page, or all would fall into one set of the cache."""
    return n + 2 * targets.current().lanes(float32)


def blocks(n: int, most: int) -> int:
    """How many blocks of so many at most: a multiple of EVEN, so that threads have as much to do."""
    found = -(-n // most)
    return -(-found // EVEN) * EVEN if n >= EVEN else found
