"""torch.nn: modules and what they are made of."""

from tinyflow.torch.nn import convolution, functional, init, layers, modules, normalization, utils
from tinyflow.torch.nn.attention import MultiheadAttention, TransformerEncoder, TransformerEncoderLayer
from tinyflow.torch.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from tinyflow.torch.nn.module import Buffer, Module, Parameter
from tinyflow.torch.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

for found in (layers, normalization, convolution):
    globals().update({name: c for name, c in vars(found).items() if isinstance(c, type) and issubclass(c, Module)})
globals().update(layers.PADS)
del found


def __getattr__(name: str) -> object:
    from tinyflow.torch.errors import absent

    raise absent(name, globals(), "torch.nn")
