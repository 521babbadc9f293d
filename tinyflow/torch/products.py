"""Products: matrices, batches, vectors, Einstein sums."""

from __future__ import annotations

import itertools
import string
from typing import Any

from tinyflow.graph.node import Node
from tinyflow.ops import contraction as c
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import movement as m
from tinyflow.ops import reduction as r
from tinyflow.torch.errors import SizeError
from tinyflow.torch.functions import install, lift
from tinyflow.torch.pointwise import add, scaled
from tinyflow.torch.tensor import Tensor

TYPE_NAMES = {
    "float32": "float",
    "float64": "double",
    "int32": "int",
    "int64": "long int",
    "uint8": "unsigned char",
    "bool": "bool",
}


def check_types(a: Node, b: Node) -> None:
    if a.dtype is not b.dtype:
        raise SizeError(
            f"expected m1 and m2 to have the same dtype, but got: {TYPE_NAMES[a.dtype.name]} != {TYPE_NAMES[b.dtype.name]}"
        )


def fits(p: Any, q: Any) -> bool:
    return p == q or not (isinstance(p, int) and isinstance(q, int))


def mm(input: Node, mat2: Node) -> Node:
    """The product of two matrices: (n, k) (k, m) -> (n, m)"""
    if input.ndim != 2 or mat2.ndim != 2:
        which = "self" if input.ndim != 2 else "mat2"
        raise SizeError(f"{which} must be a matrix")
    return product(input, mat2)


def product(a: Node, b: Node) -> Node:
    if not fits(a.shape[-1], b.shape[0 if b.ndim == 1 else -2]):
        rows = 1
        for n in a.shape[:-1]:
            rows = rows * n  # type: ignore[assignment,operator]
        if b.ndim == 1 and a.ndim == 1:
            raise SizeError(f"inconsistent tensor size, expected tensor {list(a.shape)} and src {list(b.shape)} to have the same number of elements, but got {a.shape[0]} and {b.shape[0]} elements respectively")  # fmt: skip
        if b.ndim == 1:
            raise SizeError(f"size mismatch, got input ({rows}), mat ({rows}x{a.shape[-1]}), vec ({b.shape[0]})")
        if b.ndim > 2:
            raise SizeError(f"Expected size for first two dimensions of batch2 tensor to be: [{b.shape[0]}, {a.shape[-1]}] but got: [{b.shape[0]}, {b.shape[-2]}].")  # fmt: skip
        raise SizeError(
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a.shape[-1]} and {b.shape[-2]}x{b.shape[-1]})"
        )
    check_types(a, b)
    return c.matmul(a, b)


def matmul(input: Node, other: Node) -> Node:
    """The matrix product of the last two axes; those in front broadcast, vectors count as rows or columns."""
    if input.ndim == 0 or other.ndim == 0:
        raise SizeError(
            f"both arguments to matmul need to be at least 1D, but they are {input.ndim}D and {other.ndim}D"
        )
    return product(input, other)


def bmm(input: Node, mat2: Node) -> Node:
    """The products of two batches of matrices: (b, n, k) (b, k, m) -> (b, n, m)"""
    for x, name in ((input, "batch1"), (mat2, "batch2")):
        if x.ndim != 3:
            raise SizeError(f"{name} must be a 3D tensor")
    if not fits(input.shape[0], mat2.shape[0]):
        raise SizeError(f"Expected size for first two dimensions of batch2 tensor to be: [{input.shape[0]}, {input.shape[2]}] but got: [{mat2.shape[0]}, {mat2.shape[1]}].")  # fmt: skip
    return product(input, mat2)


def dot(input: Node, tensor: Node) -> Node:
    """The product of two vectors."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise SizeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    return product(input, tensor)


def mv(input: Node, vec: Node) -> Node:
    """A matrix times a vector."""
    if input.ndim != 2 or vec.ndim != 1:
        raise SizeError(f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}")
    return product(input, vec)


def outer(input: Node, vec2: Node) -> Node:
    """Every element of one vector times every element of another."""
    return c.einsum("i,j->ij", input, vec2)


def weighted(multiply: Any) -> Any:
    """beta input + alpha (a product)"""

    def call(input: Node, a: Node, b: Node, *, beta: Any = 1, alpha: Any = 1) -> Node:
        y = scaled(multiply(a, b), alpha)
        return y if beta == 0 else add(y, scaled(input, beta)) if beta != 1 else add(input, y)

    return call


def linear(input: Node, weight: Node, bias: Node | None = None) -> Node:
    """x W^T + b: (..., in), (out, in) -> (..., out)"""
    if not fits(input.shape[-1], weight.shape[-1]):
        rows = 1
        for n in input.shape[:-1]:
            rows = rows * n  # type: ignore[assignment,operator]
        raise SizeError(
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{input.shape[-1]} and {weight.shape[-1]}x{weight.shape[0]})"
        )
    check_types(input, weight)
    y = c.matmul(input, weight, transpose_b=weight.ndim == 2)
    return y if bias is None else add(y, bias)


# ------------------------------------------------------------------------------------------ einsum


def einsum(equation: str, *operands: Any) -> Node:
    """Einstein's summation, of any number of operands, with ... for axes that broadcast."""
    xs = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], tuple | list) else list(operands)
    text = equation.replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(xs):
        raise RuntimeError(f"einsum(): more operands were provided than specified in the equation: {len(xs)} for {equation!r}" if len(xs) > len(terms) else f"einsum(): fewer operands were provided than specified in the equation: {len(xs)} for {equation!r}")  # fmt: skip
    if not arrow:
        once = [a for a in left if a.isalpha()]
        out = ("..." if "..." in left else "") + "".join(sorted(a for a in set(once) if once.count(a) == 1))
    spare = [a for a in itertools.chain(string.ascii_uppercase, string.ascii_lowercase) if a not in text]
    rank = max(x.ndim - len(t.replace("...", "")) for t, x in zip(terms, xs, strict=True))
    dots = "".join(spare[: max(rank, 0)])
    terms = [t.replace("...", dots[len(dots) - (x.ndim - len(t.replace("...", ""))) :] if x.ndim > len(t) - 3 else "") for t, x in zip(terms, xs, strict=True)]  # fmt: skip
    terms, xs = map(list, zip(*(without_repeats(t, x) for t, x in zip(terms, xs, strict=True)), strict=True))
    pairs = [unit_axes(t, x, terms, xs) for t, x in zip(terms, xs, strict=True)]
    return fold_pairs(pairs, out.replace("...", dots))


