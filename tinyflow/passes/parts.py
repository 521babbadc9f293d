"""parts: the sum or the extremum of very many numbers is made in parts, which the threads share.

    sum of everything           ->  (p, n/p) over n/p, then over p
    max of (r, c) over r        ->  (p, r/p, c) over r/p, then over p            chunks of rows stay in a cache

How many parts there are depends on the shape alone, and so does the order of additions. Sums of columns are `sums.py`'s.
"""

from __future__ import annotations

import math

from tinyflow.graph.node import Node, at_line, is_static, make
from tinyflow.ops.movement import reshape
from tinyflow.ops.reduction import MAX, MIN, SUM

MANY = 1 << 17  # elements worth the trouble
CHUNK = 1 << 16  # elements of a part, about
FEWEST, MOST = 16, 256  # parts


def parts(node: Node) -> Node:
    if node.op not in (SUM, MAX, MIN) or not is_static(node.inputs[0].shape):
        return node
    (x,), axes = node.inputs, node.attrs["axes"]
    shape: tuple[int, ...] = x.shape  # type: ignore[assignment]
    size, leading = math.prod(shape), axes == tuple(range(len(axes)))
    columns = math.prod(shape[len(axes) :])
    done = node.op is SUM and node.dtype.is_floating and columns > 1
    if size < MANY or not leading or done:
        return node
    rows = size // columns
    count = nearest_divisor(rows, min(max(size // CHUNK, FEWEST), MOST))
    if count < FEWEST // 2 or rows // count < 2:
        return node
    first = make(node.op, reshape(x, (count, rows // count, columns)), axes=(1,))
    return at_line(node, reshape(make(node.op, first, axes=(0,)), node.shape))


def nearest_divisor(n: int, wanted: int) -> int:
    """The divisor of n that is nearest, by ratio, among those up to twice as many."""
    found = [d for d in range(1, 2 * wanted + 1) if n % d == 0]
    return min(found, key=lambda d: max(d / wanted, wanted / d))


__all__ = ["parts"]
