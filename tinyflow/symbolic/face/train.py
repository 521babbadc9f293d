"""tf.train"""
# ruff: noqa: F401, I001  # a list of names

from tinyflow.symbolic.names import missing
from tinyflow.symbolic.schedules import (
    ExponentialMovingAverage, cosine_decay, exponential_decay, inverse_time_decay, natural_exp_decay, piecewise_constant,
    piecewise_constant_decay, polynomial_decay,
)  # fmt: skip
from tinyflow.symbolic.train import (
    AdadeltaOptimizer, AdagradOptimizer, AdamOptimizer, GradientDescentOptimizer, MomentumOptimizer, Optimizer,
    RMSPropOptimizer, create_global_step, get_global_step, get_or_create_global_step, global_step,
)  # fmt: skip

__getattr__ = missing("tf.train")