def without_repeats(term: str, x: Node) -> tuple[str, Node]:
    """A letter that stands twice in a term takes the diagonal of its two axes."""
    for a in dict.fromkeys(term):
        while term.count(a) > 1:
            i, j = term.index(a), term.rindex(a)
            on = e.equal(f.position(x.shape, i), f.position(x.shape, j))
            x = r.sum_(e.where(on, x, 0), j)
            term = term[:j] + term[j + 1 :]
    return term, x


def unit_axes(term: str, x: Node, terms: list[str], xs: list[Node]) -> tuple[str, Node]:
    """An axis of size 1 whose letter has another size elsewhere broadcasts: it is dropped, and its letter with it."""
    sizes = {a: n for t, y in zip(terms, xs, strict=True) for a, n in zip(t, y.shape, strict=True) if n != 1}
    kept = [(a, n) for a, n in zip(term, x.shape, strict=True) if not (n == 1 and a in sizes)]
    return ("".join(a for a, _ in kept), x) if len(kept) == len(term) else ("".join(a for a, _ in kept), m.reshape(x, tuple(n for _, n in kept)))  # fmt: skip


def fold_pairs(pairs: list[tuple[str, Node]], out: str) -> Node:
    """Two operands at a time, from the left; a letter is summed over when nothing to the right needs it."""
    term, x = pairs[0]
    if len(pairs) == 1:
        return c.einsum(f"{term}->{out}", x)
    for i, (t, y) in enumerate(pairs[1:], 1):
        later = set(out).union(*(p for p, _ in pairs[i + 1 :]))
        keep = out if i == len(pairs) - 1 else "".join(dict.fromkeys(a for a in term + t if a in later))
        x = c.einsum(f"{term},{t}->{keep}", x, y)
        term = keep
    return x


def tensordot(a: Node, b: Node, dims: Any = 2) -> Node:
    """Sums over some axes of a with as many of b."""
    if isinstance(dims, int):
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = (
            [d % x.ndim for d in (part if isinstance(part, tuple | list) else (part,))]
            for part, x in zip(dims, (a, b), strict=True)
        )
    names = string.ascii_letters
    first = names[: a.ndim]
    second = [names[a.ndim + d] for d in range(b.ndim)]
    for p, q in zip(left, right, strict=True):
        second[q] = first[p]
    out = "".join(x for d, x in enumerate(first) if d not in left) + "".join(
        x for d, x in enumerate(second) if d not in right
    )
    return c.einsum(f"{first},{''.join(second)}->{out}", a, b)


def cdist(x1: Node, x2: Node, p: float = 2.0) -> Node:
    """The p-norms of all differences of rows: (..., n, d), (..., m, d) -> (..., n, m)"""
    from tinyflow.torch.reductions import norm

    a, b = m.expand_dims(x1, -2), m.expand_dims(x2, -3)
    return norm(e.sub(*e.broadcast(a, b)), p, -1)


# fmt: off
ROWS: dict[str, Any] = {
    "mm": mm, "matmul": matmul, "bmm": bmm, "dot": dot, "vdot": dot, "inner": lambda input, other: tensordot(input, other, ([-1], [-1])), "mv": mv, "outer": outer, "ger": outer,
    "addmm": weighted(mm), "addmv": weighted(mv), "baddbmm": weighted(bmm), "addbmm": weighted(lambda a, b: r.sum_(bmm(a, b), 0)), "addr": weighted(outer),
}
FUNCTIONS_ONLY = {"linear": linear, "einsum": einsum, "tensordot": tensordot, "cdist": cdist}
# fmt: on
install(ROWS, in_place="addmm addmv baddbmm addr")
install(FUNCTIONS_ONLY, methods=False)
Tensor.__matmul__ = lift("matmul", matmul)
Tensor.__rmatmul__ = lift("matmul", lambda a, b: matmul(b, a))
