"""tf.layers"""
# ruff: noqa: F401, I001  # a list of names

from tinyflow.symbolic.layers import (
    BatchNormalization, Conv1D, Conv2D, Conv2DTranspose, Dense, average_pooling2d, batch_normalization, conv1d, conv2d,
    conv2d_transpose, dense, dropout, flatten, max_pooling2d,
)  # fmt: skip
from tinyflow.symbolic.names import missing

__getattr__ = missing("tf.layers")
