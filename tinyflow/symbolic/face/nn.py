"""tf.nn"""
# ruff: noqa: F401, I001  # a list of names

from tinyflow.symbolic.face import rnn_cell
from tinyflow.symbolic.image import (
    avg_pool, conv1d, conv2d, conv2d_transpose, depthwise_conv2d, max_pool, separable_conv2d,
)  # fmt: skip
from tinyflow.symbolic.image import convolution_ as convolution
from tinyflow.symbolic.image import depthwise_conv2d as depthwise_conv2d_native
from tinyflow.symbolic.names import missing
from tinyflow.symbolic.nn import TABLE as _TABLE
from tinyflow.symbolic.nn import (
    batch_norm_with_global_normalization, batch_normalization, bias_add, dropout, embedding_lookup, in_top_k, l2_normalize,
    leaky_relu, local_response_normalization, log_poisson_loss, log_softmax, lrn, moments, relu_layer,
    sigmoid_cross_entropy_with_logits, softmax, softmax_cross_entropy_with_logits, softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits, top_k, weighted_cross_entropy_with_logits, xw_plus_b,
)  # fmt: skip
from tinyflow.symbolic.rnn import bidirectional_dynamic_rnn, dynamic_rnn, static_bidirectional_rnn, static_rnn

globals().update(_TABLE)  # relu, sigmoid, ...: the table of symbolic/nn.py
__getattr__ = missing("tf.nn")
