"""Matrix products of every size and layout, in tiles and in plain loops, with what is computed from their results."""

import itertools

import numpy as np
import pytest

from tests.compiler.native import THREADS, check, check_close, needs_avx2, run, same_bits
from tests.compiler.test_large import text
from tinyflow import execute
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import bool_, float32, float64, int32, int64
from tinyflow.core.expr import Expr, fresh_dim
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import CONTRACT, einsum, matmul
from tinyflow.ops.indexing import gather
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.movement import concat, expand, pad, permute, reshape, slice_
from tinyflow.ops.reduction import max_, sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients

SIZES = (1, 2, 3, 7, 8, 9, 14, 15, 16, 17, 31, 33, 64, 100, 129)
LAYOUTS = list(itertools.product((False, True), repeat=2))  # whether the left, the right operand lies transposed


def random(shape, dtype=float32, seed=0):
    rng = np.random.default_rng(seed)
    if dtype is bool_:
        return rng.integers(0, 2, shape).astype(bool)
    return (rng.uniform(-1, 1, shape) if dtype.is_floating else rng.integers(-9, 9, shape)).astype(dtype.numpy)


def product(m, k, n, turned, dtype=float32):
    """The product of an (m, k) and a (k, n) matrix, either of them transposed, and what to feed it."""
    shapes = [(k, m) if turned[0] else (m, k), (n, k) if turned[1] else (k, n)]
    a, b = (placeholder(dtype, s, name) for s, name in zip(shapes, "ab", strict=True))
    return matmul(a, b, *turned), a, b


def fed_by(leaves):
    return {x: random(x.shape, x.dtype, k) for k, x in enumerate(leaves)}


# ------------------------------------------------------------------------------------------ sizes


def latin():
    """Every pair of (m, k), (m, n) and (k, n) once, in some layout."""
    count = len(SIZES)
    for i, j in itertools.product(range(count), repeat=2):
        yield SIZES[i], SIZES[j], SIZES[(i + j) % count], LAYOUTS[(i + 2 * j + i * j) % 4]


@pytest.mark.parametrize("m", SIZES)
def test_sizes_known(m):
    """All products with so many rows are one program: their kernels are compiled together."""
    made = [product(m, k, n, turned, float64 if k == n else float32) for rows, k, n, turned in latin() if rows == m]
    fed = {}
    for _, a, b in made:
        fed |= fed_by((a, b))
    check([node for node, _, _ in made], fed, threads=(1, 2, 3), added=129)


@pytest.mark.parametrize("turned", LAYOUTS, ids=str)
def test_sizes_known_when_running(turned):
    """One program for all sizes."""
    node, a, b = product(fresh_dim("m"), fresh_dim("k"), fresh_dim("n"), turned)
    runner = execute.compile([node])
    numbers = random((400 * 400,))
    for count, (m, k, n) in enumerate(
        itertools.product((0, *SIZES), (0, 1, 2, 9, 17, 33, 129, 400), (0, 1, 7, 16, 31, 33, 100))
    ):
        x, y = (
            numbers[: m * k].reshape((k, m) if turned[0] else (m, k)),
            numbers[-k * n :][: k * n].reshape((n, k) if turned[1] else (k, n)),
        )
        with config(THREADS=1 + count % 4):
            (got,) = runner({a: x, b: y}, {})
        want = (x.T if turned[0] else x) @ (y.T if turned[1] else y)
        check_close(got, want, k)


def test_few_columns():
    """Results of fewer columns than a vector has lanes: rows are the lanes where they are neighbours in the left operand."""
    roots, fed = [], {}
    for m, k, n in itertools.product((15, 16, 33, 61, 784), (1, 9, 500), (2, 3, 5, 6, 10, 12, 13)):
        for dtype in (float32, float64) if m == 61 else (float32,):
            node, a, b = product(m, k, n, (True, False), dtype)
            v = placeholder(dtype, (m, n), "v")
            roots += [node, v - e.exp(node) * 0.5]
            fed |= fed_by((a, b, v))
    check(roots, fed, threads=(1, 2, 3), added=520)


@pytest.mark.parametrize("wide, packed", [(1024, True), (1000, False), (2048, True)])
def test_columns_of_a_matrix_a_page_apart_are_packed(wide, packed):
    """The left operand is some columns of a matrix whose rows lie a multiple of a page apart, or do not."""
    roots, fed = [], {}
    for k, first, columns, n in ((5, 0, 14, 33), (40, 3, 44, 48), (400, 16, 984, 17), (7, 0, 1000, 64)):
        x, b = placeholder(float32, (k, wide), "x"), placeholder(float32, (k, n), "b")
        y = matmul(slice_(x, (0, first), (k, columns)), b, transpose_a=True)
        roots += [y, e.tanh(y) * 0.5]
        fed |= fed_by((x, b))
    check(roots, fed, threads=(1, 2, 3), added=400)
    for y in roots[::2]:
        shown = "".join(str(k.recipe) for k in build(pipeline.run([y]), {}).kernels)
        assert ("A packed by rows" in shown) == packed


