"""python -m bench.sweep [WORD ...]: shapes that no recipe likes, each beside a neighbour that one does.

Each row is right (as PyTorch has it) or an error in words, and takes no more than MOST times as long as its neighbour for
the same amount of work. Times are those of the kernels alone, the best of some runs. Words choose the rows
whose names have one of them. The exit status is 1 if a row fails. With --ways it is contractions and the ways of
computing them that are swept (`ways.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

MOST = 3.0
LEAST = 3_000  # nanoseconds: below that a ratio says nothing
RUNS = 7

Shape = tuple[int, ...]
Function = Callable[..., Any]  # of the module and of tensors


class Row(NamedTuple):
    name: str
    function: Function
    odd: tuple[Shape, ...]
    even: tuple[Shape, ...] = ()  # the neighbour; none for a row that is only to be right
    error: str = ""  # what the message says where it is to be an error
    even_function: Function | None = None


def product(t: Any, a: Any, b: Any) -> Any:
    return a @ b


def conv(**options: Any) -> Function:
    def f(t: Any, x: Any, w: Any) -> Any:
        return getattr(t.nn.functional, f"conv{x.ndim - 2}d")(x, w, **options)

    return f


def trained(f: Function) -> Function:
    """The gradients of all operands."""

    def g(t: Any, *xs: Any) -> Any:
        xs = tuple(x.requires_grad_(True) for x in xs)
        y = f(t, *xs)
        return t.cat([d.reshape(-1) for d in t.autograd.grad((y * y).sum(), xs)])

    return g


def over(name: str, *args: Any, **options: Any) -> Function:
    return lambda t, x: getattr(t, name)(x, *args, **options)


softmax = over("softmax", -1)
norm = lambda t, x: t.nn.functional.layer_norm(x, x.shape[-1:])
turned = lambda t, x: x.T.contiguous() + 1
same = lambda t, x: t.exp(x) * 2


def square(n: int) -> tuple[Shape, Shape]:
    return (n, n), (n, n)


# fmt: off
ROWS = [
    *(Row(f"product {n}", product, square(n), square(m)) for n, m in ((13, 16), (31, 32), (61, 64), (127, 128), (257, 272), (521, 528), (1021, 1024))),
    *(Row(f"product {n}, gradients", trained(product), square(n), square(m)) for n, m in ((61, 64), (257, 272), (521, 528))),
    Row("product 4096x3x512",   product, ((4096, 3), (3, 512)),     ((4096, 4), (4, 512))),
    Row("product 4096x512x3",   product, ((4096, 512), (512, 3)),   ((4096, 512), (512, 4))),
    Row("product 4096x512x2",   product, ((4096, 512), (512, 2)),   ((4096, 512), (512, 4))),
    Row("product 4096x512x1",   product, ((4096, 512), (512, 1)),   ((4096, 512), (512, 4))),
    Row("product 3x4096x512",   product, ((3, 4096), (4096, 512)),  ((4, 4096), (4096, 512))),
    Row("product 2x512x4096",   product, ((2, 512), (512, 4096)),   ((4, 512), (512, 4096))),
    Row("product 1x1021x1021",  product, ((1, 1021), (1021, 1021)), ((4, 1024), (1024, 1024))),
    Row("product 2x2, many",    product, ((5000, 2, 2), (5000, 2, 2)), ((5000, 4, 4), (5000, 4, 4))),
    Row("product 3x3, many",    product, ((5000, 3, 3), (5000, 3, 3)), ((5000, 4, 4), (5000, 4, 4))),
    Row("product 7x100003x7",   product, ((7, 100_003), (100_003, 7)), ((8, 100_000), (100_000, 8))),
    Row("product 5x0x7",        product, ((5, 0), (0, 7))),
    Row("product 0x5x7",        product, ((0, 5), (5, 7))),
    Row("product that does not fit", product, ((5, 6), (7, 8)), error="6"),
    *(Row(f"rows of {n}, softmax", softmax, ((65_536 // m, n),), ((65_536 // m, m),)) for n, m in ((2, 4), (3, 4), (7, 8), (13, 16), (1021, 1024))),
    *(Row(f"rows of {n}, norm", norm, ((65_536 // m, n),), ((65_536 // m, m),)) for n, m in ((2, 4), (3, 4), (13, 16), (1021, 1024))),
    *(Row(f"4096 x {n}, sum down", over("sum", 0), ((4096, n),), ((4096, m),)) for n, m in ((1, 4), (2, 4), (3, 4), (13, 16), (509, 512))),
    *(Row(f"4096 x {n}, sum along", over("sum", 1), ((4096, n),), ((4096, m),)) for n, m in ((1, 4), (2, 4), (3, 4), (13, 16), (509, 512))),
    *(Row(f"4096 x {n}, exp", same, ((4096, n),), ((4096, m),)) for n, m in ((1, 4), (3, 4), (13, 16))),
    *(Row(f"{a} x {b}, turned", turned, ((a, b),), ((c, d),)) for a, b, c, d in ((4096, 3, 4096, 4), (3, 4096, 4, 4096), (1021, 1021, 1024, 1024), (509, 2053, 512, 2048))),
    Row("0 rows, softmax",      softmax, ((0, 5),)),
    Row("no columns, sum",      over("sum", 1), ((5, 0),)),
    Row("no columns, max",      over("amax", 1), ((5, 0),), error="nothing to reduce"),
    Row("conv, stride 5 of 2",  conv(stride=5), ((4, 16, 61, 61), (32, 16, 2, 2)), ((4, 16, 60, 60), (32, 16, 2, 2)), even_function=conv(stride=4)),
    Row("conv, stride 7 of 1",  conv(stride=7), ((4, 16, 61, 61), (32, 16, 1, 1)), ((4, 16, 64, 64), (32, 16, 1, 1)), even_function=conv(stride=6)),
    Row("conv, stride 5 of 2, gradients", trained(conv(stride=5)), ((4, 16, 61, 61), (32, 16, 2, 2)), ((4, 16, 60, 60), (32, 16, 2, 2)), even_function=trained(conv(stride=4))),
    Row("conv, padding 9 of 5", conv(padding=9), ((4, 16, 5, 5), (32, 16, 3, 3)), ((4, 16, 21, 21), (32, 16, 3, 3)), even_function=conv(padding=1)),
    Row("conv, padding 9 of 5, gradients", trained(conv(padding=9)), ((4, 16, 5, 5), (32, 16, 3, 3)), ((4, 16, 21, 21), (32, 16, 3, 3)), even_function=trained(conv(padding=1))),
    Row("conv, 13 x 17 channels", conv(padding=1), ((4, 13, 31, 31), (17, 13, 3, 3)), ((4, 16, 32, 32), (32, 16, 3, 3))),
    Row("conv, 13 x 17, gradients", trained(conv(padding=1)), ((4, 13, 31, 31), (17, 13, 3, 3)), ((4, 16, 32, 32), (32, 16, 3, 3))),
    Row("conv, 1 channel",      conv(padding=1), ((8, 1, 61, 61), (32, 1, 3, 3)), ((8, 4, 64, 64), (32, 4, 3, 3))),
    Row("conv, to 1 channel",   conv(padding=1), ((8, 32, 61, 61), (1, 32, 3, 3)), ((8, 32, 64, 64), (4, 32, 3, 3))),
    Row("conv, 1 row",          conv(padding=1), ((8, 16, 1, 509), (32, 16, 3, 3)), ((8, 16, 2, 512), (32, 16, 3, 3))),
    Row("conv, 7 groups",       conv(padding=1, groups=7), ((4, 21, 31, 31), (35, 3, 3, 3)), ((4, 32, 32, 32), (64, 4, 3, 3)), even_function=conv(padding=1, groups=8)),
    Row("conv, 7 groups, gradients", trained(conv(padding=1, groups=7)), ((4, 21, 31, 31), (35, 3, 3, 3)), ((4, 32, 32, 32), (64, 4, 3, 3)), even_function=trained(conv(padding=1, groups=8))),
    Row("conv, 16 groups of 4", conv(padding=1, groups=16), ((4, 64, 28, 28), (64, 4, 3, 3)), ((4, 64, 28, 28), (64, 16, 3, 3)), even_function=conv(padding=1, groups=4)),
    Row("conv, depthwise 29",   conv(padding=1, groups=29), ((4, 29, 31, 31), (29, 1, 3, 3)), ((4, 32, 32, 32), (32, 1, 3, 3)), even_function=conv(padding=1, groups=32)),
    Row("conv, dilation 7",     conv(dilation=7), ((4, 16, 31, 31), (32, 16, 3, 3)), ((4, 16, 32, 32), (32, 16, 3, 3)), even_function=conv(dilation=4)),
    Row("conv, 1 dimension",    conv(padding=2), ((4, 13, 1021), (17, 13, 5)), ((4, 16, 1024), (32, 16, 5))),
    Row("conv, 3 dimensions",   conv(padding=1), ((2, 5, 13, 13, 13), (7, 5, 3, 3, 3)), ((2, 8, 16, 16, 16), (16, 8, 3, 3, 3))),
    Row("conv, no images",      conv(padding=1), ((0, 3, 8, 8), (4, 3, 3, 3))),
    Row("conv, kernel larger than the image", conv(), ((1, 3, 4, 4), (4, 3, 5, 5)), error="Kernel size"),
    Row("conv, groups that do not divide", conv(groups=4), ((1, 6, 8, 8), (8, 2, 3, 3)), error="groups"),
    Row("conv, groups that do not divide the result", conv(groups=2), ((1, 6, 8, 8), (7, 3, 3, 3)), error="groups"),
]
# fmt: on


def arrays(shapes: tuple[Shape, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s, np.float32) for s in shapes]


def value(module: Any, f: Function, operands: list[np.ndarray]) -> np.ndarray:
    found: np.ndarray = f(module, *(module.from_numpy(a.copy()) for a in operands)).detach().numpy()
    return found


def kernels(f: Function, shapes: tuple[Shape, ...]) -> int:
    """Nanoseconds of the kernels of all programs that a call runs."""
    import tinyflow.torch as ours
    from tinyflow.core.config import config
    from tinyflow.runtime import profile

    operands, times = arrays(shapes), []
    value(ours, f, operands)
    with config(PROFILE=1):
        for _ in range(RUNS):
            profile.RECORDS.clear()
            value(ours, f, operands)
            times.append(sum(r.ns for r in profile.RECORDS.values()))
    return min(times)


def judged(row: Row) -> tuple[str, bool]:
    """What is to be said of a row, and whether it is well."""
    import torch

    import tinyflow.torch as ours

    operands = arrays(row.odd)
    if row.error:
        try:
            value(ours, row.function, operands)
        except Exception as error:
            said = " ".join(str(error).split())
            return f"{type(error).__name__}: {said[:90]}", row.error in said
        return "no error", False
    got, want = value(ours, row.function, operands), value(torch, row.function, operands)
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    if got.shape != want.shape or not np.allclose(got, want, rtol=1e-4, atol=1e-4 * scale):
        return "differs from PyTorch", False
    if not row.even:
        return "right", True
    odd, even = kernels(row.function, row.odd), kernels(row.even_function or row.function, row.even)
    ratio = max(odd, LEAST) / max(even, LEAST)
    return f"{odd / 1e3:10.1f} us, {ratio:5.2f}x its neighbour", ratio <= MOST


def main() -> int:
    if "--ways" in sys.argv:
        from bench import ways

        words = [w for w in sys.argv[1:] if not w.startswith("--")]
        return ways.main(words, ways.HELD if "--held" in sys.argv else ways.SHAPES)
    failed, words = 0, sys.argv[1:] or [""]
    for row in (r for r in ROWS if any(w in r.name for w in words)):
        try:
            said, well = judged(row)
        except Exception as error:
            said, well = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}", False
        failed += not well
        print(f"{'  ' if well else '! '}{row.name:44} {said}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
