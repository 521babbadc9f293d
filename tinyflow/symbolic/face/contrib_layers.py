"""tf.contrib.layers"""
# ruff: noqa: F401  # a list of names

from tinyflow.symbolic.gradient import recompute_grad
from tinyflow.symbolic.initializers import variance_scaling_initializer, xavier_initializer
from tinyflow.symbolic.initializers import xavier_initializer as xavier_initializer_conv2d
from tinyflow.symbolic.layers import flatten, fully_connected, l1_regularizer, l2_regularizer
from tinyflow.symbolic.names import missing

__getattr__ = missing("tf.contrib.layers")
