"""torch.optim: optimisers and schedules of their learning rates."""

from tinyflow.torch.optim import lr_scheduler
from tinyflow.torch.optim.algorithms import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop
from tinyflow.torch.optim.optimizer import Optimizer


def __getattr__(name: str) -> object:
    from tinyflow.torch.errors import absent

    raise absent(name, globals(), "torch.optim")