@pytest.mark.parametrize("rows", [None, 1, 2, 5, 33])
def test_few_columns_of_many_terms(rows):
    """Terms are the lanes where they are neighbours in the left operand, whatever the layout of the right one."""
    roots, fed = [], {}
    for count, (k, n) in enumerate(itertools.product((256, 263, 784, 1024), (2, 5, 8, 12))):
        for dtype in (float32, float64) if k == 263 else (float32,):
            node, a, b = product(rows or fresh_dim(), k, n, (False, bool(count % 2)), dtype)
            roots += [node, e.tanh(node) * 0.5]
            fed |= {
                x: random([7 if isinstance(d, Expr) else d for d in x.shape], dtype, j) for j, x in enumerate((a, b))
            }
    check(roots, fed, threads=(1, 2, 3), added=1024)
    assert rows == 1 or "_terms(" in text(roots[:1])


def test_few_columns_of_many_terms_in_batches():
    a, b = placeholder(float32, (3, 20, 300), "a"), placeholder(float32, (3, 300, 6), "b")
    check([matmul(a, b)], fed_by((a, b)), threads=(1, 2, 3), added=300)


def test_what_lies_after_a_row_is_not_read():
    """Of the last few terms a vector has the rest of the row, not what follows it."""
    node, a, b = product(9, 300, 10, (False, False))
    x = random((9, 600))
    x[:, 300:] = np.nan
    got = execute.compile([node])({a: x[:, :300], b: random((300, 10))}, {})[0]
    check_close(got, x[:, :300] @ random((300, 10)), 300)


def test_an_update_of_few_columns_in_place():
    """A row is read where the row before was stored in part of a vector."""
    for n in (1, 5, 10, 15):
        node, a, b = product(40, 300, n, (True, False), float32)
        v = variable(float32, (40, n), "v")
        runner = execute.compile([], {v: v - 0.25 * node})
        fed = fed_by((a, b, v))
        for threads in THREADS:
            store = {v: fed[v].copy()}
            with config(THREADS=threads):
                runner({a: fed[a], b: fed[b]}, store)
            check_close(store[v], fed[v] - np.float32(0.25) * (fed[a].T @ fed[b]), 300)


# fmt: off
EINSUMS = [  # spec, shapes
    ("ij,jk->ik",          (40, 1000), (1000, 50)),     # several blocks of K
    ("ij,jk->ik",          (3, 5000), (5000, 3)),
    ("ij,jk->ik",          (1, 2000), (2000, 700)),     # one row
    ("ij,jk->ik",          (700, 2000), (2000, 1)),     # one column
    ("ij,jk->ik",          (200, 5), (5, 1100)),        # several groups of panels
    ("ij,kj->ki",          (50, 400), (60, 400)),
    ("ji,jk->ki",          (400, 50), (400, 60)),
    ("bij,bjk->bik",       (5, 17, 33), (5, 33, 20)),
    ("bij,bkj->bik",       (4, 9, 16), (4, 40, 16)),
    ("bji,bjk->bki",       (3, 50, 20), (3, 50, 31)),
    ("bij,bjk->ibk",       (3, 20, 31), (3, 31, 32)),
    ("ibj,bjk->ikb",       (20, 3, 31), (3, 31, 32)),
    ("abij,abjk->abik",    (2, 3, 15, 16), (2, 3, 16, 17)),
    ("aibj,abkj->aibk",    (2, 9, 3, 16), (2, 3, 20, 16)),
    ("bhqd,bhkd->bhqk",    (2, 4, 33, 8), (2, 4, 33, 8)),
    ("bhqk,bhkd->bqhd",    (2, 4, 33, 33), (2, 4, 33, 8)),
    ("ijk,kl->ijl",        (5, 7, 40), (40, 33)),
    ("ijk,jkl->il",        (20, 7, 11), (7, 11, 33)),   # two letters are summed over
    ("ijk,kjl->il",        (20, 7, 11), (11, 7, 33)),
    ("ijk,ljk->il",        (20, 70, 11), (33, 70, 11)), # and in several blocks
    ("kil,kjl->ij",        (9, 20, 70), (9, 33, 70)),
    ("ij,jkl->ikl",        (20, 30), (30, 4, 9)),
    ("ij,jkl->kil",        (20, 30), (30, 4, 9)),
    ("i,j->ij",            (100,), (70,)),
    ("ij,j->i",            (100, 300), (300,)),
    ("i,ij->j",            (300,), (300, 100)),
    ("ij,ij->i",           (50, 70), (50, 70)),
    ("ij,ij->",            (50, 70), (50, 70)),
    ("ij,ij->ij",          (50, 70), (50, 70)),
    ("ij,jk->",            (5, 70), (70, 9)),
    ("ij->j",              (50, 70),),
    ("ii->i",              (40, 40),),
    ("ii->",               (40, 40),),
    ("bii->b",             (5, 40, 40),),
]
# fmt: on


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("text, shapes", [(t, s) for t, *s in EINSUMS], ids=lambda v: v if isinstance(v, str) else "")
def test_einsum(text, shapes, dtype):
    leaves = [placeholder(dtype, s, "x") for s in shapes]
    node = einsum(text, *leaves)
    fed = fed_by(leaves)
    (got,) = run([node], fed)
    check_close(got, np.einsum(text, *fed.values(), optimize=True), 5000)


