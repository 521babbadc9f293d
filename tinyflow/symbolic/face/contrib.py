"""tf.contrib"""
# ruff: noqa: F401  # a list of names

from tinyflow.symbolic.face import contrib_framework as framework
from tinyflow.symbolic.face import contrib_layers as layers
from tinyflow.symbolic.face import contrib_rnn as rnn
from tinyflow.symbolic.names import missing

__getattr__ = missing("tf.contrib")
