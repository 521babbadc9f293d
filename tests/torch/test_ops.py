"""Every function beside PyTorch's own: values, element types, shapes, gradients. One row a case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.torch.compare import array, both

A, B, C = array(3, 4), array(3, 4, seed=1), array(4, seed=2)
P, Q = array(3, 4, low=0.3, high=2.0), array(3, 4, low=0.3, high=2.0, seed=1)
U = array(3, 4, low=-0.9, high=0.9)
I, J = array(3, 4, low=-5, high=6, dtype=np.int64), array(3, 4, low=1, high=6, dtype=np.int64, seed=1)
N = array(3, 4, low=0, high=5, dtype=np.int32)
M, K = array(3, 4, dtype=bool), array(3, 4, dtype=bool, seed=1)
D = array(3, 4, dtype=np.float64)
T = array(2, 3, 4, seed=3)
S = array(4, 4, seed=4)
TIES = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, -1.0]], np.float32)
BY = np.uint8([[1, 2], [3, 250]])
IX = np.array([2, 0, 2], np.int64)
ALONG = np.array([[0, 2, 1, 0], [1, 1, 0, 2]], np.int64)

# fmt: off
UNARY = {  # name -> operand
    "neg": A, "abs": A, "sign": A, "exp": A, "log": P, "expm1": A, "log1p": P, "sqrt": P, "rsqrt": P, "sin": A, "cos": A, "tan": U, "tanh": A,
    "sinh": A, "cosh": A, "asinh": A, "atanh": U, "acosh": A + 4, "asin": U, "acos": U, "atan": A, "sigmoid": A, "erf": A, "erfc": A, "erfinv": U, "exp2": A, "log2": P, "log10": P, "reciprocal": P,
    "square": A, "floor": A, "ceil": A, "round": A, "trunc": A, "frac": A, "relu": A, "isnan": A, "isinf": A, "isfinite": A, "logical_not": A,
    "t": A, "ravel": A, "trace": S, "logit": array(3, 4, low=0.1, high=0.9),
}
INTEGER = ("neg", "abs", "sign", "square", "relu", "floor", "ceil", "trunc", "exp", "sqrt", "sigmoid", "tanh", "reciprocal", "isnan", "logical_not")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge")

CASES: dict[str, tuple[Any, ...]] = {
    # arithmetic and promotion
    "add alpha":           (lambda t, a, b: t.add(a, b, alpha=2.5), A, B),
    "sub alpha":           (lambda t, a, b: a.sub(b, alpha=2), A, B),
    "broadcast":           (lambda t, a, b: a * b + 1, A, C),
    "broadcast columns":   (lambda t, a, b: a / b, P, P[:, :1]),
    "scalar right":        (lambda t, a: (a + 1, a - 2, a * 3, a / 4, a**2), P),
    "scalar left":         (lambda t, a: (1 + a, 2 - a, 3 * a, 4 / a, 2**a), P),
    "int and scalar":      (lambda t, i: (i + 1, i * 2, i / 2, i + 0.5, i // 2, i % 3, i + True), I),
    "int and float":       (lambda t, i, a: (i + a, a * i, i / a), I, P),
    "int32 and int64":     (lambda t, n, i: (n + i, n * 2, n / 2), N, I),
    "float and double":    (lambda t, a, d: (a + d, a * d), A, D),
    "zero-dim tensors":    (lambda t, a, n: (a + t.tensor(2.0, dtype=t.float64), n + t.tensor(2), n + t.tensor(2.5), t.tensor(1) + t.tensor(2.5)), A, N),
    "uint8":               (lambda t, b: (b + 1, b // 2, b + t.tensor([1, 2]), b.float() / 2, b == 3), BY),
    "bool arithmetic":     (lambda t, m, k: (m + k, m * k, m & k, m | k, m ^ k, ~m, m + 1, m * 2.0, m == k), M, K),
    "int division":        (lambda t, i, j: (i / j, i // j, i % j, t.div(i, j, rounding_mode="trunc"), t.div(i, j, rounding_mode="floor"), t.fmod(i, j)), I, J),
    "float division":      (lambda t, a, b: (a % b, t.div(a, b, rounding_mode="trunc"), t.fmod(a, b)), A, P),
    "fmod":                (lambda t, a: t.fmod(a, 0.7), A),
    "fmod, signs":         (lambda t, a, b, i, j: (t.fmod(a, b), t.fmod(i, j)), np.float32([0, 1, -1, 5, -5, 1e20, 3]), np.float32([2, np.inf, np.inf, -3, 3, 3, 1e-3]), np.int64([7, -7, 7, -7]), np.int64([2, 2, -2, -2])),
    "angles":              (lambda t, a, b: (t.atan2(a, b), t.arctan2(a, b)), A, B),
    "near nothing":        (lambda t, a: (a.asinh(), a.sinh(), a.atanh(), a.tan(), a.atan(), a.cosh(), a.expm1(), a.log1p()), np.float32([0, 1e-30, 1e-8, -1e-8, 1e-4, -1e-4])),
    "far out":             (lambda t, a: (a.erfc(), (a * 1e10).asinh(), (a * 1e10).acosh(), a.exp2(), a.exp2().log2(), t.nn.functional.softplus(a)), np.float32([1, 4, 5.5, 7, 8.9])),
    "exact powers":        (lambda t, a: (a.exp2(), (10**a).log10(), a.exp2().log2()), np.float64([-3, 0, 1, 2, 5, 10])),
    "fmax":                (lambda t, a, b: (t.fmax(a, b), t.fmin(a, b)), np.float32([1, np.nan, 3, np.nan, 2]), np.float32([np.nan, 2, 4, np.nan, 2])),
    "NaN in activations":  (lambda t, a: [f(a.detach()) for f in (t.nn.functional.relu, t.nn.functional.hardtanh, t.nn.functional.hardshrink, t.nn.functional.softshrink, lambda x: t.nn.functional.threshold(x, 0.5, 2.0))], np.float32([np.nan, -1, 0.25, 1])),
    "zero in logarithms":  (lambda t, a: (t.nn.functional.softplus(a), t.nn.functional.logsigmoid(a), a.sigmoid().log(), t.nn.functional.binary_cross_entropy_with_logits(a, t.ones(4)), t.nn.functional.soft_margin_loss(a, t.ones(4))), np.float32([0, -0.0, 1, -1])),
    "floor of quotients":  (lambda t, a, b: (a.detach() // b.detach(), a.detach() // 0.5, t.floor_divide(a.detach(), 2)), A, P),
    "int powers":          (lambda t, j: (j**2, j**3, 2**j, j**0.5), J),
    "powers":              (lambda t, a: (a**2, a**3, a**0, a**1), A),
    "powers positive":     (lambda t, p, q: (p**0.5, p**-1.5, p**q, t.pow(2.0, p)), P, Q),
    "square at zero":      (lambda t, a: a**2, np.zeros(3, np.float32)),
    "maximum ties":        (lambda t, a, b: (t.maximum(a, b), t.minimum(a, b)), TIES, TIES[::-1].copy()),
    "lerp":                (lambda t, a, b: (t.lerp(a, b, 0.3), a.lerp(b, t.tensor(0.7))), A, B),
    "addcmul":             (lambda t, a, b, c: (t.addcmul(a, b, c, value=0.5), t.addcdiv(a, b, c, value=2)), A, B, C + 3),
    "compare":             (lambda t, a, b, i: (a < b, a <= b, a > b, a >= b, a == b, a != b, i > 0, i == 0.5, 0 < a), A, B, I),
    "clamp":               (lambda t, a: (a.clamp(-1, 1), a.clamp(min=0.5), t.clamp(a, max=0.5), a.clip(-0.5, 0.5), a.clamp_min(0)), A),
    "clamp ints":          (lambda t, i: (i.clamp(-1, 1), i.clamp(min=2)), I),
    "clamp tensors":       (lambda t, a, b: a.clamp(min=b), A, B),
    "where":               (lambda t, m, a, b: (t.where(m, a, b), t.where(m, a, 0.0), t.where(m, 1.0, b), a.where(m, b)), M, A, B),
    "where types":         (lambda t, m, i, a: (t.where(m, i, a), t.where(m, 1, 2), t.where(m, i, 0)), M, I, A),
    "masked_fill":         (lambda t, a, m: (a.masked_fill(m, -1e9), a.masked_fill(m, t.tensor(2.0))), A, M),
    "nan_to_num":          (lambda t, a, i: (t.nan_to_num(a, 1.0), t.nan_to_num(a.double(), posinf=2.0), t.nan_to_num(a, nan=float("inf")), t.nan_to_num(i), a.bfloat16().nan_to_num().float()), np.array([1, np.nan, np.inf, -np.inf], np.float32), I),
    "logical":             (lambda t, a, m: (t.logical_and(a > 0, m), t.logical_or(a, m), t.logical_xor(a, m)), A, M),
    "round decimals":      (lambda t, a: t.round(a, decimals=2), A),
    "isclose":             (lambda t, a, b: (t.isclose(a, a + 1e-9), t.isclose(a, b), t.allclose(a, a), t.allclose(a, b), t.equal(a, a)), A, B),
    # reductions
    "sum":                 (lambda t, a: (a.sum(), a.sum(0), a.sum(-1, keepdim=True), a.sum((0, 2)), t.sum(a, dim=1), a.sum(axis=0)), T),
    "sum types":           (lambda t, i, m, n: (i.sum(), m.sum(), n.sum(0), i.sum(dtype=t.float32)), I, M, N),
    "mean":                (lambda t, a: (a.mean(), a.mean(1), a.mean((0, 1), keepdim=True), a.mean(dim=[1, 2])), T),
    "prod":                (lambda t, a: (a.prod(), a.prod(1), a.prod(0, keepdim=True)), A),
    "prod zeros":          (lambda t, a: a.prod(1), np.array([[0, 2, 3], [0, 0, 3], [1, 2, 3]], np.float32)),
    "var std":             (lambda t, a: (a.var(), a.std(), a.var(1), a.std(0, keepdim=True), a.var(0, unbiased=False), a.std(correction=0), t.var(a, dim=(0, 1))), T),
    "std of equals":       (lambda t, a: a.std(1), np.ones((2, 3), np.float32)),
    "max min":             (lambda t, a: (a.max(), a.min(), a.max(1), a.min(0), a.max(dim=1, keepdim=True), t.max(a, 0)), A),
    "max ties":            (lambda t, a: (a.max(), a.max(1), a.amax(1), a.min(dim=0), a.amin()), TIES),
    "max ints":            (lambda t, i, m: (i.max(), i.max(0), i.argmax(), m.max(), m.max(1).values), I, M),
    "max of two":          (lambda t, a, b: (t.max(a, b), t.min(a, b)), A, B),
    "argmax":              (lambda t, a: (a.argmax(), a.argmax(1), a.argmin(0), a.argmax(-1, keepdim=True), t.argmax(a, dim=0)), A),
    "any all":             (lambda t, m, a: (m.any(), m.all(), m.any(1), m.all(0, keepdim=True), (a > 5).any(), a.all()), M, A),
    "norm":                (lambda t, a: (a.norm(), a.norm(dim=1), a.norm(1), a.norm(float("inf"), dim=0), a.norm(3, dim=1, keepdim=True)), A),
    "norm of zeros":       (lambda t, a: a.norm(), np.zeros(3, np.float32)),
    "logsumexp":           (lambda t, a: (a.logsumexp(1), t.logsumexp(a, (0, 1)), t.logsumexp(a * 100, 0, keepdim=True)), A),
    "softmax":             (lambda t, a: (a.softmax(1), t.softmax(a, dim=0), a.log_softmax(-1), t.log_softmax(a * 50, 0)), A),
    "cumsum":              (lambda t, a, i: (a.cumsum(0), a.cumsum(1), i.cumsum(1)), A, I),
    "cumprod":             (lambda t, a, i: (a.cumprod(0), t.cumprod(a, 1), i.cumprod(1)), A, I),
    "cumprod of zeros":    (lambda t, a: a.cumprod(0), np.array([2, 0, 3, 0, 1], np.float32)),
    "cumprod, two zeros":  (lambda t, a: (a.cumprod(0), a.flip(0).cumprod(0)), np.array([2, 0, 3, 0, 1], np.float32)),
    "cummax":              (lambda t, a, i: (a.cummax(1), t.cummin(a, 0), i.cummax(0), t.cummin(i, dim=1)), A, I),
    "cummax of NaN":       (lambda t, a: (*a.cummax(0), a.cummin(0).indices), np.array([1, 3, 3, np.nan, 5, np.nan, 2], np.float32)),
    "searchsorted":        (lambda t, c, a: (t.searchsorted(c.sort().values, a), t.searchsorted(c.sort().values, a, right=True), t.bucketize(a, c.sort().values, out_int32=True), t.searchsorted(a.sort(1).values, a[:, :2].contiguous(), side="right"), t.searchsorted(t.tensor([1, 3, 5]), 3)), C, A),
    "cdist":               (lambda t, a, b: (t.cdist(a, b), t.cdist(a[None], b[None], p=1)), A, B),
    "triangle indices":    (lambda t: (t.tril_indices(3, 4), t.triu_indices(3, 3, 1)),),
    "std_mean":            (lambda t, a: (t.std_mean(a), t.var_mean(a, 1)), A),
    "count":               (lambda t, i: (t.count_nonzero(i), i.count_nonzero(0)), I),
    "diff":                (lambda t, a: (a.diff(), a.diff(dim=0)), A),
    "empty reductions":    (lambda t, a: (a.sum(), a.sum(1), a.prod(0), a.mean(0)), np.zeros((3, 0), np.float32)),
    "0-d":                 (lambda t, a: (a.sum(), a.mean(), a.max(), a.sum(0), a.softmax(0), a.argmax(), a + 1, a * a), np.float32(2.5)),
    "sort":                (lambda t, a: (a.sort(), a.sort(0, descending=True), t.argsort(a, 1), t.sort(a, dim=0)), A),
    "sort ties":           (lambda t, a: (a.sort(stable=True),), np.array([2, 1, 2, 1, 0], np.int64)),
    "topk":                (lambda t, a: (a.topk(2), a.topk(3, 0), a.topk(2, largest=False), t.topk(a, k=1, dim=1)), A),
    "topk of many":        (lambda t, a: (a.topk(3), a.topk(70, largest=False), a.topk(0), a.argsort(descending=True, stable=True)), array(9, 300, seed=3)),
    "order of NaN":        (lambda t, a: (a.sort().indices, a.sort(descending=True).indices, a.topk(2).indices, a.median().isnan(), a.kthvalue(2).values), np.array([1, np.nan, -np.inf, 3, np.inf], np.float32)),
    "index_add repeated":  (lambda t, a, c: (a.index_add(0, t.tensor([1, 1, 0]), a[:3]), a.index_copy(1, t.tensor([2, 0]), a[:, :2]), c.scatter(0, t.tensor([1, 0]), c[:2])), array(3, 4), C),
    "median":              (lambda t, a: (a.median(), a.median(1), a.kthvalue(2)), A),
    # products
    "mm":                  (lambda t, a, b: (t.mm(a, b.t()), a @ b.T, t.matmul(a, b.T), a.mm(b.t())), A, B),
    "vectors":             (lambda t, a, c: (a @ c, c @ a.t(), c @ c, t.dot(c, c), t.mv(a, c), t.outer(c, c)), A, C),
    "batched":             (lambda t, a, s, c: (a @ s, t.matmul(a, a.transpose(1, 2)), t.bmm(a, a.mT), a @ c), T, S, C),
    "matmul broadcast":    (lambda t, a, b: t.matmul(a, b), array(2, 1, 3, 4), array(5, 4, 2)),
    "addmm":               (lambda t, a, b, c: (t.addmm(c, a, b.t(), beta=0.5, alpha=2), t.baddbmm(t.zeros(1, 3, 3), a[None], b.t()[None])), A, B, array(3, seed=7)),
    "einsum":              (lambda t, a, s: (t.einsum("bij,jk->bik", a, s), t.einsum("bij->b", a), t.einsum("ii->i", s), t.einsum("bij,bkj->bik", a, a), t.einsum("...j,jk", a, s)), T, S),
    "einsum many":         (lambda t, a, b, c: (t.einsum("ij,ij,j->i", a, b, c), t.einsum("i,j->ij", c, c), t.einsum("ij->ji", a)), A, B, C),
    "tensordot":           (lambda t, a, s, b: (t.tensordot(a, s, 1), t.tensordot(a, b, dims=([1, 2], [0, 1]))), T, S, A),
    "int matmul":          (lambda t, i, j: i @ j.t(), I, J),
    # shapes
    "reshape":             (lambda t, a: (a.reshape(4, 6), a.view(-1), a.reshape((2, -1)), a.view(2, 12).t(), t.reshape(a, (24,))), T),
    "transposes":          (lambda t, a: (a.transpose(0, 2), a.permute(2, 0, 1), a.swapaxes(0, 1), t.permute(a, (1, 2, 0)), a.movedim(0, -1), a.mT), T),
    "transposed reshape":  (lambda t, a: (a.transpose(0, 1).reshape(3, 8), a.permute(2, 0, 1).flatten()), T),
    "squeeze":             (lambda t, a: (a.unsqueeze(0), a.unsqueeze(-1).squeeze(-1), a[None].squeeze(), a.unsqueeze(1).squeeze(0)), A),
    "expand":              (lambda t, c: (c.expand(3, 4), c.unsqueeze(1).expand(-1, 5), t.broadcast_tensors(c, c[:, None])), C),
    "cat stack":           (lambda t, a, b: (t.cat([a, b]), t.cat((a, b), dim=1), t.stack([a, b], 1), t.hstack([a, b]), t.vstack([a, b]), t.concat([a, b], -1)), A, B),
    "cat types":           (lambda t, a, i: t.cat([a, i]), A, I),
    "cut":                 (lambda t, a: (a.chunk(3, 2), a.split(3, 2), a.split([1, 3], dim=2), a.unbind(1), t.narrow(a, 2, 1, 2), a.select(1, -1), t.tensor_split(a, 3, 2)), T),
    "flatten":             (lambda t, a: (a.flatten(), a.flatten(1), t.flatten(a, 0, 1), a.unflatten(2, (2, -1))), T),
    "repeat":              (lambda t, c: (c.repeat(2), c.repeat(3, 2), c.repeat_interleave(2), t.tile(c, (2, 2))), C),
    "repeat_interleave":   (lambda t, a: a.repeat_interleave(2, dim=1), A),
    "flip roll":           (lambda t, a: (a.flip(0), t.flip(a, (0, 1)), a.roll(1), a.roll(-1, 1), t.roll(a, (1, 2), (0, 1))), A),
    "triangles":           (lambda t, s: (s.tril(), t.triu(s, 1), s.tril(-1), t.triu(s, -1)), S),
    "diagonals":           (lambda t, s, c: (s.diag(), t.diag(c), s.diagonal(1), t.diag(c, -1), s.diagonal(-2), t.diagonal(s)), S, C),
    "meshgrid":            (lambda t, c: t.meshgrid(c, c[:2], indexing="ij") + t.meshgrid(c, c[:3], indexing="xy"), C),
    "pad":                 (lambda t, a: t.nn.functional.pad(a, (1, 2, 0, -1), value=3.0), T),
    # indexing
    "basic":               (lambda t, a: (a[0], a[-1, 1], a[:, 1:3], a[..., 0], a[:, None], a[1:, ::2, -2:], a[0, 0, 0], a[:0]), T),
    "index tensors":       (lambda t, a, i: (a[i], a[:, i], a[..., i], a[i, 1], a[i, i - 1], a[[0, 2]], a[i[:, None], i]), A, IX),
    "negative indices":    (lambda t, a: (a[t.tensor([-1, 0])], a[[-1], [-2]]), A),
    "apart indices":       (lambda t, a: (a[t.tensor([0, 1]), :, t.tensor([1, 3])], a[0, :, t.tensor([1, 3])]), T),
    "masks":               (lambda t, a, m: (a[m], a[a > 0], a[m[:, 0]], a.masked_select(m), a[:, m[0]]), A, M),
    "gather":              (lambda t, a, i: (a.gather(0, i), t.gather(a, 1, i)), A, ALONG),
    "take_along_dim":      (lambda t, a: t.take_along_dim(a, a.argsort(1), 1), A),
    "index_select":        (lambda t, a, i: (a.index_select(1, i), t.index_select(a, 0, i)), A, IX),
    "take":                (lambda t, a, i: t.take(a, i), A, IX),
    "scatter_add":         (lambda t, a, i, b: (a.scatter_add(0, i, b[:2]), t.scatter_add(a, 1, i, b[:2])), A, ALONG, B),
    "scatter":             (lambda t, a, b: (a.scatter(1, t.tensor([[0, 3], [1, 2]]), b[:2, :2]), a.scatter(1, t.tensor([[0, 3]]), b.detach()), a.scatter(0, t.tensor([[2, 0]]), 9.0)), A, B),
    "index_add":           (lambda t, a, i, b: (a.index_add(0, i, b), a.index_add(0, i, b, alpha=2)), A, IX, B),
    "index_fill":          (lambda t, a: (a.index_fill(1, t.tensor([0, 2]), 7.0), a.index_copy(0, t.tensor([2, 0]), a[:2] * 2)), A),
    "where places":        (lambda t, a, m: (t.where(m), m.nonzero(), t.nonzero(a > 0)), A, M),
    "one_hot":             (lambda t, i: (t.nn.functional.one_hot(i, 4), t.nn.functional.one_hot(i)), IX),
    "unique":              (lambda t, i: (i.unique(), t.unique(i, return_counts=True)), I),
    "unique NaN":          (lambda t, a: [(t.unique(b, return_inverse=True)[0].isnan().sum(), t.unique(b).nan_to_num(-1.0).float()) for b in (a.detach(), a.detach().bfloat16())], np.float32([2, np.nan, 1, np.nan, 2, -np.inf])),
    "iterate":             (lambda t, a: [r * 2 for r in a], A),
    # types
    "casts":               (lambda t, a, i, m: (a.int(), a.long(), a.double(), a.bool(), i.float(), m.float(), a.to(t.float64), i.to(t.int32), a.type(t.long), m.long(), a.type_as(i)), A, I, M),
    "double chain":        (lambda t, a: a.double().exp().float().sum(), A),
    "creation":            (lambda t: (t.zeros(2, 3), t.ones((2,)), t.full((2, 2), 7), t.full((2,), 0.5), t.eye(3), t.eye(2, 3), t.zeros(2, dtype=t.int32), t.empty(0, 2)),),
    "like":                (lambda t, a, i: (t.zeros_like(a), t.ones_like(i), t.full_like(a, 3), t.zeros_like(i, dtype=t.float64), a.new_zeros(2), i.new_ones(2, 2), a.new_full((2,), 1.5), a.new_tensor([1, 2])), A, I),
    "arange":              (lambda t: (t.arange(5), t.arange(2, 9, 3), t.arange(5, 0, -2), t.arange(0.0, 1.0, 0.25), t.arange(3, dtype=t.float32), t.arange(1, 2.5, 0.5)),),
    "linspace":            (lambda t: (t.linspace(0, 1, 5), t.linspace(-3, 10, 7), t.linspace(2, 2, 1), t.linspace(0, 1, 0)),),
    "data":                (lambda t: (t.tensor([1, 2]), t.tensor([1.5, 2]), t.tensor([[True]]), t.tensor(3), t.tensor([]), t.tensor([1, 2], dtype=t.float64), t.as_tensor([0.5]), t.tensor((1, 2.0))),),
}
# fmt: on


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    both(lambda t, x: getattr(t, name)(x), UNARY[name])
    both(lambda t, x: getattr(x, name)(), UNARY[name])
    both(lambda t, x: getattr(t, name)(x.double()), UNARY[name], rtol=1e-6)


@pytest.mark.parametrize("name", INTEGER)
def test_unary_of_integers(name: str) -> None:
    both(lambda t, x: getattr(t, name)(x), J)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    both(lambda t, a, b: getattr(t, name)(a, b), P, Q)
    both(lambda t, a, b: getattr(a, name)(b), P, C)
    both(lambda t, a, b: getattr(t, name)(a, b), I, J)


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    f, *arrays = CASES[name]
    both(f, *arrays)


def test_a_wrong_row_would_fail() -> None:
    with pytest.raises(AssertionError):
        both(lambda t, a: a * 2 if t.__name__ == "torch" else a * 2.001, A)
    with pytest.raises(AssertionError):
        both(lambda t, a: a * 2 if t.__name__ == "torch" else (a * 2).detach(), A)
    with pytest.raises(AssertionError):
        both(lambda t, a: a * a if t.__name__ == "torch" else a * a.detach(), A)
