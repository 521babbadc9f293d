"""tinyflow as a define-then-run framework: `import tinyflow as tf`, with the names of TensorFlow 1."""

from tinyflow.core.dtypes import bool_ as bool  # noqa: A004
from tinyflow.core.dtypes import float32, float64, int32, int64, uint8
from tinyflow.symbolic import math as _math
from tinyflow.symbolic.control import cond, group, no_op
from tinyflow.symbolic.gradient import gradients
from tinyflow.symbolic.graph import Graph, get_default_graph
from tinyflow.symbolic.session import InteractiveSession, Session
from tinyflow.symbolic.tensor import Tensor, constant, placeholder
from tinyflow.symbolic.variable import Variable, assign, global_variables_initializer, initialize_all_variables
from tinyflow.symbolic.array import zeros
from tinyflow.symbolic.math import matmul, argmax, cast

globals().update(_math.TABLE)
