"""Masks that are triangles are read as they are made; what is read is what their elements say."""

import math

import pytest

from tinyflow.core.dtypes import float32, int32
from tinyflow.graph.node import toposort
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.leaf import constant, iota, placeholder
from tinyflow.ops.movement import expand, permute, reshape
from tinyflow.passes import pipeline
from tinyflow.passes.diagonals import diagonal, read, worked_out

INF = math.inf


def down(n):
    return reshape(iota(n), (n, 1))


# fmt: off
WAYS = {  # of rows, keys and c: a mask
    "a triangle":        (lambda m, n, c: f.triangle(m, n, c), "where"),
    "what is hidden":    (lambda m, n, c: e.logical_not(f.triangle(m, n, c)), "unless"),
    "less":              (lambda m, n, c: e.less(expand(iota(n), (m, n)), expand(down(m) + (c + 1), (m, n))), "where"),
    "the other way":     (lambda m, n, c: e.less(expand(down(m) + c, (m, n)), expand(iota(n), (m, n))), "unless"),
    "a difference":      (lambda m, n, c: e.less_equal(expand(iota(n) - c, (m, n)) - expand(down(m), (m, n)), 0), "where"),
    "numbers":           (lambda m, n, c: e.equal(e.where(f.triangle(m, n, c), f.ones((m, n)), 0.0), 0.0), "unless"),
    "added":             (lambda m, n, c: e.where(f.triangle(m, n, c), 0.0, constant(-INF)), "add"),
    "more axes":         (lambda m, n, c: reshape(f.triangle(m, n, c), (1, 1, m, n)), "where"),
    "cast":              (lambda m, n, c: e.not_equal(e.cast(f.triangle(m, n, c), float32), 0.0), "where"),
}
NEVER = {
    "columns":           e.less(expand(iota(9), (6, 9)), 3),
    "two diagonals":     e.logical_and(f.triangle(6, 9, 2), e.logical_not(f.triangle(6, 9, -1))),
    "every other":       e.less_equal(expand(iota(9), (6, 9)) * 2, expand(down(6), (6, 9))),
    "above":             e.logical_not(f.triangle(6, 9, 2)),
    "the first sees nothing": f.triangle(6, 9, -1),
    "turned":            permute(f.triangle(9, 6, 0), (1, 0)),
}
# fmt: on


@pytest.mark.parametrize("sizes", [(6, 9, 2), (9, 6, 0), (7, 7, 0), (5, 8, 20), (6, 9, -1)], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_read_as_it_is(way, sizes):
    make, kind = WAYS[way]
    (mask,) = pipeline.run([make(*sizes)])
    assert read(toposort([mask])) is not None
    c = diagonal(mask, kind)
    assert c == worked_out(mask, kind) == (min(sizes[2], sizes[1] - 1) if sizes[2] >= 0 else None)


@pytest.mark.parametrize("way", NEVER)
def test_no_triangle(way):
    assert diagonal(NEVER[way], "where") is None
    assert worked_out(NEVER[way], "where") is None


def test_what_is_hidden_is_not_seen():
    assert diagonal(f.triangle(6, 9, 2), "unless") is None
    assert diagonal(e.where(f.triangle(6, 9, 2), constant(-INF), 0.0), "add") is None
    assert diagonal(e.where(f.triangle(6, 9, 2), constant(-1e9), 0.0), "add") is None


def test_great_ones_are_not_worked_out():
    assert diagonal(f.triangle(1 << 20, 1 << 20, 5), "where") == 5
    assert diagonal(permute(f.triangle(1 << 12, 1 << 12), (1, 0)), "where") is None


def test_what_depends_on_data_is_none():
    assert diagonal(e.less(placeholder(int32, (6, 9), "x"), 3), "where") is None
