"""tinyflow as a define-then-run framework: `import tinyflow as tf`, with the names of TensorFlow 1."""

from importlib import import_module as _import

from tinyflow.core.dtypes import DType, bfloat16, float16, float32, float64, int32, int64, uint8
from tinyflow.core.dtypes import bool_ as bool
from tinyflow.symbolic.array import (
    broadcast_to,
    concat,
    expand_dims,
    gather,
    gather_nd,
    matrix_transpose,
    one_hot,
    pad,
    rank,
    reshape,
    reverse,
    sequence_mask,
    shape,
    shape_n,
    size,
    split,
    squeeze,
    stack,
    tile,
    transpose,
    unstack,
    where,
)
from tinyflow.symbolic.array import reverse as reverse_v2
from tinyflow.symbolic.array import slice_ as slice
from tinyflow.symbolic.array import stack as pack
from tinyflow.symbolic.array import unstack as unpack
from tinyflow.symbolic.control import Assert, Print, case, cond, group, no_op, tuple
from tinyflow.symbolic.control import print_ as print
from tinyflow.symbolic.filling import (
    diag,
    diag_part,
    eye,
    fill,
    linspace,
    matrix_band_part,
    matrix_diag,
    matrix_diag_part,
    ones,
    ones_like,
    placeholder_with_default,
    trace,
    zeros,
    zeros_like,
)
from tinyflow.symbolic.filling import linspace as lin_space
from tinyflow.symbolic.filling import range_ as range
from tinyflow.symbolic.gradient import gradients, recompute_grad
from tinyflow.symbolic.graph import (
    Graph,
    GraphKeys,
    Operation,
    add_to_collection,
    colocate_with,
    container,
    control_dependencies,
    device,
    get_collection,
    get_collection_ref,
    get_default_graph,
    name_scope,
    reset_default_graph,
    set_random_seed,
)
from tinyflow.symbolic.initializers import Constant as constant_initializer
from tinyflow.symbolic.initializers import Ones as ones_initializer
from tinyflow.symbolic.initializers import RandomNormal as random_normal_initializer
from tinyflow.symbolic.initializers import RandomUniform as random_uniform_initializer
from tinyflow.symbolic.initializers import TruncatedNormal as truncated_normal_initializer
from tinyflow.symbolic.initializers import VarianceScaling as variance_scaling_initializer
from tinyflow.symbolic.initializers import Zeros as zeros_initializer
from tinyflow.symbolic.initializers import glorot_normal as glorot_normal_initializer
from tinyflow.symbolic.initializers import glorot_uniform as glorot_uniform_initializer
from tinyflow.symbolic.initializers import uniform_unit_scaling as uniform_unit_scaling_initializer
from tinyflow.symbolic.loops import foldl, foldr, map_fn, scan, while_loop
from tinyflow.symbolic.math import TABLE as _TABLE
from tinyflow.symbolic.math import (
    add_n,
    arg_max,
    arg_min,
    argmax,
    argmin,
    argsort,
    cast,
    clip_by_global_norm,
    clip_by_norm,
    count_nonzero,
    cumprod,
    cumsum,
    global_norm,
    norm,
    searchsorted,
    sort,
    to_double,
    to_float,
    to_int32,
    to_int64,
)
from tinyflow.symbolic.math import of_row as _of_row
from tinyflow.symbolic.names import missing as _missing
from tinyflow.symbolic.operators import strided_slice
from tinyflow.symbolic.options import ConfigProto, GPUOptions, GraphOptions, OptimizerOptions, RunMetadata, RunOptions
from tinyflow.symbolic.products import batch_matmul, einsum, matmul, matvec, tensordot
from tinyflow.symbolic.random import multinomial, random_normal, random_uniform, truncated_normal
from tinyflow.symbolic.scopes import (
    AUTO_REUSE,
    VariableScope,
    get_local_variable,
    get_variable,
    get_variable_scope,
    make_template,
    no_regularizer,
    variable_op_scope,
    variable_scope,
)
from tinyflow.symbolic.session import InteractiveSession, Session, get_default_session
from tinyflow.symbolic.shape import Dimension, TensorShape
from tinyflow.symbolic.tensor import Tensor, as_dtype, constant, convert_to_tensor, placeholder, string
from tinyflow.symbolic.variable import (
    Variable,
    all_variables,
    assert_variables_initialized,
    assign,
    assign_add,
    assign_sub,
    global_variables,
    global_variables_initializer,
    initialize_all_variables,
    initialize_local_variables,
    initialize_variables,
    is_variable_initialized,
    local_variables,
    local_variables_initializer,
    model_variables,
    moving_average_variables,
    report_uninitialized_variables,
    trainable_variables,
    variables_initializer,
)

__version__ = "0.1.0"
newaxis = None
globals().update(_TABLE)  # add, subtract, ..., reduce_sum, ...: the tables of symbolic/math.py

_NAMESPACES = {
    "contrib": "tinyflow.symbolic.face.contrib",
    "errors": "tinyflow.symbolic.errors",
    "examples": "tinyflow.examples",
    "initializers": "tinyflow.symbolic.face.initializers",
    "layers": "tinyflow.symbolic.face.layers",
    "losses": "tinyflow.symbolic.face.losses",
    "nn": "tinyflow.symbolic.face.nn",
    "train": "tinyflow.symbolic.face.train",
}


def __getattr__(name: str) -> object:
    """A namespace, loaded when it is first asked for; or the error that says what is not there."""
    if name in _NAMESPACES:
        globals()[name] = _import(_NAMESPACES[name])
        return globals()[name]
    found = _of_row(name)
    if found is not None:
        globals()[name] = found
        return found
    return _missing("tf")(name)
