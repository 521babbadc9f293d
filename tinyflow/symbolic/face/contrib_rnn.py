"""tf.contrib.rnn"""
# ruff: noqa: F401, I001  # a list of names

from tinyflow.symbolic.names import missing
from tinyflow.symbolic.rnn import (
    BasicLSTMCell, BasicRNNCell, DropoutWrapper, GRUCell, LSTMCell, LSTMStateTuple, MultiRNNCell, ResidualWrapper, RNNCell,
    static_bidirectional_rnn, static_rnn,
)  # fmt: skip

__getattr__ = missing("tf.contrib.rnn")
