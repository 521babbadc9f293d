"""Native code beside the numpy meaning: the same values, and the same bits for any number of threads and on every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.graph.evaluate import DEAD, evaluate
from tinyflow.graph.node import Node
from tinyflow.runtime import target

THREADS = (1, 2, 3, 4)
needs_avx2 = pytest.mark.skipif(not target.runs_here(target.named("avx2")), reason="this machine cannot run AVX2 code")
# fmt: off
LOOSE = {  # by how much a value may be off: relatively, and absolutely, times the root of how many numbers are added up
    np.dtype("float32"): (2e-5, 1e-5),
    np.dtype("float64"): (1e-12, 5e-14),
}
# fmt: on


def run(nodes: Sequence[Node], fed: Mapping[Node, Any], threads: Sequence[int] = THREADS) -> list[Any]:
    """The values by native code, found to be the same bits for these numbers of threads, and when run again."""
    runner = execute.compile(nodes)
    found = []
    for count in (*threads, threads[0]):
        with config(THREADS=count):
            found.append(runner(fed, {}))
    for again in found[1:]:
        for a, b in zip(found[0], again, strict=True):
            assert (a is DEAD and b is DEAD) or same_bits(a, b)
    return found[0]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def check(
    nodes: Sequence[Node], fed: Mapping[Node, Any], threads: Sequence[int] = THREADS, added: int = 1
) -> list[Any]:
    """Native values are the numpy meaning's. `added` is about how many numbers are added up for one element."""
    want = evaluate(nodes, fed)
    got = run(nodes, fed, threads)
    for n, a in zip(nodes, got, strict=True):
        check_close(a, want[n], added)
    return got


def check_close(got: Any, want: Any, added: int = 1) -> None:
    if got is DEAD or want is DEAD:
        assert got is want
        return
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if want.dtype not in LOOSE:
        np.testing.assert_array_equal(got, want)
        return
    rtol, atol = LOOSE[want.dtype]
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol * max(1.0, np.sqrt(added)))
