"""What is written past the caches, and fetched ahead of its loop: the same values, where everything counts as large."""

import numpy as np
import pytest

from tests.compiler.native import check, needs_avx2
from tests.compiler.test_fusion import FUNCTIONS, pair
from tinyflow import programs
from tinyflow.compiler import kernel
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, float64
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.leaf import placeholder
from tinyflow.runtime import spare

SHAPES = ((64, 64), (48, 160), (33, 50), (7, 1040))


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel.LARGE >= spare.LEAST  # what is written past the caches begins at a whole line
    monkeypatch.setattr(spare, "LEAST", 0)
    monkeypatch.setattr(kernel, "LARGE", 1024)
    monkeypatch.setattr(kernel, "LONG", 64)
    monkeypatch.setattr(config, "CACHE", "0")
    programs._programs.clear()


def text(nodes):
    return "".join(c.text for c in build(nodes, {}).codes)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    for shape in SHAPES:
        fed = pair(shape)
        check(FUNCTIONS[name](*fed), fed, threads=(1, 2, 3), added=max(shape))


@needs_avx2
@pytest.mark.parametrize("name", ["softmax", "layer norm", "chain", "concat", "casts", "transpose", "select"])
def test_functions_with_shorter_vectors(name):
    fed = pair((48, 160))
    with config(TARGET="avx2"):
        check(FUNCTIONS[name](*fed), fed, threads=(1, 2), added=160)


@pytest.mark.parametrize("name", ["softmax", "layer norm", "chain", "concat", "select"])
def test_functions_of_float64(name):
    fed = pair((48, 160), float64)
    check(FUNCTIONS[name](*fed), fed, threads=(2,), added=160)


def test_only_whole_vectors_at_multiples_of_their_size_go_past():
    def past(columns):
        x = placeholder(float32, (64, columns), "x")
        return "nontemporal" in text([f.softmax(x)])

    assert past(64) and not past(65) and not past(72)


def test_what_is_read_again_at_once_does_not_go_past():
    x = placeholder(float32, (64, 64), "x")
    both = text([y := e.exp(x), f.softmax(y)])
    assert both.count("!nontemporal") == 1 and "fence" in both  # the second is not read


def test_rows_gone_through_once_are_not_fetched_ahead():
    x = placeholder(float32, (64, 64), "x")
    assert "@llvm.prefetch" in text([f.softmax(x)]) and "@llvm.prefetch" not in text([e.exp(x)])
    assert "fence" not in text([f.softmax(placeholder(float32, (2, 64), "x"))])


def test_a_large_sum_is_what_numpy_has():
    x = placeholder(float32, (1024, 512), "x")
    a = np.random.default_rng(0).standard_normal((1024, 512), np.float32)
    check([f.normalise(x, (1,), 1e-5)], {x: a}, added=512)
