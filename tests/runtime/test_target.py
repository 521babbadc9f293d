"""Targets: rows are sound, the host's is found, and a forced one keeps to its own instructions."""

import ctypes

import pytest

from tests.runtime.kernels import check
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, float64
from tinyflow.runtime import machine, target
from tinyflow.runtime.target import ROWS, TARGETS, Target, choose, current, host, named, runs_here

VECTORS = """
define void @scale(ptr %x) #0 {{
  %v = load <{lanes} x float>, ptr %x, align 4
  %w = fmul <{lanes} x float> %v, splat (float 3.0)
  store <{lanes} x float> %w, ptr %x, align 4
  ret void
}}
attributes #0 = {{ {attributes} }}
"""
WIDEST = {"avx512": "zmm", "avx2": "ymm", "sse2": "xmm", "neon": ".4s"}
LESS_WIDE = {"avx2": "zmm", "sse2": "ymm"}


def vectors(row: Target) -> str:
    return VECTORS.format(lanes=row.lanes(float32), attributes=row.attributes)


@pytest.mark.parametrize("row", TARGETS, ids=lambda row: row.name)
def test_the_micro_kernel_fits_the_registers(row: Target) -> None:
    for dtype in (float32, float64):
        mr, nv = row.tile(dtype)
        assert mr * nv + nv + 1 <= row.vector_registers
        assert row.lanes(dtype) * dtype.size == row.vector_bytes


@pytest.mark.parametrize("row", TARGETS, ids=lambda row: row.name)
def test_assembly_has_the_vectors_of_the_row(row: Target) -> None:
    text = machine.assembly(vectors(row), target=row)
    assert WIDEST[row.name] in text
    assert row.name not in LESS_WIDE or LESS_WIDE[row.name] not in text


# fmt: off
CHOICES = [
    ("x86_64",  {"avx512f", "avx512vl", "avx512bw", "avx512dq", "avx2", "fma", "bmi2"}, "avx512"),
    ("x86_64",  {"avx512f", "avx2", "fma", "bmi2"},                                     "avx2"),
    ("x86_64",  {"avx2"},                                                               "sse2"),
    ("x86_64",  set(),                                                                  "sse2"),
    ("aarch64", {"neon"},                                                               "neon"),
]
# fmt: on


@pytest.mark.parametrize("arch, features, name", CHOICES)
def test_choose_by_features(arch: str, features: set[str], name: str) -> None:
    assert choose(arch, dict.fromkeys(features, True)).name == name


def test_choose_says_what_there_is() -> None:
    with pytest.raises(RuntimeError, match=r"no code generator for vax.*avx512, avx2"):
        choose("vax", {})


def test_the_host_is_a_row_that_runs() -> None:
    assert host().name in ROWS
    assert runs_here(host())
    assert current() is host()


def test_an_unknown_target_lists_the_rows() -> None:
    with pytest.raises(ValueError, match=r"TARGET='avx9'.*avx512, avx2, sse2, neon"):
        named("avx9")


def test_a_foreign_target_does_not_link() -> None:
    foreign = "neon" if target.host_arch() == "x86_64" else "avx2"
    with config(TARGET=foreign), pytest.raises(RuntimeError, match=f"TARGET='{foreign}'.*cannot run"):
        machine.compile_ir(vectors(ROWS[foreign]), "foreign")


@pytest.mark.parametrize("name", [row.name for row in TARGETS if runs_here(row)])
def test_a_forced_target_compiles_and_runs(name: str) -> None:
    with config(TARGET=name):
        row = current()
        assert row.name == name
        scale = machine.compile_ir(vectors(row), "scale").address("scale")
        x = (ctypes.c_float * 16)(*range(16))
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(scale)(ctypes.addressof(x))
        lanes = row.lanes(float32)
        assert list(x) == [3.0 * i if i < lanes else i for i in range(16)]
        check(2)
