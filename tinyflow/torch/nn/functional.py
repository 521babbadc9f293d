"""torch.nn.functional: the functions that layers are made of. See activations.py, images.py and losses.py for their formulas."""

from __future__ import annotations

from typing import Any

from tinyflow.torch.creation import zeros
from tinyflow.torch.functions import FUNCTIONS, lift
from tinyflow.torch.modes import no_grad
from tinyflow.torch.nn import activations, images, losses, pooling
from tinyflow.torch.random import default_generator
from tinyflow.torch.reductions import normalize as normalized
from tinyflow.torch.shapes import one_hot as encoded
from tinyflow.torch.tensor import Tensor

TABLE = {
    name: lift(name, f)
    for rows in (activations.ROWS, images.ROWS, pooling.ROWS, losses.ROWS)
    for name, f in rows.items()
}
TABLE |= {"linear": FUNCTIONS["linear"], "normalize": lift("normalize", normalized)}


def in_place(name: str, settings: int) -> Any:
    """The function with PyTorch's `inplace`, which stands behind its settings: the result takes the input's place too."""
    function = TABLE[name]

    def call(input: Tensor, *given: Any, inplace: bool = False, **named: Any) -> Tensor:
        if len(given) > settings:
            *given, inplace = given  # type: ignore[assignment]
        y = function(input, *given, **named)
        return input.copy_(y) if inplace else y

    call.__name__, call.__doc__ = name, function.__doc__
    return call


def replacing(name: str) -> Any:
    """relu_ for relu."""
    function = TABLE[name]

    def call(input: Tensor, *given: Any, **named: Any) -> Tensor:
        return function(input, *given, inplace=True, **named)  # type: ignore[no-any-return]

    call.__name__, call.__doc__ = name + "_", function.__doc__
    return call


SETTINGS = {
    "relu": 0, "relu6": 0, "silu": 0, "mish": 0, "selu": 0, "hardswish": 0, "hardsigmoid": 0,
    "leaky_relu": 1, "elu": 1, "celu": 1, "hardtanh": 2, "threshold": 2,
}  # fmt: skip
TABLE |= {name: in_place(name, n) for name, n in SETTINGS.items()}
TABLE |= {
    name + "_": replacing(name) for name in ("relu", "selu", "leaky_relu", "elu", "celu", "hardtanh", "threshold")
}
globals().update(TABLE)

drop = lift("dropout", activations.dropped)
look_up = lift("embedding", activations.embedding)
attend = lift("scaled_dot_product_attention", activations.attention)
gumbel = lift("gumbel_softmax", activations.gumbel_softmax)
moments = lift("batch_moments", activations.batch_moments)
normalise_batch = lift("native_batch_norm", activations.batch_norm_training)
normalise_known = lift("native_batch_norm", activations.batch_norm_known)
normalise_instance = lift("instance_norm", activations.instance_norm)
encode = lift("one_hot", encoded)
reduce = lift("mean", losses.reduced)
biased = lift("bilinear", lambda x1, w, x2: bilinear_node(x1, w, x2))


def bilinear_node(x1: Any, w: Any, x2: Any) -> Any:
    from tinyflow.ops.contraction import einsum

    return einsum("boj,bj->bo", einsum("bi,oij->boj", x1, w), x2)


def check_probability(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropped(input: Tensor, p: float, training: bool, inplace: bool, channels: bool) -> Tensor:
    check_probability(p)
    if not training or p == 0.0:
        return input
    y = drop(input, default_generator.key(), p, channels)
    return input.copy_(y) if inplace else y


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element zero with probability p, the others divided by 1 - p; the input itself when not training"""
    return dropped(input, p, training, inplace, False)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels zero with probability p"""
    return dropped(input, p, training, inplace, True)


dropout1d = dropout3d = feature_dropout = dropout2d


def gumbel_softmax(logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax((x + g) / tau), g being Gumbel noise: Jang et al., 2016"""
    return gumbel(logits, default_generator.key(), tau, hard, dim)


def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of the weight by number: (...) -> (..., width). Rows asked for that are longer than max_norm are first cut to it,
    in the weight itself. The gradient is dense, sparse or not."""
    if scale_grad_by_freq:
        raise NotImplementedError("embedding with scale_grad_by_freq; divide the gradient by the counts in a hook")
    if max_norm is not None:
        with no_grad():
            long = weight.norm(norm_type, 1, keepdim=True)
            asked = zeros(len(weight), dtype=bool).index_fill(0, input.reshape(-1), True).unsqueeze(1)
            cut = weight * (max_norm / (long + 1e-7))
            weight.copy_(FUNCTIONS["where"](asked & (long > max_norm), cut, weight))
    return look_up(input, weight, padding_idx)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each label's place along a new last axis. Without num_classes the values are looked at."""
    return encode(tensor, int(tensor.max()) + 1 if num_classes == -1 else num_classes)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None
) -> Tensor:  # fmt: skip
    """softmax(q k^T / sqrt(d) + mask) v; each weight is dropped with probability dropout_p, also in evaluation"""
    check_probability(dropout_p)
    random = (default_generator.key(), dropout_p) if dropout_p > 0.0 else ()
    return attend(query, key, value, attn_mask, is_causal, scale, *random)


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None, bias: Tensor | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) weight + bias for each channel: of the batch when training, else the running ones"""
    if not training:
        return normalise_known(input, running_mean, running_var, weight, bias, eps)
    count = input.numel() // max(input._shape[1], 1)  # type: ignore[type-var,operator]
    if count <= 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    if running_mean is not None and running_var is not None:
        with no_grad():
            mean, var = moments(input)
            running_mean.mul_(1.0 - momentum).add_(mean, alpha=momentum)
            running_var.mul_(1.0 - momentum).add_(var, alpha=momentum)
    return normalise_batch(input, weight, bias, eps)


def instance_norm(
    input: Tensor, running_mean: Any = None, running_var: Any = None, weight: Tensor | None = None, bias: Tensor | None = None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Each channel of each image normalised by its own mean and variance, or by the running ones"""
    if not use_input_stats:
        return normalise_known(input, running_mean, running_var, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        places = list(range(2, input.ndim))
        with no_grad():
            running_mean.mul_(1.0 - momentum).add_(input.mean(places).mean(0), alpha=momentum)
            running_var.mul_(1.0 - momentum).add_(input.var(places).mean(0), alpha=momentum)
    return normalise_instance(input, weight, bias, eps)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1 W x2 + b: (b, i), (b, j), (o, i, j) -> (b, o)"""
    y = biased(input1, weight, input2)
    return y if bias is None else y + bias


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean") -> Tensor:  # fmt: skip
    """max(0, |a - p| - |a - n| + margin); with swap, |p - n| in the place of |a - n| where it is smaller"""
    distance = TABLE["pairwise_distance"]
    far = distance(anchor, negative, p, eps)
    if swap:
        far = FUNCTIONS["minimum"](far, distance(positive, negative, p, eps))
    return reduce((distance(anchor, positive, p, eps) - far + margin).relu(), reduction)


def __getattr__(name: str) -> Any:
    from tinyflow.torch.errors import absent

    raise absent(name, globals(), "torch.nn.functional")
