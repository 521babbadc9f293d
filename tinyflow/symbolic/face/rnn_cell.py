"""tf.nn.rnn_cell"""
# ruff: noqa: F401, I001  # a list of names

from tinyflow.symbolic.names import missing
from tinyflow.symbolic.rnn import (
    BasicLSTMCell, BasicRNNCell, DropoutWrapper, GRUCell, LSTMCell, LSTMStateTuple, MultiRNNCell, ResidualWrapper, RNNCell,
)  # fmt: skip

__getattr__ = missing("tf.nn.rnn_cell")