@pytest.mark.parametrize("dtype", [int32, int64], ids=str)
def test_whole_numbers_are_exact(dtype):
    a, b = placeholder(dtype, (20, 300), "a"), placeholder(dtype, (300, 17), "b")
    check(
        [matmul(a, b), einsum("ij,ik->jk", a, reshape(b, (20, 255)))],
        {a: random(a.shape, dtype), b: random(b.shape, dtype, 1)},
    )


@pytest.mark.parametrize("batch", [0, 1, 2, 7])
def test_batches_known_when_running(batch):
    n = fresh_dim()
    x, w = placeholder(float32, (n, 9, 20), "x"), placeholder(float32, (n, 20, 33), "w")
    v = placeholder(float32, (20, 31), "v")
    nodes = [matmul(x, w), matmul(x, v), einsum("bij,bik->jk", x, x), einsum("bij,bkj->bik", x, x)]
    check(
        nodes, {x: random((batch, 9, 20)), w: random((batch, 20, 33), seed=1), v: random((20, 31), seed=2)}, added=200
    )


@pytest.mark.parametrize("rows", [0, 1, 13, 14, 15, 100, 256])
def test_a_layer_for_any_number_of_rows(rows):
    n = fresh_dim()
    x, w, b = placeholder(float32, (n, 40), "x"), placeholder(float32, (40, 33), "w"), placeholder(float32, (33,), "b")
    y = e.relu(matmul(x, w) + b)
    nodes = [y, *gradients([sum_(y * y)], [x, w, b])]
    check(nodes, {x: random((rows, 40)), w: random((40, 33), seed=1), b: random((33,), seed=2)}, added=1000)


# ------------------------------------------------------------------------------------------ what is made of the results

