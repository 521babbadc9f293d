"""The machines that code is made for: one row each.

    target := Target(name, triple, cpu, features, needs, vector_bytes, vector_registers, float32, float64,
                     l1, l2, l3, fma, latency, broadcast, bytes)

`float32` and `float64` are the register tile of the micro-kernel of a matrix product, (rows, vectors): its
accumulators, one row's broadcast and the vectors of the right operand together fill the vector registers.
`needs` are the features, in LLVM's names, without which the row's code does not run.

The rest is what a choice between ways of computing is made by (`compiler/cost.py`): the bytes of the caches (of the last
one what a core may count on), vectors multiplied and added in a cycle, cycles until such a sum is there, those that one number
for all lanes takes beside the multiplications (next to none where their instruction reads it from memory itself), and the
bytes that come in a cycle from the second cache, the last one and memory. They are a usual machine's with that instruction set.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from tinyflow.core.config import config
from tinyflow.core.dtypes import DType


class Target(NamedTuple):
    name: str
    triple: str
    cpu: str
    features: str
    needs: tuple[str, ...]
    vector_bytes: int
    vector_registers: int
    float32: tuple[int, int]
    float64: tuple[int, int]
    l1: int
    l2: int
    l3: int
    fma: int
    latency: int
    broadcast: float
    bytes: tuple[int, int, int]

    def tile(self, dtype: DType) -> tuple[int, int]:
        """The micro-kernel's shape for an element type: rows, vectors of columns."""
        return self.float64 if dtype.name == "float64" else self.float32

    @property
    def tiles(self) -> tuple[tuple[int, int], ...]:
        """All shapes of it that fill the registers: as many rows as fit 1, 2, 3 and 4 vectors."""
        fit = ((self.vector_registers - 1 - v) // v for v in VECTORS)
        return tuple((min(rows, MOST_ROWS), v) for rows, v in zip(fit, VECTORS, strict=True))

    def lanes(self, dtype: DType) -> int:
        """How many elements of the type fit one vector."""
        return self.vector_bytes // dtype.size

    @property
    def pairs(self) -> bool:
        """Whether it multiplies pairs of bfloat16 and adds them to a float32 in one instruction."""
        return "+avx512bf16" in self.features.split(",")

    @property
    def arch(self) -> str:
        return family(self.triple.partition("-")[0])

    @property
    def attributes(self) -> str:
        """What a kernel's `define` line carries, so that LLVM keeps its vectors whole."""
        return f'nounwind "prefer-vector-width"="{self.vector_bytes * 8}"'


X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
ARCH_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}
KB = 1024
VECTORS, MOST_ROWS = (1, 2, 3, 4), 14

# fmt: off
#           name      triple  cpu          features            needs                                            bytes regs  f32      f64      l1       l2         l3         fma lat broadcast bytes
TARGETS = [
    Target("avx512",  X86, "x86-64-v4",  "-prefer-256-bit", ("avx512f", "avx512vl", "avx512bw", "avx512dq"), 64,  32,  (14, 2), (14, 2), 32 * KB, 1024 * KB, 8192 * KB, 1, 4, 0.04, (32, 12, 4)),
    Target("avx2",    X86, "haswell",    "",                ("avx2", "fma", "bmi2"),                         32,  16,  (6, 2),  (6, 2),  32 * KB,  256 * KB, 8192 * KB, 2, 4, 0.15, (20, 12, 3)),
    Target("sse2",    X86, "x86-64",     "",                (),                                              16,  16,  (6, 2),  (6, 2),  32 * KB,  256 * KB, 8192 * KB, 2, 4, 0.25, (20, 12, 3)),
    Target("neon",    ARM, "generic",    "+neon",           (),                                              16,  32,  (8, 2),  (8, 2),  64 * KB,  512 * KB, 4096 * KB, 2, 4, 0.1,  (16, 8, 4)),
]
# fmt: on

ROWS = {row.name: row for row in TARGETS}


def choose(arch: str, features: Mapping[str, bool]) -> Target:
    """The first row of that architecture all of whose needs the features meet."""
    for row in TARGETS:
        if row.arch == arch and all(features.get(need) for need in row.needs):
            return row
    raise RuntimeError(f"there is no code generator for {arch} processors; the table has {rows()}")


@cache
def host() -> Target:
    """This machine: its row, made exact by the processor's own name and features."""
    from tinyflow.runtime import machine  # asking LLVM loads it, and only code that compiles has to

    features = machine.cpu_features()
    row = choose(host_arch(), features)
    flags = [f"{'+' if has else '-'}{name}" for name, has in sorted(features.items())]
    flags += filter(None, [row.features])
    return row._replace(triple=machine.triple(), cpu=machine.cpu_name(), features=",".join(flags))


def current() -> Target:
    """The machine to compile for: this one, or the row that the flag TARGET names."""
    if not config.TARGET:
        return host()
    row, here = named(config.TARGET), host()
    if row.name == here.name:
        return here
    if row.arch == here.arch:
        return row._replace(triple=here.triple)
    return row


def named(name: str) -> Target:
    """The row of that name."""
    if name not in ROWS:
        known = f"write one of {rows()}, or nothing for this machine"
        raise ValueError(f"TARGET={name!r} is not a machine that tinyflow compiles for; {known}")
    return ROWS[name]


def runs_here(target: Target) -> bool:
    """Whether this processor has all that the target's code uses."""
    from tinyflow.runtime import machine

    features = machine.cpu_features()
    return target.arch == host_arch() and all(features.get(need) for need in target.needs)


def host_arch() -> str:
    return family(platform.machine())


def family(name: str) -> str:
    """The processor family's name in LLVM's words."""
    return ARCH_NAMES.get(name.lower(), name.lower())


def rows() -> str:
    return ", ".join(ROWS)
