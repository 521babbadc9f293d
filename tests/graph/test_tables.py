"""Products of looked up rows: made of the table where it has fewer rows, and the values stay."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.compiler.native import check
from tinyflow.core.dtypes import bfloat16, float32, int32
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import Node, rewrite, toposort
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import CONTRACT, einsum, matmul
from tinyflow.ops.indexing import gather, scatter_add
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import permute, reshape
from tinyflow.ops.reduction import sum_
from tinyflow.passes.gradient import gradients
from tinyflow.passes.tables import tables

ROWS = 5
TABLE = placeholder(float32, (ROWS, 8), "table")
LONG = placeholder(float32, (60, 8), "long")
W = placeholder(float32, (8, 6), "W")
V = placeholder(float32, (6, 8), "V")
U = placeholder(float32, (2, 8, 6), "U")
I = placeholder(int32, (4, 10), "i")
G = placeholder(float32, (40, 6), "g")
H = placeholder(float32, (4, 10, 6), "h")
FED = {
    **{x: np.random.default_rng(n).uniform(-1, 1, x.shape).astype("f4") for n, x in enumerate((TABLE, LONG, W, V, U, G, H))},
    I: np.random.default_rng(9).integers(0, ROWS, I.shape).astype("i4"),
}  # fmt: skip
X = gather(TABLE, I)  # (4, 10, 8)
FLAT, TURNED = reshape(X, (40, 8)), reshape(permute(X, (1, 0, 2)), (40, 8))

# fmt: off
MADE_OF_THE_TABLE: dict[str, Callable[[], Node]] = {
    "rows of the result":            lambda: matmul(FLAT, W),
    "of two axes":                   lambda: einsum("bti,ij->btj", X, W),
    "turned":                        lambda: matmul(TURNED, W),
    "the other operand":             lambda: einsum("ji,bti->btj", V, X),
    "several letters beside":        lambda: einsum("bti,nij->btnj", X, U),
    "summed over":                   lambda: einsum("ri,rj->ij", FLAT, G),
    "summed over, as second":        lambda: einsum("rj,ri->ji", G, TURNED),
    "summed over two axes":          lambda: einsum("bti,btj->ij", X, H),
    "rows added up":                 lambda: scatter_add(matmul(G, V), reshape(I, (40,)), ROWS),
    "rows of two axes added up":     lambda: scatter_add(reshape(matmul(G, V), (4, 10, 8)), I, ROWS),
    "turned rows added up":          lambda: scatter_add(permute(reshape(matmul(G, V), (10, 4, 8)), (1, 0, 2)), I, ROWS),
    "added up, of two axes":         lambda: scatter_add(einsum("btj,ji->bti", H, V), I, ROWS),
}
LEFT_ALONE: dict[str, Callable[[], Node]] = {
    "more rows than are looked up":  lambda: matmul(reshape(gather(LONG, I), (40, 8)), W),
    "the width is cut":              lambda: matmul(reshape(X, (80, 4)), placeholder(float32, (4, 6), "w")),
    "a batch of products":           lambda: einsum("bti,bij->btj", X, placeholder(float32, (4, 8, 6), "w")),
    "the width is kept":             lambda: einsum("bti,bt->bti", X, placeholder(float32, (4, 10), "w")),
    "part of the rows is summed":    lambda: einsum("bti,btj->bij", X, H),
    "low precision":                 lambda: matmul(e.cast(FLAT, bfloat16), e.cast(W, bfloat16)),
    "rows of no product":            lambda: scatter_add(e.exp(reshape(G, (4, 10, 6))), I, ROWS),
    "more places than rows added":   lambda: scatter_add(matmul(G, V), reshape(I, (40,)), 60),
}
# fmt: on


def longest(*roots: Node) -> int:
    """The products of the largest contraction."""
    return max(int(np.prod([n for _, n in n.attrs["spec"].sizes])) for n in toposort(roots) if n.op is CONTRACT)


@pytest.mark.parametrize("name", MADE_OF_THE_TABLE)
def test_products_are_made_of_the_table(name: str) -> None:
    root = MADE_OF_THE_TABLE[name]()
    new = rewrite([root], tables)[root]
    assert longest(new) * 8 == longest(root)
    want, got = evaluate([root], FED)[root], evaluate([new], FED)[new]
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    check([root], FED, added=40)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_others_stay(name: str) -> None:
    root = LEFT_ALONE[name]()
    assert rewrite([root], tables)[root] is root


def test_the_gradients_share_what_was_scattered() -> None:
    loss = sum_(e.tanh(matmul(TURNED, W)))
    roots = gradients([loss], [TABLE, W])
    new: dict[Node, Any] = rewrite([loss, *roots], tables)
    order = toposort([new[n] for n in roots])
    assert sum(n.op.name == "scatter_add" and n.ndim == 2 for n in order) == 1  # besides how often each row is met
    assert longest(*(new[n] for n in roots)) == ROWS * 8 * 6
    check([loss, *roots], FED, added=60)


@pytest.mark.parametrize("name", MADE_OF_THE_TABLE)
def test_rows_that_nobody_looks_up_do_not_count(name: str) -> None:
    """An infinity in such a row, or in what only such rows are multiplied by, makes no NaN."""
    root = MADE_OF_THE_TABLE[name]()
    new = rewrite([root], tables)[root]
    fed = {**FED, I: np.where(FED[I] == 2, 1, FED[I]).astype("i4"), TABLE: FED[TABLE].copy(), V: FED[V].copy()}
    fed[TABLE][2], fed[V][0, 0] = np.inf, np.inf
    want, got = evaluate([root], fed)[root], evaluate([new], fed)[new]
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
