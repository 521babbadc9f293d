"""The recipe of products of few rows with a large matrix that lies along K: the matrix is the left operand.

    x (m, k)  W (n, k)  ->  y (m, n)      as      W x' -> y' (n, m), and y' is turned

The micro-kernel broadcasts single elements of its left operand, so W is read where it lies, once, row by row. As the right
operand it would be turned first: written and read again, which for few rows takes about as long as the product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tinyflow.compiler import contraction, transpose
from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.loops import Kernel, Scratch, Store, Target
from tinyflow.compiler.lower import Scope
from tinyflow.compiler.minimal import number
from tinyflow.compiler.operands import roles
from tinyflow.core import expr
from tinyflow.graph.node import Node, make
from tinyflow.ops.contraction import CONTRACT, Spec
from tinyflow.runtime import target as targets

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

MOST_ROWS = 128
COLUMNS, WIDE = 4, 256  # times as many as rows, and so many at least
LEAST = 1 << 17  # elements of the matrix
PARTS = 8  # of the columns


def fits(core: Node, buffered: Buffers) -> bool:
    """Whether it is such a product of known sizes, and the matrix is not one that is packed once for many steps."""
    spec: Spec = core.attrs["spec"]
    found = roles(spec)
    letters = () if found is None else found[3:]
    if found is None or found.batch or not spec.plain or core.dtype.is_low or any(len(x) != 1 for x in letters):
        return False
    m, n, k = (spec.size[x] for (x,) in letters)
    if not (isinstance(m, int) and isinstance(n, int) and isinstance(k, int)):
        return False
    w = core.inputs[found.b]
    along = w.op.kind == "leaf" and spec.operands[found.b][-1].letter == found.k[0] and w.dtype is core.dtype
    once = buffered.repeated or w in buffered.lasting
    return along and not once and 1 < m <= MOST_ROWS and n >= max(COLUMNS * m, WIDE) and n * k >= LEAST


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel] | None:
    """None where the plain recipe is to do it. Else its kernels, one that turns the results, and one for what is made of them."""
    core = group.core
    assert core is not None
    if not fits(core, buffered):
        return None
    spec: Spec = core.attrs["spec"]
    dtype, rows, columns = core.dtype.computed, *(number(n) for n in core.shape)
    other = make(CONTRACT, *core.inputs, spec=spec._replace(out=spec.out[::-1]))
    results, turned = (
        Scratch(f"{how} of {core.label}", expr.product((*core.shape, dtype.size))) for how in ("columns", "rows")
    )
    alone = replace(group, stores=[other], core=other, needs=None)
    kernels = contraction.lower(alone, buffered, {other: [Target(results, "own", dtype)]}, f"{name}t")
    kernels = [replace(k, nodes=(core,)) for k in kernels]
    m, n = expr.index(rows, "row"), expr.index(columns, "column")
    at, back = expr.add(expr.mul(m, columns), n), expr.add(expr.mul(n, rows), m)
    copied = Store(Target(turned, "own", dtype), (n,), at, expr.load(results, back, dtype), n)
    copy = Kernel(f"{name}c", (m,), (copied,), conditions=group.conditions, nodes=(core,))
    # Threads have some columns of all rows, as they have in the product and where it is turned.
    parts = math.gcd(columns, PARTS)
    part, j = expr.index(parts, "part"), expr.index(columns // parts, "column")
    place = expr.add(expr.mul(part, columns // parts), j)
    scope = Scope(buffered, {}, None)
    result = expr.load(turned, expr.substitute(at, {n: place}), dtype)
    stores = contraction.made_of(result, group, dict(zip(spec.out, (m, place), strict=True)), j, scope, homes)
    stores = [s._replace(inner=(j,)) for s in stores]
    after = Kernel(name, (part, m), tuple(stores), tuple(scope.checks), 0, None, group.conditions, tuple(group.stores))
    return [*kernels, transpose.turned_copy(copy, targets.current().vector_bytes), after]