M, K, N = 50, 70, 40
X, W = placeholder(float32, (M, K), "x"), placeholder(float32, (K, N), "w")
B, R = placeholder(float32, (N,), "b"), placeholder(float32, (M, N), "r")
C, P, I = placeholder(float32, (M, 1), "c"), placeholder(bool_, (M, N), "p"), placeholder(int32, (M,), "i")
XW = matmul(X, W)
# fmt: off
EPILOGUES = {
    "bias, relu":        lambda: [e.relu(XW + B)],
    "residual":          lambda: [R + XW],
    "itself and more":   lambda: [XW, XW * 2.0, e.tanh(XW)],
    "transposed":        lambda: [permute(XW, (1, 0)) * 2.0, XW + 1.0],
    "columns":           lambda: [XW * C + B],
    "condition":         lambda: [e.where(P, XW, R)],
    "of two products":   lambda: [XW + matmul(X * 2.0, W)],
    "softmax":           lambda: [f.softmax(XW + B)],
    "row sums":          lambda: [sum_(XW, 1), max_(XW, 0)],
    "norm":              lambda: [f.layer_norm(XW + R, B, B, (1,))],
    "gathered rows":     lambda: [gather(XW, I) + R],
    "gathered beside":   lambda: [XW + gather(R, I)],
    "slice":             lambda: [slice_(XW, (3, 5), (40, 17)) + 1.0],
    "pad":               lambda: [pad(XW, (1, 0), (2, 3)) * 2.0],
    "reshaped":          lambda: [reshape(XW, (M * N,)) + 1.0, reshape(XW, (M // 2, 2, N))],
    "concat":            lambda: [concat([XW, R], 0) * 2.0, concat([R, XW, XW], 1)],
    "cast":              lambda: [e.cast(XW, float64), e.cast(XW * 10.0, int32) * 0 + e.cast(R, int32)],
    "in both":           lambda: [matmul(XW, permute(XW, (1, 0)))],
}
PRODUCERS = {
    "left":              lambda: [matmul(X * 2.0 + 1.0, W)],
    "right":             lambda: [matmul(X, e.relu(W))],
    "both":              lambda: [matmul(e.tanh(X), e.exp(W))],
    "sliced":            lambda: [matmul(slice_(X, (5, 1), (20, 60)), slice_(W, (9, 0), (60, 33)))],
    "steps":             lambda: [matmul(slice_(X, (49, 1), (20, 20), (-2, 3)), slice_(W, (0, 39), (20, 20), (3, -1)))],
    "padded":            lambda: [matmul(pad(X, (1, 5), (2, 4)), pad(W, (5, 1), (4, 0)))],
    "joined":            lambda: [matmul(concat([X, X], 1), concat([W, W * 2.0], 0))],
    "gathered":          lambda: [matmul(gather(X, I), W), matmul(R, gather(W, slice_(I, (0,), (N,))))],
    "one row":           lambda: [matmul(expand(reshape(B, (1, N)), (M, N)), W, transpose_b=True)],
    "masked":            lambda: [matmul(e.where(P, R, 0.0), W, transpose_b=True)],
    "reduced":           lambda: [matmul(X - sum_(X, 1, keepdims=True), W)],
    "softmax":           lambda: [matmul(f.softmax(X), W)],
    "split":             lambda: [matmul(reshape(X, (M * 2, K // 2)), reshape(W, (K // 2, 2 * N)))],
    "merged":            lambda: [einsum("ijk,kl->ijl", reshape(X, (M, 2, 35)), slice_(W, (0, 0), (35, N)))],
    "deep":              lambda: [matmul(e.relu(matmul(e.relu(XW + B), W, transpose_b=True)), W)],
}
# fmt: on
ALL = EPILOGUES | {f"of {k}": v for k, v in PRODUCERS.items()}


@pytest.mark.parametrize("name", ALL)
def test_what_is_computed_around_a_product(name):
    fed = fed_by((X, W, B, R, C, P))
    fed[I] = np.random.default_rng(9).integers(0, M, M).astype(np.int32)
    check(ALL[name](), fed, added=500)


@needs_avx2
@pytest.mark.parametrize("name", ["bias, relu", "softmax", "transposed", "of both", "of padded", "of softmax"])
def test_what_is_computed_around_a_product_with_shorter_vectors(name):
    fed = fed_by((X, W, B, R, C, P))
    with config(TARGET="avx2"):
        check(ALL[name](), fed, threads=(1, 2), added=500)


@pytest.mark.parametrize("k", [16, 383, 384, 385, 768, 769, 1200])
def test_blocks_of_k(k):
    a, b, r = placeholder(float32, (33, k), "a"), placeholder(float32, (k, 40), "b"), placeholder(float32, (40,), "r")
    y = matmul(a, b)
    fed = {a: random((33, k)), b: random((k, 40), seed=1), r: random((40,), seed=2)}
    check([y], fed, added=k)
    check([e.relu(y + r), y], fed, added=k)


# ------------------------------------------------------------------------------------------ updates in place


@pytest.mark.parametrize("shape", [(64, 32), (50, 33)])
def test_an_update_in_place(shape):
    """w -= rate * x^T g: the gradient is never stored; the array stays where it was."""
    m, n = shape
    w, x, g = variable(float32, (m, n), "w"), placeholder(float32, (400, m), "x"), placeholder(float32, (400, n), "g")
    new = w - matmul(x, g, transpose_a=True) * 0.1
    fed, found = {x: random((400, m)), g: random((400, n), seed=1)}, []
    for threads in THREADS:
        held = random((m, n), seed=2)
        store = {w: held}
        runner = execute.compile([], {w: new})
        with config(THREADS=threads):
            runner(fed, store)
        assert store[w] is held
        found.append(held)
    assert all(same_bits(found[0], a) for a in found)
    check_close(found[0], random((m, n), seed=2) - 0.1 * (fed[x].T @ fed[g]), 400)


def test_products_that_read_what_they_update():
    """w = w @ w and v = w @ v, at once: every product reads the old values."""
    w, v = variable(float32, (40, 40), "w"), variable(float32, (40, 40), "v")
    old = {w: random((40, 40)), v: random((40, 40), seed=1)}
    for threads in THREADS:
        store = {x: a.copy() for x, a in old.items()}
        with config(THREADS=threads):
            (out,) = execute.compile([matmul(v, w)], {w: matmul(w, w), v: matmul(w, v)})({}, store)
        check_close(store[w], old[w] @ old[w], 40)
        check_close(store[v], old[w] @ old[v], 40)
        check_close(out, old[v] @ old[w], 40)


def test_the_recipe_is_used():
    """These tests are about tiles: products of some size have the recipe, small ones and dot products are folds."""
    from tinyflow.compiler.contraction import has_recipe

    assert XW.op is CONTRACT and has_recipe(XW)
    assert not has_recipe(einsum("ij,ij->i", X, X)) and not has_recipe(product(2, 2, 2, (False, False))[0])
