"""What the tests of the imperative face share: PyTorch to compare with, and how results are compared."""

import pytest

import tinyflow.torch as tf_torch


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def same_start():
    tf_torch.manual_seed(0)
    tf_torch.set_default_dtype(tf_torch.float32)
