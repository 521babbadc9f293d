"""The imperative face: names and meanings of PyTorch. Ops record a graph; looking at a value runs it as one program."""

from math import e, inf, nan, pi

from tinyflow.torch import (
    autograd,
    cuda,
    distributions,
    indexing,
    linalg,
    nn,
    optim,
    pointwise,
    products,
    reductions,
    shapes,
    sorting,
    testing,
    utils,
)
from tinyflow.torch.creation import (
    arange,
    as_tensor,
    clone,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from tinyflow.torch.creation import torch_range as range
from tinyflow.torch.dtypes import (
    Size,
    bfloat16,
    bool_,
    device,
    dtype,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int32,
    int64,
    set_default_dtype,
    uint8,
)
from tinyflow.torch.errors import absent
from tinyflow.torch.face import PUBLIC
from tinyflow.torch.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from tinyflow.torch.printing import set_printoptions
from tinyflow.torch.random import (
    Generator,
    bernoulli,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)
from tinyflow.torch.serialization import load, save
from tinyflow.torch.tensor import Tensor

float = float32
double = float64
half = float16
int = int32
long = int64
bool = bool_

globals().update(PUBLIC)


def __getattr__(name: str) -> object:
    raise absent(name, globals())
