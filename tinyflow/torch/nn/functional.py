"""torch.nn.functional: the functions that layers are made of. See activations.py, images.py and losses.py for their formulas."""

from __future__ import annotations

from typing import Any

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
biased = lift("bilinear", lambda x1, w, x2: bilinear_node(x1, w, x2))


def bilinear_node(x1: Any, w: Any, x2: Any) -> Any:
    from tinyflow.ops.contraction import einsum

    return einsum("boj,bj->bo", einsum("bi,oij->boj", x1, w), x2)


def check_probability(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element zero with probability p, the others divided by 1 - p; the input itself when not training"""
    check_probability(p)
    return drop(input, default_generator.key(), p, False) if training and p > 0.0 else input


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels zero with probability p"""
    check_probability(p)
    return drop(input, default_generator.key(), p, True) if training and p > 0.0 else input


dropout1d = dropout3d = feature_dropout = dropout2d


def gumbel_softmax(logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax((x + g) / tau), g being Gumbel noise: Jang et al., 2016"""
    return gumbel(logits, default_generator.key(), tau, hard, dim)


def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None, *_: Any, **__: Any
) -> Tensor:
    """Rows of the weight by number: (...) -> (..., width)"""
    if max_norm is not None:
        raise NotImplementedError("embedding with max_norm; scale the weight yourself under no_grad")
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
    """Each channel of each image normalised by its own mean and variance"""
    return normalise_instance(input, weight, bias, eps)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1 W x2 + b: (b, i), (b, j), (o, i, j) -> (b, o)"""
    y = biased(input1, weight, input2)
    return y if bias is None else y + bias


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean") -> Tensor:  # fmt: skip
    """max(0, |a - p| - |a - n| + margin)"""
    distance = TABLE["pairwise_distance"]
    y = (distance(anchor, positive, p, eps) - distance(anchor, negative, p, eps) + margin).relu()
    return y.mean() if reduction == "mean" else y.sum() if reduction == "sum" else y


def relu_(input: Tensor) -> Tensor:
    return input.relu_()


def __getattr__(name: str) -> Any:
    from tinyflow.torch.errors import absent

    raise absent(name, globals(), "torch.nn.functional")
