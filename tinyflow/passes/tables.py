"""tables: a product of rows looked up in a table that has fewer rows, by the product of the table.

    table[index] @ W              ->  (table @ W)[index]
    table[index].T @ g            ->  table.T @ scatter_add(g, index)
    scatter_add(g @ W, index)     ->  scatter_add(g, index) @ W

So the first layer on an embedding multiplies each symbol once and not each place of each sequence; likewise its two
gradients, which share what was scattered. To look rows up, or to add them up, reads memory once: products are the work.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyflow.core import expr
from tinyflow.graph.node import Dim, Node, at_line, make
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import CONTRACT, Spec
from tinyflow.ops.indexing import GATHER, SCATTER, gather, scatter_add
from tinyflow.ops.leaf import constant
from tinyflow.ops.movement import PERMUTE, RESHAPE, expand, inverse, permute, reshape
from tinyflow.passes.rewrite import trace

FEWER = 4  # times as many rows are looked up as the table has


def tables(node: Node) -> Node:
    if not node.dtype.is_floating or node.dtype.is_low:
        return node
    new = looked_up(node) if node.op is CONTRACT else scattered(node) if node.op is SCATTER else None
    if new is None:
        return node
    trace("tables", node, new)
    return at_line(node, new)


def looked_up(node: Node) -> Node | None:
    """A product with rows of a table: they are rows of the result, or are summed over."""
    spec: Spec = node.attrs["spec"]
    for k, x in enumerate(node.inputs if is_product(node) else ()):
        if (found := lookup(x)) is None:
            continue
        table, index = found
        (*entries, _), others, other = letters(spec, k), letters(spec, 1 - k), node.inputs[1 - k]
        if starts(spec.out, entries) and not set(entries) & set(others):
            return gather(product(merged(spec, entries, table.shape[0]), k, table, other), index)
        if starts(others, entries) and not set(entries) & set(spec.out):
            total = scatter_add(other, index, table.shape[0])
            return product(merged(spec, entries, table.shape[0]), k, met(table, index), total)
    return None


def scattered(node: Node) -> Node | None:
    """Rows of a product that are added up where rows of an operand can be."""
    (u, index), size = node.inputs, node.attrs["size"]
    if node.attrs["batch"] or u.ndim != index.ndim + 1 or not fewer(size, index):
        return None
    while u.op in (RESHAPE, PERMUTE):
        (x,) = u.inputs
        if x.shape[-1:] != u.shape[-1:] or (u.op is PERMUTE and u.attrs["order"][-1] != u.ndim - 1):
            return None
        index = reshape(index, x.shape[:-1]) if u.op is RESHAPE else permute(index, inverse(u.attrs["order"][:-1]))
        u = x
    if not is_product(u):
        return None
    spec: Spec = u.attrs["spec"]
    entries = spec.out[:-1]
    for k, g in enumerate(u.inputs):
        if starts(letters(spec, k), entries) and not set(entries) & set(letters(spec, 1 - k)):
            return met(product(merged(spec, entries, size), k, scatter_add(g, index, size), u.inputs[1 - k]), index)
    return None


def met(x: Node, index: Node) -> Node:
    """x with zeros in the rows that no entry is of: there zero times an infinity is not to make a NaN of nothing."""
    rows = x.shape[0]
    count = scatter_add(expand(constant(1.0, x.dtype), index.shape), index, rows)
    some = reshape(e.less(expand(constant(0.0, x.dtype), (rows,)), count), (rows, *(1 for _ in x.shape[1:])))
    return e.where(expand(some, x.shape), x, expand(constant(0.0, x.dtype), x.shape))


def lookup(x: Node) -> tuple[Node, Node] | None:
    """The table and the index of rows (entries..., width) of which a table (rows, width) has fewer."""
    if x.op is GATHER:
        table, index = x.inputs
        return (table, index) if not x.attrs["batch"] and table.ndim == 2 and fewer(table.shape[0], index) else None
    if x.op not in (RESHAPE, PERMUTE) or x.ndim < 2 or x.shape[-1:] != x.inputs[0].shape[-1:]:
        return None
    if x.op is PERMUTE and x.attrs["order"][-1] != x.ndim - 1:
        return None
    if (found := lookup(x.inputs[0])) is None:
        return None
    table, index = found
    return table, reshape(index, x.shape[:-1]) if x.op is RESHAPE else permute(index, x.attrs["order"][:-1])


def fewer(rows: Dim, index: Node) -> bool:
    entries = expr.product(index.shape)
    return isinstance(rows, int) and isinstance(entries, int) and FEWER * rows <= entries


def is_product(node: Node) -> bool:
    """Whether a contraction has two operands, each letter once in each."""
    if node.op is not CONTRACT or len(node.inputs) != 2:
        return False
    spec: Spec = node.attrs["spec"]
    return spec.plain and not spec.pairs and all(len(set(xs)) == len(xs) for xs in (letters(spec, 0), letters(spec, 1)))


def letters(spec: Spec, k: int) -> list[str]:
    return [p.letter or "" for p in spec.operands[k]]


def starts(names: Sequence[str], first: Sequence[str]) -> bool:
    return list(names[: len(first)]) == list(first)


def merged(spec: Spec, entries: Sequence[str], rows: Dim) -> Spec:
    """With one letter, of a table's rows, in the place of several."""
    gone = entries[1:]
    operands = tuple(tuple(p for p in positions if p.letter not in gone) for positions in spec.operands)
    sizes = tuple((a, rows if a == entries[0] else n) for a, n in spec.sizes if a not in gone)
    return Spec(operands, tuple(a for a in spec.out if a not in gone), sizes)


def product(spec: Spec, k: int, x: Node, other: Node) -> Node:
    return make(CONTRACT, *((x, other) if k == 0 else (other, x)), spec=spec)
