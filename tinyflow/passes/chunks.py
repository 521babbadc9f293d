"""chunks: a product summed over many rows, as a few products over some of the rows each, and their sum.

    x[k, i] y[k, j] -> z[i, j]      becomes      x[c, k, i] y[c, k, j] -> z[c, i, j], summed over c

The gradient of a weight sums over the rows of a batch. Threads share a layer's rows, so each has written some of both
operands; to share the weight's elements each would have to read all of what the others have just written, which is
slower than computing with it. So each takes the chunk that it has, and only the results are read by others. How many
chunks there are depends on shapes alone, and so does the order of additions.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinyflow.core import expr
from tinyflow.graph.node import Dim, Node, at_line, make
from tinyflow.ops.contraction import CONTRACT, Position, Spec
from tinyflow.ops.movement import reshape
from tinyflow.ops.reduction import SUM

LEAST = 512  # rows
WORTH = ((128, 8), (16, 4), (4, 2))  # elements read for each element of the result, and how many chunks pay then
DEEP, MANY = (
    128,
    4096,
)  # so many, of so many rows, that chunks pay wherever the rows lie: there are too few results to share


def chunks(node: Node) -> Node:
    if node.op is not CONTRACT or len(node.inputs) != 2 or not node.dtype.is_floating or node.dtype.is_low:
        return node  # what low types add up is kept in float32 to the end
    spec: Spec = node.attrs["spec"]
    letter, count = shared_rows(node, spec)
    if count == 1:
        return node
    size = spec.size
    chunk = next(a for a in map(chr, range(0x3B1, 0x3C9)) if a not in size)
    inputs, operands = [], []
    for x, positions in zip(node.inputs, spec.operands, strict=True):
        (d,) = [d for d, p in enumerate(positions) if p.letter == letter]
        inputs.append(reshape(x, (*x.shape[:d], count, size[letter] // count, *x.shape[d + 1 :])))
        operands.append((*positions[:d], Position(((chunk, 1),)), *positions[d:]))
    sizes = ((chunk, count), *((a, n // count if a == letter else n) for a, n in spec.sizes))
    parts = make(CONTRACT, *inputs, spec=Spec(tuple(operands), (chunk, *spec.out), sizes))
    return at_line(node, make(SUM, at_line(node, parts), axes=(0,)))


def shared_rows(node: Node, spec: Spec) -> tuple[str, int]:
    """The letter summed over that is cut, an axis of both operands, and how many chunks of it pay: one if none do."""
    size = spec.size
    if not all(p.letter or is_one(p, size) for positions in spec.operands for p in positions):
        return "", 1  # a convolution reads each image in many places: it is better off with few of its channels
    sizes = (*(expr.product(x.shape) for x in node.inputs), expr.product(node.shape))
    rows = expr.product(size[a] for a in spec.folded)
    if not all(isinstance(n, int) for n in sizes) or not isinstance(rows, int) or rows < LEAST or not sizes[2]:
        return "", 1
    read = (sizes[0] + sizes[1]) / sizes[2]  # type: ignore[operator]
    for letter in spec.folded:
        axes = [[d for d, p in enumerate(positions) if p.letter == letter] for positions in spec.operands]
        deep = read >= DEEP and rows >= MANY and all(len(found) == 1 for found in axes)
        if axes == [[0], [0]] or deep:
            n = size[letter]
            return letter, next((c for least, c in WORTH if read >= least and n % c == 0), 1)
    return "", 1


def is_one(p: Position, size: Mapping[str, Dim]) -> bool:
    """Whether a window has but one place."""
    return p.offset == 0 and p.divisor == 1 and [c for a, c in p.terms if size[a] != 1] == [1]
