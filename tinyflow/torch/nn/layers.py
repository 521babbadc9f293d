"""Layers. Those without parameters are rows of a table: a name, a function, and the settings that it takes."""

from __future__ import annotations

import math
from typing import Any

from tinyflow.torch.creation import empty, ones
from tinyflow.torch.nn import functional as F
from tinyflow.torch.nn import init
from tinyflow.torch.nn.losses import chosen
from tinyflow.torch.nn.module import Module, Parameter
from tinyflow.torch.tensor import Tensor

REQUIRED = object()


def shown(value: Any) -> str:
    return repr(value)


OLD_REDUCTION = ("size_average", "reduce")


class Simple(Module):
    """A layer that calls a function with its settings; its subclasses are made by `simple` from rows of a table."""

    function: Any
    order: list[str]  # of its settings, as positional arguments
    settings: dict[str, Any]
    shows: Any
    wants_training = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        names = self.order
        if len(args) > len(names):
            raise TypeError(
                f"{type(self).__name__} takes {len(names)} settings ({', '.join(names)}), and was given {len(args)}"
            )
        given = dict(zip(names, args, strict=False)) | kwargs
        unknown = [k for k in given if k not in names]
        if unknown:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{unknown[0]}'")
        if "reduction" in self.settings:
            old = (given.get(k) for k in OLD_REDUCTION)
            given["reduction"] = chosen(given.get("reduction", self.settings["reduction"]), *old)
        for name, default in self.settings.items():
            value = given.get(name, default)
            if value is REQUIRED:
                raise TypeError(f"{type(self).__name__}.__init__() missing 1 required positional argument: '{name}'")
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        if "p" in self.settings and self.wants_training:
            F.check_probability(self.p)
        if "stride" in self.settings and self.stride is None:
            self.stride = self.kernel_size

    def forward(self, *inputs: Any, **options: Any) -> Any:
        settings = {name: getattr(self, name) for name in self.settings} | options
        if self.wants_training:
            settings["training"] = self.training
        return type(self).function(*inputs, **settings)

    def extra_repr(self) -> str:
        shows = type(self).shows
        return shows(self) if shows else ""


def simple(name: str, function: Any, shows: Any = None, training: bool = False, **settings: Any) -> type[Simple]:
    """A layer class out of a row."""
    kept = {k: v for k, v in settings.items() if k not in OLD_REDUCTION}
    body = {
        "function": staticmethod(function),
        "order": list(settings),
        "settings": kept,
        "shows": shows,
        "wants_training": training,
    }
    return type(name, (Simple,), {**body, "__module__": __name__, "__doc__": function.__doc__})


def named(*names: str) -> Any:
    """Settings shown as name=value."""
    return lambda m: ", ".join(f"{n}={shown(getattr(m, n))}" for n in names)


def settled(*names: str) -> Any:
    """Settings shown as name=value, and inplace where it is so."""
    return lambda m: ", ".join([f"{n}={shown(getattr(m, n))}" for n in names] + ["inplace=True"] * m.inplace)


def pool_text(m: Any) -> str:
    extra = f", dilation={m.dilation}, ceil_mode={m.ceil_mode}" if hasattr(m, "dilation") else ""
    return f"kernel_size={m.kernel_size}, stride={m.stride}, padding={m.padding}{extra}"


def base(*_: Any, reduction: str = "mean") -> Any:
    """What losses that others write begin with: it holds how they are reduced."""
    raise NotImplementedError('Module [_Loss] is missing the required "forward" function')


