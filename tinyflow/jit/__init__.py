"""torch.compile: partial evaluation of Python functions on tensors."""

from tinyflow.jit.api import Compiled, CutError, compile, explain
