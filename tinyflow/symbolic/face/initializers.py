"""tf.initializers"""
# ruff: noqa: F401, I001  # a list of names

from tinyflow.symbolic.initializers import constant_ as constant
from tinyflow.symbolic.initializers import (
    glorot_normal, glorot_uniform, global_variables, he_normal, he_uniform, identity, lecun_normal, lecun_uniform,
    local_variables, ones, random_normal, random_uniform, truncated_normal, uniform_unit_scaling, variance_scaling, zeros,
)  # fmt: skip
from tinyflow.symbolic.names import missing
from tinyflow.symbolic.variable import variables_initializer as variables

__getattr__ = missing("tf.initializers")