MAX_POOL = dict(kernel_size=REQUIRED, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False)
AVG_POOL = dict(kernel_size=REQUIRED, stride=None, padding=0, ceil_mode=False, count_include_pad=True)
T = F.TABLE
# fmt: off
#                  name             function                     what repr shows               settings and their defaults
ReLU       = simple("ReLU",         T["relu"],                   settled(),                    inplace=False)
ReLU6      = simple("ReLU6",        T["relu6"],                  settled(),                    inplace=False)
SiLU       = simple("SiLU",         T["silu"],                   settled(),                    inplace=False)
Mish       = simple("Mish",         T["mish"],                   settled(),                    inplace=False)
SELU       = simple("SELU",         T["selu"],                   settled(),                    inplace=False)
Hardswish  = simple("Hardswish",    T["hardswish"],              None,                         inplace=False)
Hardsigmoid = simple("Hardsigmoid", T["hardsigmoid"],            None,                         inplace=False)
LeakyReLU  = simple("LeakyReLU",    T["leaky_relu"],             settled("negative_slope"),    negative_slope=0.01, inplace=False)
ELU        = simple("ELU",          T["elu"],                    settled("alpha"),             alpha=1.0, inplace=False)
CELU       = simple("CELU",         T["celu"],                   settled("alpha"),             alpha=1.0, inplace=False)
Threshold  = simple("Threshold",    T["threshold"],              settled("threshold", "value"), threshold=REQUIRED, value=REQUIRED, inplace=False)
Hardshrink = simple("Hardshrink",   T["hardshrink"],             lambda m: f"{m.lambd}",       lambd=0.5)
Softshrink = simple("Softshrink",   T["softshrink"],             lambda m: f"{m.lambd}",       lambd=0.5)
GELU       = simple("GELU",         T["gelu"],                   named("approximate"),         approximate="none")
Tanh       = simple("Tanh",         T["tanh"])
Sigmoid    = simple("Sigmoid",      T["sigmoid"])
LogSigmoid = simple("LogSigmoid",   T["logsigmoid"])
Softsign   = simple("Softsign",     T["softsign"])
Tanhshrink = simple("Tanhshrink",   T["tanhshrink"])
Softplus   = simple("Softplus",     T["softplus"],               lambda m: f"beta={m.beta}, threshold={m.threshold}", beta=1.0, threshold=20.0)
Hardtanh   = simple("Hardtanh",     T["hardtanh"],               settled("min_val", "max_val"), min_val=-1.0, max_val=1.0, inplace=False)
GLU        = simple("GLU",          T["glu"],                    named("dim"),                 dim=-1)
Softmax    = simple("Softmax",      T["softmax"],                named("dim"),                 dim=None)
LogSoftmax = simple("LogSoftmax",   T["log_softmax"],            named("dim"),                 dim=None)
Softmin    = simple("Softmin",      T["softmin"],                named("dim"),                 dim=None)
Dropout    = simple("Dropout",      F.dropout,                   named("p", "inplace"), True,  p=0.5, inplace=False)
Dropout1d  = simple("Dropout1d",    F.dropout2d,                 named("p", "inplace"), True,  p=0.5, inplace=False)
Dropout2d  = simple("Dropout2d",    F.dropout2d,                 named("p", "inplace"), True,  p=0.5, inplace=False)
Dropout3d  = simple("Dropout3d",    F.dropout2d,                 named("p", "inplace"), True,  p=0.5, inplace=False)
MaxPool1d  = simple("MaxPool1d",    T["max_pool1d"],             pool_text,                    **MAX_POOL)
MaxPool2d  = simple("MaxPool2d",    T["max_pool2d"],             pool_text,                    **MAX_POOL)
MaxPool3d  = simple("MaxPool3d",    T["max_pool3d"],             pool_text,                    **MAX_POOL)
AvgPool1d  = simple("AvgPool1d",    T["avg_pool1d"],             pool_text,                    **AVG_POOL)
AvgPool2d  = simple("AvgPool2d",    T["avg_pool2d"],             pool_text,                    **AVG_POOL, divisor_override=None)
AvgPool3d  = simple("AvgPool3d",    T["avg_pool3d"],             pool_text,                    **AVG_POOL, divisor_override=None)
AdaptiveAvgPool1d = simple("AdaptiveAvgPool1d", T["adaptive_avg_pool1d"], named("output_size"), output_size=REQUIRED)
AdaptiveAvgPool2d = simple("AdaptiveAvgPool2d", T["adaptive_avg_pool2d"], named("output_size"), output_size=REQUIRED)
AdaptiveAvgPool3d = simple("AdaptiveAvgPool3d", T["adaptive_avg_pool3d"], named("output_size"), output_size=REQUIRED)
AdaptiveMaxPool1d = simple("AdaptiveMaxPool1d", T["adaptive_max_pool1d"], named("output_size"), output_size=REQUIRED, return_indices=False)
AdaptiveMaxPool2d = simple("AdaptiveMaxPool2d", T["adaptive_max_pool2d"], named("output_size"), output_size=REQUIRED, return_indices=False)
AdaptiveMaxPool3d = simple("AdaptiveMaxPool3d", T["adaptive_max_pool3d"], named("output_size"), output_size=REQUIRED, return_indices=False)
LPPool1d   = simple("LPPool1d",     T["lp_pool1d"],              named("norm_type", "kernel_size", "stride", "ceil_mode"), norm_type=REQUIRED, kernel_size=REQUIRED, stride=None, ceil_mode=False)
LPPool2d   = simple("LPPool2d",     T["lp_pool2d"],              named("norm_type", "kernel_size", "stride", "ceil_mode"), norm_type=REQUIRED, kernel_size=REQUIRED, stride=None, ceil_mode=False)
MaxUnpool1d = simple("MaxUnpool1d",  T["max_unpool1d"],            named("kernel_size", "stride", "padding"), kernel_size=REQUIRED, stride=None, padding=0)
MaxUnpool2d = simple("MaxUnpool2d",  T["max_unpool2d"],            named("kernel_size", "stride", "padding"), kernel_size=REQUIRED, stride=None, padding=0)
MaxUnpool3d = simple("MaxUnpool3d",  T["max_unpool3d"],            named("kernel_size", "stride", "padding"), kernel_size=REQUIRED, stride=None, padding=0)
Flatten    = simple("Flatten",      lambda input, start_dim, end_dim: input.flatten(start_dim, end_dim), named("start_dim", "end_dim"), start_dim=1, end_dim=-1)
Unflatten  = simple("Unflatten",    lambda input, dim, unflattened_size: input.unflatten(dim, unflattened_size), named("dim", "unflattened_size"), dim=REQUIRED, unflattened_size=REQUIRED)
PixelShuffle = simple("PixelShuffle", T["pixel_shuffle"],        named("upscale_factor"),      upscale_factor=REQUIRED)
Upsample   = simple("Upsample",     T["interpolate"],            lambda m: f"scale_factor={float(m.scale_factor)}, mode={m.mode!r}" if m.scale_factor else f"size={m.size}, mode={m.mode!r}",
                    size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None)
