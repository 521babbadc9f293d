"""Every row of the table on every sample: its rules against numpy, its gradient against differences, to order 2."""

import pytest

from tests.graph.rows import cases, check_dynamic, check_gradient, check_shape_and_dtype
from tinyflow.graph.op import TABLE

NO_SAMPLES = {
    "constant",
    "placeholder",
    "variable",
    "size",
    "resample",
    "find",
    "pairs",
    "switch",
    "group",
    "assign",
    "argument",
    "scan",
}  # tested by what is made of them


@pytest.mark.parametrize("op, sample", cases())
def test_shape_and_dtype(op, sample):
    check_shape_and_dtype(op, sample)


@pytest.mark.parametrize("op, sample", cases(lambda op: op.grad is not None))
def test_gradient(op, sample):
    check_gradient(op, sample)


@pytest.mark.parametrize("op, sample", cases())
def test_dynamic_shape(op, sample):
    check_dynamic(op, sample)


def test_every_row_has_samples():
    assert {name for name, op in TABLE.items() if not op.samples} == NO_SAMPLES
