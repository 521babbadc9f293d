"""Borders: products with the zeros around an image are left out.

Where the rows of a tile are the same place of several images, the taps that fall outside are the same for all of them:
a 3x3 convolution of 4x4 images multiplies by zeros in three places of ten. So the rows of M run over the images, one
run for each place, and each tile's block of K is narrowed to the taps that are inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import free, stride
from tinyflow.compiler.phrases import add, greatest, least, sub
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Apply, Expr, Index
from tinyflow.ops.contraction import Position, Spec

if TYPE_CHECKING:
    from tinyflow.compiler.operands import Roles

WORTH = 0.93  # leaving out less does not pay for shorter blocks of K


class Border(NamedTuple):
    """Which letters of M are places, the others number images; how many of the first letters of K are taps.

    A run is one place of some images, and the places of these images follow each other: whoever has made an image reads it.
    """

    places: tuple[str, ...]
    images: tuple[str, ...]
    taps: int
    together: int  # images of a run

    def of_run(self, run: Index, spec: Spec) -> tuple[expr.Index_, expr.Index_]:
        """(which images, which place)"""
        count = expr.product(spec.size[x] for x in self.places)
        return expr.floordiv(run, count), expr.mod(run, count)


def border(spec: Spec, roles: Roles, shape: tuple[expr.Index_, ...], height: int) -> Border | None:
    """The border of the left operand; None where it is thin, or there are not enough images for half a tile of a height."""
    edges = [(p, n) for p, n in zip(spec.operands[roles.a], shape, strict=True) if not p.letter]
    used = {a for p, _ in edges for a, _ in p.terms}
    places, images = (tuple(x for x in roles.m if (x in used) == edge) for edge in (True, False))
    taps = [x for x in roles.k if x in used]
    one_step = all(abs(c) == 1 for p, _ in edges for a, c in p.terms if a in taps)
    simple = used <= {*places, *taps} and tuple(taps) == roles.k[: len(taps)] and len(taps) < len(roles.k)
    count = expr.product(spec.size[x] for x in images)
    if not edges or not simple or not one_step or not isinstance(count, int) or count < height // 2:
        return None
    share = 1.0
    for p, n in edges:
        found = share_inside(spec, p, n)
        if found is None:
            return None
        share *= found
    together = next((m for m in range(height, height // 2, -1) if count % m == 0), count)
    return Border(places, images, len(taps), together) if share <= WORTH else None


def share_inside(spec: Spec, p: Position, n: expr.Index_) -> float | None:
    """Which part of the places that a position takes are inside; None where sizes are not known."""
    sizes = [m for a, _ in p.terms if isinstance(m := spec.size[a], int) and m]
    if p.divisor != 1 or not isinstance(p.offset, int) or not isinstance(n, int) or len(sizes) < len(p.terms):
        return None
    at: Any = sum(np.ix_(*(c * np.arange(m) for (_, c), m in zip(p.terms, sizes, strict=True))), np.array(p.offset))
    return float(np.mean((at >= 0) & (at < n)))


def tests(a: Expr) -> tuple[tuple[Expr, ...], Expr]:
    """What must hold for A to be inside, and A there."""
    if not (isinstance(a, Apply) and a.fn == "guard"):
        return (), a
    condition, inside, _ = a.args
    found, stack = [], [condition]
    while stack:
        x = stack.pop()
        if isinstance(x, Apply) and x.fn == "and":
            stack.extend(x.args)
        else:
            found.append(x)
    return tuple(found), inside


def narrowed(em: Emitter, conditions: tuple[Expr, ...], letter: Index, low: Value, high: Value) -> tuple[Value, Value]:
    """The part of low..high of a letter of K where all conditions hold; none of it where one without it does not."""
    good = Value("true", bool_, False)
    for c in conditions:
        assert isinstance(c, Apply) and c.fn in ("le", "lt")
        if letter not in free(c):
            good = em.op("and {t} {0}, {1}", [good, em.value(c)])
            continue
        room = expr.add(c.args[1], expr.mul(c.args[0], -1))  # the condition says that it is at least 0, or 1
        room = expr.add(room, -1 if c.fn == "lt" else 0)
        step = stride(room, letter)
        rest = em.value(expr.add(room, expr.mul(letter, expr.mul(step, -1))))  # type: ignore[arg-type]
        if step == 1:
            low = greatest(em, low, sub(em, Value("0", int64, False), rest))
        else:
            high = least(em, high, add(em, rest, Value("1", int64, False)))
    high = greatest(em, high, low)
    return low, em.choose(good, high, low)
