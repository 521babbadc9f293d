"""Graphs as text."""

import itertools

import numpy as np
import pytest

from tinyflow.core.dtypes import float32
from tinyflow.core.expr import dim
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import Node
from tinyflow.graph.show import equations, show
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import reshape
from tinyflow.ops.reduction import max_, sum_


def test_a_listing_numbers_nodes_from_0_and_says_what_made_them() -> None:
    x, w = placeholder(float32, (dim("n"), 3), "x"), placeholder(float32, (3, 4), "w")
    lines = show([e.relu(sum_(matmul(x, w), 1) * 0.5)]).splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["%0", "placeholder"],
        ["%1", "placeholder"],
        ["%2", "contract"],
    ]
    assert (
        "%0 %1" in lines[2] and "ij,jk->ik" in lines[2] and "float32 (n, 4)" in lines[2] and "test_show.py:" in lines[2]
    )
    assert "axes=1" in lines[3] and "float32 (n,)" in lines[3]
    assert (
        len({line.index("test_show.py") for line in lines if "test_show.py" in line}) == 1
    )  # columns stand one below the other


def test_a_listing_is_the_same_each_time_it_is_made() -> None:
    def made() -> Node:
        x = placeholder(float32, (2, 2), "x")
        return e.exp(x) + e.log(x) * 2.0

    first, second = made(), made()
    assert first is not second and show([first]) == show([second])
    assert show([]) == ""


a, b, x = (placeholder(float32, (2, 3), name) for name in ("a", "b", "x"))
NAMES = {a: "a", b: "b", x: "x"}


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (a - (b - x), "a - (b - x)"),
        (a - b - x, "a - b - x"),
        ((a + b) * -x, "(a + b) * -x"),
        (-(a * b), "-(a * b)"),
        (a / (b * 2.0), "a / (b * 2)"),
        ((a**2.5) ** b, "(a ** 2.5) ** b"),
        (e.where(a > 0.0, b, 0.0), "where(0 < a, b, 0)"),
        (reshape(sum_(a, 0), (3, 1)), "reshape(sum(a, axes=0), (3, 1))"),
        (max_(a), "max(a, axes=(0, 1))"),
    ],
)
def test_an_equation_reads_as_written(node: Node, text: str) -> None:
    assert equations({"y": node}, NAMES) == [f"y = {text}"]


def test_what_is_used_twice_has_a_line_of_its_own() -> None:
    t = e.tanh(a)
    assert equations({"y": t * (1.0 - t)}, NAMES) == ["t = tanh(a)", "y = t * (1 - t)"]
    assert equations({"da": b, "db": b * b}, NAMES) == ["da = b", "db = b * b"]


SIGNS = [
    lambda p, q: p + q,
    lambda p, q: p - q,
    lambda p, q: p * q,
    lambda p, q: p / q,
    lambda p, q: p**q,
    lambda p, q: -p + q,
]


@pytest.mark.parametrize(("outer", "left", "right"), list(itertools.product(range(len(SIGNS)), repeat=3)))
def test_brackets_stand_where_they_are_needed(outer: int, left: int, right: int) -> None:
    """Read back by Python, an equation has the value of its node."""
    node = SIGNS[outer](SIGNS[left](a, b), SIGNS[right](b, x))
    values = {n: np.full((2, 3), v, np.float32) for n, v in ((a, 1.25), (b, 0.75), (x, 1.5))}
    *before, last = equations({"y": node}, NAMES)
    scope = {NAMES[n]: v for n, v in values.items()}
    with np.errstate(invalid="ignore"):
        for line in [*before, last]:
            exec(line, {}, scope)
    np.testing.assert_allclose(scope["y"], evaluate([node], values)[node], rtol=1e-5)
