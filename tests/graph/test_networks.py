"""What the passes make of whole networks: where permutations end, which sums and products are left, and that values stay."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.compiler.native import check
from tinyflow.compiler.contraction import has_recipe
from tinyflow.compiler.schedule import Schedule
from tinyflow.core.dtypes import float32, int64
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import Node, rewrite, toposort
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.attention import ATTENTION_GRAD
from tinyflow.ops.contraction import CONTRACT, convolution, einsum, matmul
from tinyflow.ops.indexing import gather
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import CONCAT, EXPAND, PAD, PERMUTE, concat, expand, pad, permute, reshape, slice_
from tinyflow.ops.reduction import SUM, argmax, max_, mean, sum_
from tinyflow.passes import pipeline
from tinyflow.passes.chunks import chunks
from tinyflow.passes.gradient import gradients
from tinyflow.passes.joins import joins
from tinyflow.passes.layout import layout
from tinyflow.passes.phases import phases
from tinyflow.passes.sums import sums

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels last, and first again


def leaf(*shape: int, name: str = "x") -> Node:
    return placeholder(float32, shape, name)


def fed_by(roots: Sequence[Node], seed: int = 0) -> dict[Node, Any]:
    rng = np.random.default_rng(seed)
    leaves = [n for n in toposort(roots) if n.op.kind == "leaf" and n.op.name == "placeholder"]
    return {n: rng.uniform(-1, 1, n.shape).astype("f4") if n.dtype is float32 else rng.integers(0, 3, n.shape) for n in leaves}  # fmt: skip


def after(change: Any, root: Node) -> Node:
    """The root after one pass, found to have the same value."""
    new = rewrite([root], change)[root]
    fed = fed_by([root])
    want, got = evaluate([root], fed, {})[root], evaluate([new], fed, {})[new]
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)
    assert got.shape == want.shape and got.dtype == want.dtype
    return new


def count(roots: Sequence[Node], *ops: Any) -> int:
    return sum(n.op in ops for n in toposort(roots))


# ------------------------------------------------------------------------------------------ layout

X = permute(e.exp(leaf(2, 3, 4, 5)), FIRST)  # (2, 5, 3, 4)
Y = permute(e.tanh(leaf(2, 3, 4, 5, name="y")), FIRST)
SINKS = {
    "elementwise": X * Y + 2.0,
    "stretched": X * expand(reshape(leaf(5, name="g"), (5, 1, 1)), X.shape),
    "sum of channels": sum_(X, 1),
    "sum of places": sum_(X, (2, 3)),
    "mean, kept": X - mean(X, (0, 2, 3), keepdims=True),
    "max": max_(X, (3,)),
    "argmax": argmax(X, 1),
    "slice": slice_(X, (0, 1, 0, 3), (2, 4, 2, 4), (1, 1, 2, -1)),
    "pad": pad(X, (0, 1, 0, 2), (1, 0, 3, 0), (0, 0, 1, 0)),
    "concat": concat([X, Y, X], 1),
    "split channels": reshape(X, (2, 5, 12)),
    "one more axis": reshape(X, (2, 5, 1, 3, 4, 1)),
    "pooling": f.max_pool(X, (2, 2), (1, 2), (0, 0), (0, 0), axes=(2, 3)),
    "mean pooling": f.avg_pool(X, (2, 3), (2, 1), (1, 1), (0, 1), axes=(2, 3)),
}


@pytest.mark.parametrize("name", SINKS)
def test_permutations_sink(name: str) -> None:
    new = after(layout, SINKS[name])
    assert not [n for n in toposort([new]) if n is not new and moves(n)]


def moves(n: Node) -> bool:
    """Whether a permutation is of a whole image that was computed, rather than of what is stretched over it."""
    return n.op is PERMUTE and n.ndim == 4 and n.inputs[0].op.kind != "leaf" and n.inputs[0].op is not EXPAND


@pytest.mark.parametrize("other", ["joined axes", "a leaf", "another order", "gather"])
def test_permutations_stay_where_they_must(other: str) -> None:
    node = {
        "joined axes": reshape(X, (2, 15, 4)),
        "a leaf": X + leaf(2, 5, 3, 4, name="w") * 2.0,
        "another order": X + permute(e.exp(leaf(5, 3, 4, 2, name="z")), (3, 0, 1, 2)),
        "gather": gather(X, placeholder(int64, (4,), "i")),
    }[other]
    assert after(layout, node).op is not PERMUTE


def network(images: int = 8, size: int = 6) -> tuple[Node, list[Node], list[Node]]:
    """Channels first, as PyTorch has it: convolution, batch normalisation and relu, twice, with a shortcut and a pool."""
    x = leaf(images, 4, size, size)
    weights = [leaf(16, 4, 3, 3, name="w0"), leaf(16, 16, 3, 3, name="w1")]
    scales = [leaf(16, name=f"s{k}") for k in range(4)]

    def conv(a: Node, w: Node) -> Node:
        y = convolution(permute(a, LAST), permute(w, (2, 3, 1, 0)), (1, 1), (1, 1), (size, size), (1, 1))
        return permute(y, FIRST)

    def norm(a: Node, s: Node, b: Node) -> Node:
        s, b = (expand(reshape(v, (16, 1, 1)), a.shape) for v in (s, b))
        return f.normalise(a, (0, 2, 3), 1e-5) * s + b

    y = e.relu(norm(conv(x, weights[0]), *scales[:2]))
    z = e.relu(norm(conv(y, weights[1]), *scales[2:]) + y)
    z = f.max_pool(z, (2, 2), (2, 2), (0, 0), (0, 0), axes=(2, 3))
    return sum_(z * z), [*weights, *scales], [x]


def test_no_permutation_is_left_between_layers() -> None:
    loss, parameters, _ = network()
    nodes = pipeline.run([loss, *gradients([loss], parameters)])
    assert not [n for n in toposort(nodes) if n not in nodes and moves(n)]


def test_a_network_computes_what_it_says() -> None:
    loss, parameters, _ = network()
    nodes = [loss, *gradients([loss], parameters)]
    check(nodes, fed_by(nodes), threads=(1, 2, 3), added=20_000)


# ------------------------------------------------------------------------------------------ phases


@pytest.mark.parametrize("stride, dilation, low", [((2, 2), (1, 1), (1, 1)), ((3, 2), (1, 1), (0, 2)), ((2, 3), (2, 3), (1, 0)), ((4, 2), (2, 1), (2, 1))])  # fmt: skip
@pytest.mark.parametrize("size", [(9, 8), (4, 5)])
def test_phases_multiply_no_zeros(stride: Any, dilation: Any, low: Any, size: Any) -> None:
    x, w = leaf(2, *size, 3), leaf(3, 2, 3, 4, name="w")
    out = f.pooled_sizes(size, (3, 2), stride, low, low, dilation)
    y = convolution(x, w, stride, low, out, dilation)
    (gx,) = gradients([sum_(y * y)], [x])
    new = after(phases, gx)
    divided = [p for n in toposort([new]) if n.op is CONTRACT for places in n.attrs["spec"].operands for p in places if p.divisor > 1]  # fmt: skip
    assert not divided


# ------------------------------------------------------------------------------------------ sums


def test_a_batch_normalisation_needs_four_sums() -> None:
    """Mean and variance, and for the gradient the sums of g and of g (x - mean)."""
    x, s, b, g = leaf(32, 9, 9, 8), leaf(8, name="s"), leaf(8, name="b"), leaf(32, 9, 9, 8, name="g")
    y = f.normalise(x, (0, 1, 2), 1e-5) * expand(s, x.shape) + expand(b, x.shape)
    nodes = [y, *gradients([y], [x, s, b], seeds=[g])]
    new = pipeline.run(nodes)
    assert count(new, SUM) == 2 * 4  # each in two steps
    check(nodes, fed_by(nodes), threads=(1, 2, 4), added=3000)


def test_what_does_not_vary_comes_out() -> None:
    g, s, t = leaf(40, 50, 6), leaf(6, name="s"), leaf(1, 6, name="t")
    plain = sum_(g, (0, 1))
    new = after(sums, sum_(g * expand(s, g.shape) / expand(t + 3.0, g.shape), (0, 1)))
    assert count([new], SUM) == 2 and after(sums, plain) in toposort([new])
    new = after(sums, sum_(-(g * expand(s, g.shape)), (0, 1)))
    assert after(sums, plain) in toposort([new])


def test_deviations_add_up_to_nothing() -> None:
    x, s, g = leaf(40, 50, 6), leaf(6, name="s"), leaf(40, 50, 6, name="g")
    away = x - mean(x, (0, 1), keepdims=True)
    assert count([after(sums, sum_(g + away * expand(s, x.shape), (0, 1)))], SUM) == 2
    assert count([after(sums, sum_(away, (0, 1)))], SUM) == 0
    other = x - mean(x, (0,), keepdims=True)  # the mean of something else
    assert count([after(sums, sum_(g + other * expand(s, x.shape), (0, 1)))], SUM) > 2


@pytest.mark.parametrize("shape", [(2048, 3), (1031, 3), (32, 40, 3), (5, 300, 3), (4096, 1)])
def test_long_sums_of_columns(shape: tuple[int, ...]) -> None:
    x = leaf(*shape)
    node = sum_(x * x, tuple(range(len(shape) - 1)))
    after(sums, node)
    check([node], fed_by([node]), added=2000)


# ------------------------------------------------------------------------------------------ chunks


def test_gradients_of_weights_are_summed_in_chunks() -> None:
    x, w, g = leaf(4, 256, 40), leaf(40, 24, name="w"), leaf(4, 256, 24, name="g")
    (gw,) = gradients([matmul(x, w)], [w], seeds=[g])
    parts = [n for n in toposort([after(chunks, gw)]) if n.op is CONTRACT]
    assert [n.shape for n in parts] == [(4, 40, 24)]
    check([gw], fed_by([gw]), added=1024)


@pytest.mark.parametrize("text", ["ik,kj->ij", "ik,jk->ji", "ki,jk->ij"])
def test_few_results_of_many_products_are_summed_in_chunks(text: str) -> None:
    shape = {"k": 8192, "i": 6, "j": 5}
    a, b = (leaf(*(shape[c] for c in term), name=term) for term in text.split("->")[0].split(","))
    node = einsum(text, a, b)
    parts = [n for n in toposort([after(chunks, node)]) if n.op is CONTRACT]
    assert [n.shape for n in parts] == [(8, *node.shape)]
    check([node], fed_by([node]), added=8192)


@pytest.mark.parametrize("kernel", [1, 3])
def test_gradients_of_small_windows_are_summed_in_chunks(kernel: int) -> None:
    x, w = leaf(8, 16, 16, 6), leaf(kernel, kernel, 6, 5, name="w")
    y = convolution(x, w, (1, 1), (kernel // 2, kernel // 2), (16, 16), (1, 1))
    (gw,) = gradients([y], [w], seeds=[leaf(8, 16, 16, 5, name="g")])
    parts = [n for n in toposort([after(chunks, gw)]) if n.op is CONTRACT]
    assert [n.ndim for n in parts] == [5 if kernel == 1 else 4]
    check([gw], fed_by([gw]), added=2048)


@pytest.mark.parametrize(
    "rows, text", [(64, "ki,kj->ij"), (1031, "ki,kj->ij"), (1024, "bi,bj->bij"), (1024, "ik,kj->ij")]
)
def test_other_products_stay_whole(rows: int, text: str) -> None:
    shape = {"k": rows, "b": rows, "i": 4, "j": 5}
    a, b = (leaf(*(shape[c] for c in term), name=term) for term in text.split("->")[0].split(","))
    node = einsum(text, a, b)
    assert chunks(node) is node


# ------------------------------------------------------------------------------------------ pieces that are joined


def test_what_was_cut_into_pieces_gets_one_gradient() -> None:
    """Queries, keys and values of one product: their gradients are stored beside each other, in its order."""
    x, w = leaf(2, 8, 12, name="x"), leaf(12, 36, name="w")
    qkv = permute(reshape(matmul(reshape(x, (16, 12)), w), (2, 8, 3, 3, 4)), (2, 0, 3, 1, 4))
    q, k, v = (reshape(slice_(qkv, (n, 0, 0, 0, 0), (1, 2, 3, 8, 4)), (2, 3, 8, 4)) for n in range(3))
    y = matmul(f.softmax(matmul(q * 0.5, k, transpose_b=True)), v)
    loss = sum_(y * y)
    roots = [loss, *gradients([loss], [x, w])]
    new = pipeline.run(roots)
    assert count(new, PAD) == 0 and count(new, ATTENTION_GRAD) == 3
    (whole,) = (n for n in toposort(new) if n.op is CONCAT)
    schedule = Schedule(new, has_recipe)
    assert [p.op for p in schedule.joined[whole]] == [ATTENTION_GRAD] * 3
    check(roots, fed_by(roots))


@pytest.mark.parametrize("axis", [0, 1])
def test_parts_are_stored_where_they_belong(axis: int) -> None:
    """Of products, sums, and another shape of one; not what somebody else reads, or asks for."""
    a, b, c = leaf(17, 33, name="a"), leaf(17, 40, name="b"), leaf(33, 40, 5, name="c")
    product, columns = matmul(a, b, transpose_a=True), sum_(c, 2)
    other = reshape(matmul(reshape(c, (33 * 8, 25)), leaf(25, 5, name="d")), (33, 40))
    whole = concat([product, columns, other], axis)
    y = matmul(whole, leaf(whole.shape[1], 18, name="e"))
    assert [len(parts) for parts in Schedule([y], has_recipe).joined.values()] == [3]
    assert not Schedule([y, columns], has_recipe).joined and not Schedule([whole], has_recipe).joined
    check([y], fed_by([y]))
    check([y, columns], fed_by([y]))


@pytest.mark.parametrize("gap", [0, 1])
def test_only_pieces_without_a_gap_are_joined(gap: int) -> None:
    a, b = leaf(3, 4, name="a"), leaf(3, 5, name="b")
    y = pad(b, (0, 4 + gap), (0, 0)) + pad(a, (0, 0), (0, 5 + gap))
    new = after(joins, y)
    assert (new.op is CONCAT) == (gap == 0)
    fed = fed_by([y])
    assert np.array_equal(evaluate([new], fed)[new], evaluate([y], fed)[y])


def test_overlapping_pieces_are_added() -> None:
    a = leaf(3, 4, name="a")
    y = pad(a, (0, 3), (0, 0)) + pad(a, (0, 0), (0, 3))
    assert after(joins, y) is y


# ------------------------------------------------------------------------------------------ what comes after a product


def rows_on_axes(a: Node, w: Node, b: Node) -> tuple[Node, Node]:
    """A linear layer of (batch, length, width), and what is made of its results."""
    h = reshape(matmul(reshape(a, (-1, a.shape[-1])), w), (*a.shape[:-1], w.shape[1]))
    place = expand(reshape(b, (1, *b.shape)), h.shape)
    return h, h * (e.erf(h * 0.7071) + 1.0) + place


@pytest.mark.parametrize(("length", "width", "columns"), [(5, 7, 33), (64, 130, 512), (3, 600, 40), (1, 4, 1030)])
def test_rows_on_several_axes_are_finished_with_their_product(length: int, width: int, columns: int) -> None:
    a, w, b = leaf(3, length, width, name="a"), leaf(width, columns, name="w"), leaf(length, columns, name="b")
    h, y = rows_on_axes(a, w, b)
    schedule = Schedule([y], has_recipe)
    assert [g.core is not None for g in schedule.groups] == [True]
    check([y], fed_by([y]))
    check([y, h, e.exp(h) * y], fed_by([y]))


def test_a_pass_over_rows_comes_before_the_end_of_a_product() -> None:
    """What a norm makes of its input stays with the norm: nothing is written down for it."""
    a, w, b = leaf(2, 64, 48, name="a"), leaf(48, 64, name="w"), leaf(64, 64, name="b")
    _, y = rows_on_axes(a, w, b)
    schedule = Schedule([f.softmax(y)], has_recipe)
    first = schedule.groups[0]
    assert first.core is not None and len(first.stores) == 1
