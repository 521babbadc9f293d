"""tf.contrib.framework"""
# ruff: noqa: F401  # a list of names

from tinyflow.symbolic import nest
from tinyflow.symbolic.names import missing
from tinyflow.symbolic.train import create_global_step, get_global_step, get_or_create_global_step

__getattr__ = missing("tf.contrib.framework")