UpsamplingNearest2d = simple("UpsamplingNearest2d", lambda input, size, scale_factor: T["interpolate"](input, size, scale_factor), None, size=None, scale_factor=None)
UpsamplingBilinear2d = simple("UpsamplingBilinear2d", lambda input, size, scale_factor: T["interpolate"](input, size, scale_factor, "bilinear", True), None, size=None, scale_factor=None)
Unfold     = simple("Unfold",       T["unfold"],                 named("kernel_size", "dilation", "padding", "stride"), kernel_size=REQUIRED, dilation=1, padding=0, stride=1)
CosineSimilarity = simple("CosineSimilarity", T["cosine_similarity"], None,                    dim=1, eps=1e-8)
_Loss      = simple("_Loss",        base,                        None,                         size_average=None, reduce=None, reduction="mean")
MSELoss    = simple("MSELoss",      T["mse_loss"],               None,                         size_average=None, reduce=None, reduction="mean")
L1Loss     = simple("L1Loss",       T["l1_loss"],                None,                         size_average=None, reduce=None, reduction="mean")
SmoothL1Loss = simple("SmoothL1Loss", T["smooth_l1_loss"],       None,                         size_average=None, reduce=None, reduction="mean", beta=1.0)
HuberLoss  = simple("HuberLoss",    T["huber_loss"],             None,                         reduction="mean", delta=1.0)
KLDivLoss  = simple("KLDivLoss",    T["kl_div"],                 None,                         size_average=None, reduce=None, reduction="mean", log_target=False)
BCELoss    = simple("BCELoss",      T["binary_cross_entropy"],   None,                         weight=None, size_average=None, reduce=None, reduction="mean")
BCEWithLogitsLoss = simple("BCEWithLogitsLoss", T["binary_cross_entropy_with_logits"], None,   weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None)
NLLLoss    = simple("NLLLoss",      T["nll_loss"],               None,                         weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean")
CrossEntropyLoss = simple("CrossEntropyLoss", T["cross_entropy"], None,                        weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0)
HingeEmbeddingLoss = simple("HingeEmbeddingLoss", T["hinge_embedding_loss"], None,             margin=1.0, size_average=None, reduce=None, reduction="mean")
MarginRankingLoss = simple("MarginRankingLoss", T["margin_ranking_loss"], None,                margin=0.0, size_average=None, reduce=None, reduction="mean")
CosineEmbeddingLoss = simple("CosineEmbeddingLoss", T["cosine_embedding_loss"], None,          margin=0.0, size_average=None, reduce=None, reduction="mean")
TripletMarginLoss = simple("TripletMarginLoss", F.triplet_margin_loss, None,                   margin=1.0, p=2.0, eps=1e-6, swap=False, reduction="mean")
# fmt: on


def padding_layer(name: str, rank: int, mode: str, value: bool = False) -> type[Module]:
    """ZeroPad2d and its kind."""

    def __init__(self: Any, padding: Any, value: float = 0.0) -> None:
        Module.__init__(self)
        self.padding = tuple(padding) if isinstance(padding, tuple | list) else (padding,) * (2 * rank)
        self.value = value

    def forward(self: Any, input: Tensor) -> Tensor:
        return T["pad"](input, self.padding, mode, self.value)

    def extra_repr(self: Any) -> str:
        return f"padding={self.padding}, value={self.value}" if value else f"{self.padding}"

    return type(
        name, (Module,), {"__init__": __init__, "forward": forward, "extra_repr": extra_repr, "__module__": __name__}
    )


PADS = {f"{kind}Pad{rank}d": padding_layer(f"{kind}Pad{rank}d", rank, mode, kind == "Constant")
        for kind, mode in (("Zero", "constant"), ("Constant", "constant"), ("Reflection", "reflect"), ("Replication", "replicate"), ("Circular", "circular"))
        for rank in (1, 2, 3)}  # fmt: skip


class Identity(Module):
    """Its input."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        return input


class PReLU(Module):
    """x where x > 0, a learnt slope times x elsewhere"""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(ones(num_parameters, device=device, dtype=dtype) * init)

    def forward(self, input: Tensor) -> Tensor:
        return T["prelu"](input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Linear(Module):
    """y = x W^T + b, W and b uniform in ±1/sqrt(in_features)"""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(empty(out_features, in_features, dtype=dtype, device=device))
        self.register_parameter("bias", Parameter(empty(out_features, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        uniform_by_fan(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return T["linear"](input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def uniform_by_fan(weight: Tensor, bias: Tensor | None) -> None:
    """Both uniform in ±1/sqrt(fan in): kaiming_uniform_ with a = sqrt(5)."""
    if weight.numel():
        init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan = init._calculate_fan_in_and_fan_out(weight)[0]
        bound = 1 / math.sqrt(fan) if fan > 0 else 0.0
        init.uniform_(bias, -bound, bound)


class Bilinear(Module):
    """y = x1 W x2 + b"""

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.weight = Parameter(empty(out_features, in1_features, in2_features, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None)
        bound = 1 / math.sqrt(in1_features)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)


class Embedding(Module):
    """Rows of a table by number, normal at the start; the row padding_idx is zero and gets no gradient"""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
                 scale_grad_by_freq: bool = False, sparse: bool = False, _weight: Any = None, _freeze: bool = False, device: Any = None, dtype: Any = None) -> None:  # fmt: skip
        super().__init__()
        if scale_grad_by_freq:
            raise NotImplementedError(
                "an embedding with scale_grad_by_freq; divide the gradient by the counts in a hook"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.max_norm, self.norm_type = max_norm, norm_type
        self.padding_idx = padding_idx % num_embeddings if padding_idx is not None else None
        self.weight = Parameter(
            empty(num_embeddings, embedding_dim, device=device, dtype=dtype) if _weight is None else _weight,
            requires_grad=not _freeze,
        )
        if _weight is None:
            init.normal_(self.weight)
            if self.padding_idx is not None:
                self.weight.data[self.padding_idx] = 0.0  # type: ignore[index]

    @classmethod
    def from_pretrained(
        cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None, **kwargs: Any
    ) -> Embedding:
        layer = cls(*embeddings.shape, padding_idx=padding_idx, _weight=embeddings, **kwargs)
        layer.weight.requires_grad_(not freeze)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}" + (
            f", padding_idx={self.padding_idx}" if self.padding_idx is not None else ""
        )
