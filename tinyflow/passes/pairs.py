"""pairs: products of bfloat16 two at a time, for machines that have an instruction for it.

    sum over k of a[m, k] b[k, n]  ->  sum over k/2 of the dot product of pairs a[m, k..k+1] and b[k..k+1, n]

A pair is 32 bits, so that all that is known of contractions of float32 (panels, tiles, strides) holds for half as many.
"""

from __future__ import annotations

from tinyflow.core.dtypes import bfloat16
from tinyflow.graph.node import Node, at_line, make
from tinyflow.ops.contraction import CONTRACT, PAIRS, Spec
from tinyflow.ops.elementwise import cast


def pairs(node: Node) -> Node:
    if node.op is not CONTRACT or len(node.inputs) != 2 or any(x.dtype is not bfloat16 for x in node.inputs):
        return node
    spec: Spec = node.attrs["spec"]
    letter = next((a for a in spec.folded if can_pair(spec, a)), None)
    if letter is None:
        return node
    words = [make(PAIRS, x, axis=where(p, letter)) for x, p in zip(node.inputs, spec.operands, strict=True)]
    sizes = tuple((a, n // 2 if a == letter else n) for a, n in spec.sizes)
    return at_line(node, cast(make(CONTRACT, *words, spec=spec._replace(sizes=sizes, pairs=True)), node.dtype))


def can_pair(spec: Spec, letter: str) -> bool:
    """Whether a letter summed over is an axis of both operands, and of even size."""
    n = spec.size[letter]
    alone = all(
        sum(p.letter == letter for p in places) == 1 == sum(any(a == letter for a, _ in p.terms) for p in places)
        for places in spec.operands
    )
    return alone and isinstance(n, int) and n % 2 == 0 and n > 0


def where(places: tuple[object, ...], letter: str) -> int:
    return next(d for d, p in enumerate(places) if p.letter == letter)  # type: ignore[attr-defined]
