"""Every row of vecmath.FUNCTIONS against mpmath, at special values, and bit for bit between lane counts."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from tinyflow.compiler import vecmath
from tinyflow.compiler.vecmath import FUNCTIONS
from tinyflow.compiler.vecmath_fits import FITS
from tinyflow.runtime import target

LANES = (1, 8, 16)
DTYPES = ("float32", "float64")
DIGITS = {"float32": 24, "float64": 53}
LOWEST = {"float32": -126, "float64": -1022}
UNARY = [fn for fn, row in FUNCTIONS.items() if row.arity == 1]
NAN, INF = float("nan"), float("inf")

# fmt: off
EXACT: dict[str, Callable[..., Any]] = {
    "exp": mp.exp, "exp2": lambda x: mpf(2) ** x, "expm1": mp.expm1, "log": mp.log, "log2": lambda x: mp.log(x) / mp.ln2,
    "log10": lambda x: mp.log(x) / mp.ln10, "log1p": mp.log1p, "pow": mp.power, "tanh": mp.tanh,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)), "softplus": lambda x: mp.log1p(mp.exp(x)), "sinh": mp.sinh, "cosh": mp.cosh,
    "erf": mp.erf, "erfc": mp.erfc, "erfinv": mp.erfinv, "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "asin": mp.asin,
    "acos": mp.acos, "atan": mp.atan, "atan2": mp.atan2, "sqrt": mp.sqrt, "rsqrt": lambda x: 1 / mp.sqrt(x),
    "floor": mp.floor, "ceil": mp.ceil, "trunc": lambda x: mp.floor(x) if x > 0 else mp.ceil(x), "round": mp.nint, "abs": abs,
}
# Where a function has values, and where most of them are neither 0 nor infinite: the samples lie in both.
DOMAIN = {
    "log": (0, INF), "log2": (0, INF), "log10": (0, INF), "log1p": (-1, INF), "sqrt": (0, INF), "rsqrt": (0, INF),
    "erfinv": (-1, 1), "asin": (-1, 1), "acos": (-1, 1), "sin": (-2.0**45, 2.0**45), "cos": (-2.0**45, 2.0**45),
    "tan": (-2.0**45, 2.0**45), "erfc": (-1e3, 1e3),
}
BUSY = {
    "exp": (-746, 710), "exp2": (-1075, 1024), "expm1": (-38, 710), "sigmoid": (-746, 37), "softplus": (-746, 40),
    "sinh": (-711, 711), "cosh": (-711, 711), "tanh": (-20, 20), "erf": (-6, 6), "erfc": (-6, 27), "log": (0, 3),
    "log2": (0, 3), "log10": (0, 3),
}
# The value at nan, inf, -inf, 0, -0.
SPECIAL: dict[str, tuple[float, ...]] = {
    "exp": (NAN, INF, 0.0, 1.0, 1.0),        "exp2": (NAN, INF, 0.0, 1.0, 1.0),      "expm1": (NAN, INF, -1.0, 0.0, -0.0),
    "log": (NAN, INF, NAN, -INF, -INF),      "log2": (NAN, INF, NAN, -INF, -INF),    "log10": (NAN, INF, NAN, -INF, -INF),
    "log1p": (NAN, INF, NAN, 0.0, -0.0),     "tanh": (NAN, 1.0, -1.0, 0.0, -0.0),    "sigmoid": (NAN, 1.0, 0.0, 0.5, 0.5),
    "softplus": (NAN, INF, 0.0, math.log(2), math.log(2)),                           "sinh": (NAN, INF, -INF, 0.0, -0.0),
    "cosh": (NAN, INF, INF, 1.0, 1.0),       "erf": (NAN, 1.0, -1.0, 0.0, -0.0),     "erfc": (NAN, 0.0, 2.0, 1.0, 1.0),
    "erfinv": (NAN, NAN, NAN, 0.0, -0.0),    "sin": (NAN, NAN, NAN, 0.0, -0.0),      "cos": (NAN, NAN, NAN, 1.0, 1.0),
    "tan": (NAN, NAN, NAN, 0.0, -0.0),       "asin": (NAN, NAN, NAN, 0.0, -0.0),     "sqrt": (NAN, INF, NAN, 0.0, -0.0),
    "acos": (NAN, NAN, NAN, math.pi / 2, math.pi / 2),                               "rsqrt": (NAN, 0.0, NAN, INF, -INF),
    "atan": (NAN, math.pi / 2, -math.pi / 2, 0.0, -0.0),                             "floor": (NAN, INF, -INF, 0.0, -0.0),
    "ceil": (NAN, INF, -INF, 0.0, -0.0),     "trunc": (NAN, INF, -INF, 0.0, -0.0),   "round": (NAN, INF, -INF, 0.0, -0.0),
    "abs": (NAN, INF, INF, 0.0, 0.0),
}
EDGES = [
    ("exp", 1e4, INF), ("exp", -1e4, 0.0), ("exp2", 2e3, INF), ("exp2", -2e3, 0.0), ("exp2", 5.0, 32.0), ("expm1", 1e4, INF),
    ("expm1", -1e4, -1.0), ("log", 1.0, 0.0), ("log", -1.0, NAN), ("log2", 1024.0, 10.0), ("log2", 2.0**-140, -140.0),
    ("log10", 1.0, 0.0), ("log1p", -1.0, -INF), ("log1p", -2.0, NAN), ("tanh", 50.0, 1.0), ("tanh", -50.0, -1.0),
    ("sigmoid", 1e4, 1.0), ("sigmoid", -1e4, 0.0), ("softplus", -1e4, 0.0), ("softplus", 1e4, 1e4), ("sinh", -1e4, -INF),
    ("cosh", -1e4, INF), ("erf", 30.0, 1.0), ("erfc", 40.0, 0.0), ("erfc", -40.0, 2.0), ("erfinv", 1.0, INF),
    ("erfinv", -1.0, -INF), ("erfinv", 1.5, NAN), ("asin", 1.5, NAN), ("acos", 1.0, 0.0), ("acos", -1.0, math.pi),
    ("asin", -1.0, -math.pi / 2), ("round", 2.5, 2.0), ("round", 3.5, 4.0), ("round", -0.5, -0.0), ("ceil", -0.5, -0.0),
    ("rsqrt", 4.0, 0.5), ("atan", 1e30, math.pi / 2),
]
# fmt: on


def wrapper(fn: str, dtype: str, lanes: int) -> str:
    """void run_...(in0, [in1,] out, n): the function on n times `lanes` numbers."""
    element = {"float32": "float", "float64": "double"}[dtype]
    kind, align = (element if lanes == 1 else f"<{lanes} x {element}>"), np.dtype(dtype).itemsize
    arity, name = FUNCTIONS[fn].arity, vecmath.symbol(fn, dtype, lanes)
    pointers = ", ".join(f"ptr %in{k}" for k in range(arity))
    loads = "".join(
        f"  %p{k} = getelementptr {kind}, ptr %in{k}, i64 %i\n  %v{k} = load {kind}, ptr %p{k}, align {align}\n"
        for k in range(arity)
    )
    arguments = ", ".join(f"{kind} %v{k}" for k in range(arity))
    return f"""define void @run_{name}({pointers}, ptr %out, i64 %n) {{
start:
  br label %loop
loop:
  %i = phi i64 [0, %start], [%next, %loop]
{loads}  %r = call {kind} @{name}({arguments})
  %p = getelementptr {kind}, ptr %out, i64 %i
  store {kind} %r, ptr %p, align {align}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


class Compiled:
    """Functions of a module, by (fn, dtype, lanes), as functions of numpy arrays."""

    def __init__(self, keys: list[tuple[str, str, int]], cpu: str = "", features: str = "", machine: str = "") -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        functions = [vecmath.define(*key, machine) for key in keys]
        text = [*vecmath.declarations(keys, machine), *functions, *(wrapper(*key) for key in keys)]
        module = llvm.parse_assembly("\n".join(text))
        module.verify()
        built_for = llvm.Target.from_default_triple().create_target_machine(
            cpu=cpu or llvm.get_host_cpu_name(),
            features=features if cpu else llvm.get_host_cpu_features().flatten(),
            opt=2,
        )
        passes = llvm.create_pass_builder(built_for, llvm.create_pipeline_tuning_options(speed_level=1))
        passes.getModulePassManager().run(module, passes)
        self.engine = llvm.create_mcjit_compiler(module, built_for)
        self.engine.finalize_object()

    def __call__(self, fn: str, dtype: str, lanes: int, *inputs: np.ndarray) -> np.ndarray:
        inputs = tuple(np.ascontiguousarray(x, dtype) for x in inputs)
        count = -(-len(inputs[0]) // lanes)
        inputs = tuple(np.resize(x, count * lanes) for x in inputs)
        out = np.empty(count * lanes, dtype)
        kinds = [ctypes.c_void_p] * (len(inputs) + 1) + [ctypes.c_int64]
        address = self.engine.get_function_address(f"run_{vecmath.symbol(fn, dtype, lanes)}")
        ctypes.CFUNCTYPE(None, *kinds)(address)(*(x.ctypes.data for x in inputs), out.ctypes.data, count)
        return out


@cache
def compiled() -> Compiled:
    keys = [(fn, dtype, lanes) for fn in FUNCTIONS for dtype in DTYPES for lanes in LANES]
    return Compiled(keys, machine=target.host().name)


def samples(fn: str, dtype: str, count: int) -> tuple[np.ndarray, ...]:
    """A third over all exponents, denormals too, a third where the function is busy, a third about -3..3."""
    rng = np.random.default_rng(len(fn) + count)
    lowest, highest = LOWEST[dtype] - DIGITS[dtype] + 1, 1 - LOWEST[dtype]
    found = []
    for _ in range(FUNCTIONS[fn].arity):
        signs = rng.choice([-1.0, 1.0], count)
        wide = np.ldexp(rng.uniform(1, 2, count), rng.integers(lowest, highest, count)) * signs
        busy = rng.uniform(*BUSY.get(fn, (-10, 10)), count) * (1.0 if dtype == "float64" else 0.14)
        near = rng.normal(size=count)
        x = np.concatenate([wide, busy, near]).astype(dtype)
        low, high = DOMAIN.get(fn, (-INF, INF))
        x[(x < low) | (x > high)] = rng.uniform(max(low, -4), min(high, 4), len(x)).astype(dtype)[
            (x < low) | (x > high)
        ]
        found.append(x)
    if fn == "pow":  # bases about 1, and results that are neither 0 nor infinite
        x = np.abs(found[0])
        x[:count] = 1 + np.ldexp(rng.normal(size=count), rng.integers(3 - DIGITS[dtype], -1, count))
        limit = 745 if dtype == "float64" else 103
        with np.errstate(divide="ignore"):
            y = (rng.uniform(-limit, limit * 0.95, len(x)) / np.log(x.astype("float64"))).astype(dtype)
        found = [x, np.where(np.isfinite(y), y, 1).astype(dtype)]
    return tuple(found)


def error_in_ulps(got: float, true: Any, dtype: str) -> float:
    """|got - true| in units of the last place of the float that true lies next to."""
    if true == 0 or math.isnan(got):
        return 0.0 if got == true else INF
    if math.isinf(got):
        overflow = mpf(2) ** (2 - LOWEST[dtype])
        return 0.0 if got * true > 0 and abs(true) > overflow * (1 - mpf(2) ** (1 - DIGITS[dtype])) else INF
    exponent = max(mp.frexp(true)[1] - 1, LOWEST[dtype])
    return float(abs(mpf(got) - true) / mp.ldexp(1, exponent - DIGITS[dtype] + 1))


def worst_error(run: Compiled, fn: str, dtype: str, count: int, lanes: int = 8) -> float:
    inputs = samples(fn, dtype, count)
    got = run(fn, dtype, lanes, *inputs)
    worst = 0.0
    with mpmath.workprec(160):
        for values in zip(got, *inputs):
            y, *xs = (float(v) for v in values)
            worst = max(worst, error_in_ulps(y, mpf(EXACT[fn](*map(mpf, xs))), dtype))
    return worst


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """The same bits, any NaN standing for any other."""
    bits = {4: "i4", 8: "i8"}[a.itemsize]
    return bool(np.all((a.view(bits) == b.view(bits)) | (np.isnan(a) & np.isnan(b))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn", FUNCTIONS)
def test_error_is_within_the_bound_of_the_row(fn: str, dtype: str) -> None:
    bound = FUNCTIONS[fn].ulp[DTYPES.index(dtype)]
    assert worst_error(compiled(), fn, dtype, 150) <= bound


@pytest.mark.parametrize("fn", UNARY)
def test_float32_is_within_the_bound_over_its_bit_patterns(fn: str) -> None:
    """The float64 row, held to mpmath above, is the reference here, so the samples can be dense."""
    x = np.arange(0, 2**32, 32749, dtype=np.uint32).view("float32")
    low, high = DOMAIN.get(fn, (-INF, INF))
    x = x[(x >= low) & (x <= high)]
    got, true = compiled()(fn, "float32", 16, x), compiled()(fn, "float64", 8, x)
    got, true = got[: len(x)], true[: len(x)]
    with np.errstate(over="ignore", invalid="ignore"):
        infinite = np.isinf(got) | np.isinf(true.astype("float32"))
        _, exponent = np.frexp(true)
        ulp = np.ldexp(1.0, np.maximum(exponent - 1, -126) - 23)
        error = np.where(infinite, np.abs(true) < np.finfo("f4").max, np.abs(got.astype("float64") - true) / ulp)
    nans = np.isnan(true)
    assert np.array_equal(np.isnan(got), nans)
    assert np.max(error[~nans & np.isfinite(error)]) <= FUNCTIONS[fn].ulp[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn", UNARY)
def test_special_values(fn: str, dtype: str) -> None:
    points = [NAN, INF, -INF, 0.0, -0.0, *(x for name, x, _ in EDGES if name == fn)]
    expected = np.array([*SPECIAL[fn], *(y for name, _, y in EDGES if name == fn)]).astype(dtype)
    for lanes in LANES:
        got = compiled()(fn, dtype, lanes, np.array(points))[: len(points)]
        finite = np.isfinite(expected)
        assert same(got[~finite], expected[~finite]), (points, got)
        assert np.array_equal(np.signbit(got[finite]), np.signbit(expected[finite])), (points, got)
        np.testing.assert_array_max_ulp(got[finite], expected[finite], 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn, reference", [("pow", np.power), ("atan2", np.arctan2)])
def test_special_pairs(fn: str, reference: Any, dtype: str) -> None:
    points = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 2.5, -2.5, 1e30, -1e30, 1e-40]
    x, y = (a.ravel().astype(dtype) for a in np.meshgrid(points, points))
    with np.errstate(all="ignore"):
        expected = reference(x, y)
    got = compiled()(fn, dtype, 8, x, y)[: len(x)]
    finite = np.isfinite(expected)
    assert same(got[~finite], expected[~finite])
    assert np.array_equal(np.signbit(got[finite]), np.signbit(expected[finite]))
    np.testing.assert_array_max_ulp(got[finite], expected[finite], 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn", FUNCTIONS)
def test_lane_counts_give_the_same_bits(fn: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (FUNCTIONS[fn].arity, 4096 * 8), dtype=np.uint8).view(dtype)
    inputs = [np.concatenate([a, b]) for a, b in zip(samples(fn, dtype, 512), patterns)]
    inputs = [x[: len(x) // 16 * 16] for x in inputs]
    scalar, *vectors = (compiled()(fn, dtype, lanes, *inputs) for lanes in LANES)
    assert all(same(scalar, v) for v in vectors)


@pytest.mark.skipif(not llvm.get_host_cpu_features().get("avx2"), reason="this machine cannot run AVX2 code")
def test_an_older_machine_gives_the_same_bits() -> None:
    older = Compiled([(fn, "float32", 8) for fn in FUNCTIONS], cpu="haswell", machine="avx2")
    for fn in FUNCTIONS:
        inputs = samples(fn, "float32", 512)
        assert same(older(fn, "float32", 8, *inputs), compiled()(fn, "float32", 8, *inputs)), fn


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_registers_give_the_same_bits(dtype: str) -> None:
    """Instructions of one register's size, for functions of more lanes than that."""
    functions = ("exp", "exp2", "sinh", "tanh", "erf", "erfc")
    longer = Compiled([(fn, dtype, 64) for fn in functions], machine=target.host().name)
    for fn in functions:
        (x,) = samples(fn, dtype, 512)
        assert same(longer(fn, dtype, 64, x)[: len(x)], compiled()(fn, dtype, 1, x)), fn


def test_denormals_come_out_gradually() -> None:
    x = np.linspace(-103.9, -87.4, 256, dtype="float32")
    for fn in ("exp", "sigmoid", "softplus"):
        np.testing.assert_array_max_ulp(compiled()(fn, "float32", 8, x), np.exp(x.astype("f8")).astype("f4"), 1)


@pytest.fixture
def wrong_coefficient() -> Iterator[None]:
    right = FITS["EXP"]["float32"]
    FITS["EXP"]["float32"] = (right[0] * (1 + 1e-5), *right[1:])
    vecmath.written.cache_clear()
    yield
    FITS["EXP"]["float32"] = right
    vecmath.written.cache_clear()


def test_a_wrong_coefficient_is_caught(wrong_coefficient: None) -> None:
    run = Compiled([("exp", "float32", 8)])
    assert worst_error(run, "exp", "float32", 150) > FUNCTIONS["exp"].ulp[0]


def test_text() -> None:
    """Names, declarations once each, straight lines, and no calls but of LLVM's own arithmetic."""
    keys = [(fn, dtype, 4) for fn in FUNCTIONS for dtype in DTYPES]
    lines = vecmath.declarations(keys)
    assert len(set(lines)) == len(lines)
    assert (
        vecmath.symbol("exp", "float32", 16) == "tf_exp_v16f32" and vecmath.symbol("exp", "float64", 1) == "tf_exp_f64"
    )
    for key in keys:
        text = vecmath.define(*key)
        callees = set(re.findall(r"call \S+ x \S+ @([\w.]+)\(", text))
        assert callees <= set(re.findall(r"@([\w.]+)\(", "\n".join(vecmath.declarations([key]))))
        assert not re.search(r"\b(br|phi|fast|contract)\b", text)
        assert text.startswith("define internal <4 x ")
