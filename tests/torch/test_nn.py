"""Modules and functions of torch.nn beside PyTorch's, from the same weights."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, both, theirs

X, IMAGE, SOUND, CUBE = array(5, 6), array(2, 4, 9, 8), array(2, 4, 10), array(2, 4, 5, 6, 4)
LABELS = np.array([1, 0, 5, 2, 3], np.int64)
P = array(5, 6, low=0.1, high=0.9)


def blind(m: Any) -> Any:
    """-infinity where m is negative and along the second row, 0 elsewhere."""
    hidden = (m < 0).clone()
    hidden[1] = True
    return (m * 0).masked_fill(hidden, -float("inf"))


# fmt: off
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    name: (lambda F, x, _n=name: getattr(F, _n)(x), X)
    for name in ("relu", "gelu", "silu", "elu", "selu", "celu", "leaky_relu", "softplus", "hardtanh", "relu6", "hardsigmoid", "hardswish", "mish",
                 "logsigmoid", "softsign", "tanhshrink", "tanh", "sigmoid", "glu", "hardshrink", "softshrink")
}
FUNCTIONS |= {
    "gelu tanh":       (lambda F, x: F.gelu(x, approximate="tanh"), X),
    "settings":        (lambda F, x: (F.elu(x, 0.5), F.leaky_relu(x, 0.2), F.softplus(x, 2, 1), F.hardtanh(x, -0.5, 0.7), F.threshold(x, 0.1, 3.0)), X),
    "softmax":         (lambda F, x: (F.softmax(x, 1), F.log_softmax(x, dim=0), F.softmin(x, 1)), X),
    "prelu":           (lambda F, x, w: F.prelu(x, w), X, array(6)),
    "linear":          (lambda F, x, w, b: (F.linear(x, w, b), F.linear(x, w), F.linear(x[None], w, b)), X, array(3, 6), array(3)),
    "layer_norm":      (lambda F, x, w, b: (F.layer_norm(x, (6,), w, b), F.layer_norm(x, (5, 6)), F.layer_norm(x, (6,), eps=0.1)), X, array(6), array(6, seed=1)),
    "rms_norm":        (lambda F, x, w: F.rms_norm(x, (6,), w, 1e-5), X, array(6)),
    "group_norm":      (lambda F, x, w, b: (F.group_norm(x, 2, w, b), F.group_norm(x, 4)), IMAGE, array(4), array(4, seed=1)),
    "instance_norm":   (lambda F, x: F.instance_norm(x), IMAGE),
    "batch_norm":      (lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True), IMAGE, array(4), array(4, seed=1)),
    "normalize":       (lambda F, x: (F.normalize(x), F.normalize(x, p=1, dim=0)), X),
    "conv1d":          (lambda F, x, w, b: (F.conv1d(x, w, b), F.conv1d(x, w, stride=2, padding=1, dilation=2)), SOUND, array(6, 4, 3), array(6)),
    "conv2d":          (lambda F, x, w, b: (F.conv2d(x, w, b), F.conv2d(x, w, b, stride=2, padding=1), F.conv2d(x, w, stride=(1, 2), padding=(0, 2), dilation=(2, 1)), F.conv2d(x, w, padding="same"), F.conv2d(x[0], w)), IMAGE, array(5, 4, 3, 3), array(5)),
    "conv2d groups":   (lambda F, x, w, v: (F.conv2d(x, w, groups=2, padding=1), F.conv2d(x, v, groups=4)), IMAGE, array(6, 2, 3, 3), array(4, 1, 3, 2)),
    "conv2d 1x1":      (lambda F, x, w: F.conv2d(x, w), IMAGE, array(3, 4, 1, 1)),
    "conv3d":          (lambda F, x, w: F.conv3d(x, w, padding=1), CUBE, array(3, 4, 2, 3, 2)),
    "conv_transpose":  (lambda F, x, w, b: (F.conv_transpose2d(x, w, b), F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)), IMAGE, array(4, 3, 3, 2), array(3)),
    "transpose groups": (lambda F, x, w: F.conv_transpose2d(x, w, stride=2, groups=2), IMAGE, array(4, 3, 3, 2)),
    "conv_transpose1d": (lambda F, x, w: F.conv_transpose1d(x, w, stride=3, dilation=2), SOUND, array(4, 2, 3)),
    "max_pool2d":      (lambda F, x: (F.max_pool2d(x, 2), F.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, (2, 3), stride=1), F.max_pool2d(x, 2, ceil_mode=True), F.max_pool2d(x, 3, 1, 1, 1)), IMAGE),
    "avg_pool2d":      (lambda F, x: (F.avg_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)), IMAGE),
    "pool1d":          (lambda F, x: (F.max_pool1d(x, 2), F.avg_pool1d(x, 3, 2)), SOUND),
    "pool3d":          (lambda F, x: (F.max_pool3d(x, 2), F.avg_pool3d(x, 2)), CUBE),
    "adaptive":        (lambda F, x: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, 4)), F.adaptive_avg_pool2d(x, (4, 3)), F.adaptive_max_pool2d(x, 1), F.adaptive_max_pool2d(x, (4, 5)), F.adaptive_avg_pool2d(x, (None, 2))), IMAGE),
    "max_pool indices": (lambda F, x: (F.max_pool2d(x, 2, return_indices=True), F.max_pool2d(x, 3, 2, 1, return_indices=True), F.max_pool2d(x, 2, 1, 0, 2, return_indices=True), F.max_pool2d(x[0], (3, 2), (2, 3), (1, 0), ceil_mode=True, return_indices=True)), IMAGE),
    "max_pool of equals": (lambda F, x: (F.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1, return_indices=True), F.adaptive_max_pool2d(x, (4, 5), return_indices=True)), IMAGE.round()),
    "pools of rows":   (lambda F, x, y: (F.max_pool1d(x, 3, 2, 1, return_indices=True), F.max_pool3d(y, 2, 1, 1, return_indices=True), F.adaptive_max_pool1d(x, 5, return_indices=True), F.adaptive_max_pool3d(y, (2, 3, 3), return_indices=True), F.adaptive_max_pool1d(x, x.shape[-1] // 2, return_indices=True)), SOUND, CUBE),
    "avg_pool options": (lambda F, x: (F.avg_pool2d(x, 3, 2, ceil_mode=True), F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), F.avg_pool2d(x, 2, 3, 1, ceil_mode=True), F.avg_pool2d(x, 2, divisor_override=3), F.avg_pool2d(x[0], (3, 2), 1, (1, 0))), IMAGE),
    "lp_pool":         (lambda F, x, y: (F.lp_pool2d(x.abs() + 0.1, 2, 2), F.lp_pool1d(y.abs() + 0.1, 3.0, 3, 2)), IMAGE, SOUND),
    "max_unpool":      (lambda F, x, y: (F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), F.max_unpool2d(*F.max_pool2d(x.detach(), 3, 2, 1, return_indices=True), 3, 2, 1, output_size=x.shape), F.max_unpool1d(*F.max_pool1d(y, 2, return_indices=True), 2)), IMAGE, SOUND),
    "adaptive uneven": (lambda F, x, y, z: (F.adaptive_avg_pool2d(x, (5, 4)), F.adaptive_avg_pool2d(x, (20, 3)), F.adaptive_max_pool2d(x, (5, 9)), F.adaptive_avg_pool1d(y, 4), F.adaptive_avg_pool3d(z, (2, 3, 2))), IMAGE, SOUND, CUBE),
    "interpolate nearest": (lambda F, x, y, z: (F.interpolate(x, scale_factor=(1.7, 0.6)), F.interpolate(x, size=(9, 3), mode="nearest-exact"), F.interpolate(y, size=17), F.interpolate(z, scale_factor=2), F.interpolate(x, scale_factor=1.3, recompute_scale_factor=True), F.interpolate(x, size=(4, 3), mode="area")), IMAGE, SOUND, CUBE),
    "interpolate linear": (lambda F, x, y, z: (F.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear"), F.interpolate(x, size=(3, 20), mode="bilinear", align_corners=True), F.interpolate(y, size=17, mode="linear"), F.interpolate(z, scale_factor=2, mode="trilinear"), F.interpolate(x, size=1, mode="bilinear", align_corners=True), F.interpolate(x[:, :, :1, :1], size=(5, 7), mode="bilinear")), IMAGE, SOUND, CUBE),
    "interpolate cubic": (lambda F, x: (F.interpolate(x, scale_factor=2, mode="bicubic"), F.interpolate(x, size=(4, 17), mode="bicubic", align_corners=True), F.interpolate(x, scale_factor=0.6, mode="bicubic")), IMAGE),
    "interpolate smooth": (lambda F, x: (F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True), F.interpolate(x, size=(15, 3), mode="bicubic", antialias=True), F.interpolate(x, scale_factor=0.4, mode="bilinear", antialias=True), F.interpolate(x, size=(3, 5), mode="bilinear", antialias=True, align_corners=True)), IMAGE),
    "pad":             (lambda F, x: (F.pad(x, (1, 2)), F.pad(x, (1, 0, 2, 1), value=2.5), F.pad(x, (-1, 1)), F.pad(x, (2, 1, 1, 1), mode="reflect"), F.pad(x, (1, 3, 0, 2), mode="replicate"), F.pad(x, (1, 2, 2, 0), mode="circular")), IMAGE),
    "interpolate":     (lambda F, x: (F.interpolate(x, scale_factor=2), F.interpolate(x, size=(5, 11)), F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), F.interpolate(x, size=(4, 13), mode="bilinear", align_corners=True)), IMAGE),
    "pixel_shuffle":   (lambda F, x: F.pixel_shuffle(x, 2), IMAGE),
    "unfold":          (lambda F, x: F.unfold(x, 3, padding=1, stride=2), IMAGE),
    "attention":       (lambda F, q, k, v: (F.scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(q, q, q, is_causal=True)), array(2, 3, 5, 4), array(2, 3, 7, 4), array(2, 3, 7, 6)),
    "attention masks": (lambda F, q, k, v, m: (F.scaled_dot_product_attention(q, k, v, m), F.scaled_dot_product_attention(q, k, v, attn_mask=m > 0, scale=0.3), F.scaled_dot_product_attention(q, k, v, blind(m)), F.scaled_dot_product_attention(q, k, v, blind(m) == 0)), array(2, 3, 5, 4), array(2, 3, 7, 4), array(2, 3, 7, 6), array(5, 7)),
    "attention by hand": (lambda F, q, k, v, m: (F.softmax(q @ k.transpose(-2, -1) / 2.0, dim=-1) @ v, F.softmax((q @ k.mT * 0.5).masked_fill(blind(m) < 0, -float("inf")), dim=-1) @ v), array(2, 3, 5, 4), array(2, 3, 7, 4), array(2, 3, 7, 6), array(5, 7)),
    "attention, longer": (lambda F, q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True), array(2, 2, 70, 16), array(2, 2, 90, 16)),
    "cosine":          (lambda F, x, y: (F.cosine_similarity(x, y), F.cosine_similarity(x, y, dim=0), F.pairwise_distance(x, y)), X, array(5, 6, seed=1)),
    "mse":             (lambda F, x, y: (F.mse_loss(x, y), F.mse_loss(x, y, reduction="sum"), F.mse_loss(x, y, reduction="none")), X, array(5, 6, seed=1)),
    "l1":              (lambda F, x, y: (F.l1_loss(x, y), F.smooth_l1_loss(x, y), F.smooth_l1_loss(x, y, beta=0.3), F.huber_loss(x, y, delta=0.7)), X, array(5, 6, seed=1)),
    "bce":             (lambda F, p, x: (F.binary_cross_entropy(p, x.sigmoid().detach()), F.binary_cross_entropy_with_logits(x, p.detach()), F.binary_cross_entropy_with_logits(x, p.detach(), pos_weight=p[0].detach() * 3)), P, X),
    "bce extremes":    (lambda F, p: (F.binary_cross_entropy(p.detach(), p.detach() * 0 + 1, reduction="none"), F.binary_cross_entropy(p.detach(), p.detach() * 0)), np.array([1.0, 0.0, 0.5], np.float32)),
    "nll":             (lambda F, x, t: (F.nll_loss(F.log_softmax(x, 1), t), F.nll_loss(x, t, reduction="none"), F.nll_loss(x, t, ignore_index=5)), X, LABELS),
    "cross entropy":   (lambda F, x, t: (F.cross_entropy(x, t), F.cross_entropy(x, t, reduction="sum"), F.cross_entropy(x, t, reduction="none"), F.cross_entropy(x, t, label_smoothing=0.1), F.cross_entropy(x, t, ignore_index=0)), X, LABELS),
    "class weights":   (lambda F, x, t, w: (F.cross_entropy(x, t, w.detach()), F.cross_entropy(x, t, weight=w.detach(), label_smoothing=0.2), F.nll_loss(x, t, w.detach(), reduction="sum")), X, LABELS, array(6, low=0.2, high=2)),
    "class probabilities": (lambda F, x, p: (F.cross_entropy(x, p.detach()), F.cross_entropy(x, p.softmax(1).detach(), label_smoothing=0.1, reduction="sum")), X, P),
    "images of classes": (lambda F, x: F.cross_entropy(x, x.argmax(1).detach()), IMAGE),
    "large logits":    (lambda F, x, t: F.cross_entropy(x * 1000, t), X, LABELS),
    "kl":              (lambda F, x, p: (F.kl_div(F.log_softmax(x, 1), p.softmax(1).detach(), reduction="batchmean"), F.kl_div(x, p.detach(), reduction="sum"), F.kl_div(x, p.detach(), log_target=True, reduction="none")), X, P),
    "margins":         (lambda F, x, y: (F.margin_ranking_loss(x, y, y.sign().detach(), margin=0.1), F.hinge_embedding_loss(x, y.sign().detach()), F.triplet_margin_loss(x, y, x * 2)), X, array(5, 6, seed=1)),
    "embedding":       (lambda F, w, i: (F.embedding(i, w), F.embedding(i.reshape(5, 1), w, padding_idx=2)), X.repeat(2, 0), LABELS),
    "bilinear":        (lambda F, x, y, w, b: F.bilinear(x, y, w, b), X, array(5, 3), array(4, 6, 3), array(4)),
    "dropout off":     (lambda F, x: (F.dropout(x, 0.5, training=False), F.dropout(x, 0.0)), X),
}


def build(nn: Any) -> dict[str, tuple[Any, ...]]:
    """A module, and what it is called with; made once for each library."""
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.act = nn.ReLU(inplace=True)
            self.scales = nn.ParameterList([nn.Parameter(self.a.weight.detach().clone()[0, 0, 0])])

        def forward(self, x):
            return self.act(self.norm(self.a(x)) + x) * self.scales[0].sum()

    return {
        "Linear": (nn.Linear(6, 3), X), "Linear no bias": (nn.Linear(6, 3, bias=False), X), "Conv2d": (nn.Conv2d(4, 6, 3, stride=2, padding=1), IMAGE),
        "Conv1d": (nn.Conv1d(4, 6, 3, dilation=2), SOUND), "Conv3d": (nn.Conv3d(4, 2, 2), CUBE), "Conv2d groups": (nn.Conv2d(4, 8, (3, 1), padding="same", groups=2), IMAGE),
        "Conv2d reflect": (nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"), IMAGE), "ConvTranspose2d": (nn.ConvTranspose2d(4, 3, 2, stride=2), IMAGE),
        "BatchNorm1d": (nn.BatchNorm1d(6), X), "BatchNorm2d": (nn.BatchNorm2d(4), IMAGE), "BatchNorm plain": (nn.BatchNorm2d(4, affine=False, momentum=None), IMAGE),
        "LayerNorm": (nn.LayerNorm(6), X), "GroupNorm": (nn.GroupNorm(2, 4), IMAGE), "InstanceNorm2d": (nn.InstanceNorm2d(4, affine=True), IMAGE), "PReLU": (nn.PReLU(), X),
        "Embedding": (nn.Embedding(7, 3), LABELS), "Embedding padding": (nn.Embedding(7, 3, padding_idx=2), LABELS), "Flatten": (nn.Flatten(), IMAGE), "Unflatten": (nn.Unflatten(1, (2, 3)), X),
        "MaxPool2d": (nn.MaxPool2d(3, 2, padding=1), IMAGE), "AvgPool2d": (nn.AvgPool2d(2), IMAGE), "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((1, 1)), IMAGE),
        "activations": (nn.Sequential(nn.GELU(), nn.Tanh(), nn.Sigmoid(), nn.LeakyReLU(0.1), nn.Softplus(), nn.ELU(), nn.SiLU(), nn.Softmax(dim=1)), X),
        "Dropout": (nn.Sequential(nn.Dropout(0.0), nn.Identity()), X), "pads": (nn.Sequential(nn.ZeroPad2d(1), nn.ReflectionPad2d((1, 2, 0, 1)), nn.ConstantPad2d(1, 2.5)), IMAGE),
        "Upsample": (nn.Upsample(scale_factor=2, mode="nearest"), IMAGE), "Residual": (Residual(), IMAGE),
        "Sequential": (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 8), nn.Tanh(), nn.Linear(8, 2)), IMAGE),
        "RNNCell": (nn.RNNCell(6, 4), X), "LSTMCell": (nn.LSTMCell(6, 4), X), "GRUCell": (nn.GRUCell(6, 4), X), "RNN relu": (nn.RNN(4, 3, nonlinearity="relu"), SOUND[..., :4].transpose(2, 0, 1)),
        "LSTM": (nn.LSTM(4, 3, num_layers=2, batch_first=True), SOUND[..., :4].transpose(0, 2, 1)), "GRU": (nn.GRU(4, 3, bidirectional=True), SOUND[..., :4].transpose(2, 0, 1)),
        "MultiheadAttention": (Called(nn, nn.MultiheadAttention(6, 2, batch_first=True)), X[None]),
        "TransformerEncoder": (nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True), 2), X[None]),
        "TransformerEncoder first": (nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, activation="gelu", norm_first=True), X[:, None]),
    }
# fmt: on


def Called(nn: Any, module: Any) -> Any:
    """A module of three operands, given one three times."""

    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(x, x, x)

    return Three()


MODULES = list(build(ours.nn))
MADE: dict[str, Any] = {}


def pair(name: str) -> Any:
    """The module in both libraries, with PyTorch's weights."""
    theirs.manual_seed(0)
    mine, *arrays = build(ours.nn)[name]
    other = build(theirs.nn)[name][0]
    mine.load_state_dict({k: ours.tensor(v.numpy()) for k, v in other.state_dict().items()})
    return mine, other, arrays


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str) -> None:
    f, *arrays = FUNCTIONS[name]
    both(lambda t, *a: f(t.nn.functional, *a), *arrays, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    mine, other, arrays = pair(name)
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in other.named_parameters()]
    assert list(mine.state_dict()) == list(other.state_dict())
    assert [tuple(p.shape) for p in mine.parameters()] == [tuple(p.shape) for p in other.parameters()]

    def call(t: Any, *a: Any) -> Any:
        module = mine if t is ours else other
        module.zero_grad()
        y = module(*a)
        total = y[0] if isinstance(y, tuple) else y
        (total * total).mean().backward(retain_graph=True)
        grads = [p.grad.clone() if p.grad is not None else None for p in module.parameters()]
        return y, grads, list(module.buffers())

    both(call, *arrays, rtol=1e-4, atol=1e-5)
    mine.eval(), other.eval()
    both(lambda t, *a: (mine if t is ours else other)(*a), *arrays, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [n for n in MODULES if n not in ("MultiheadAttention", "TransformerEncoder", "TransformerEncoder first")]
)
def test_module_prints_alike(name: str) -> None:
    assert repr(build(ours.nn)[name][0]) == repr(build(theirs.nn)[name][0])


# fmt: off
STARTS = {
    "Linear": lambda nn: nn.Linear(300, 200), "Conv2d": lambda nn: nn.Conv2d(20, 60, 5), "ConvTranspose2d": lambda nn: nn.ConvTranspose2d(20, 60, 5),
    "Embedding": lambda nn: nn.Embedding(300, 50), "LSTM": lambda nn: nn.LSTM(40, 100), "BatchNorm2d": lambda nn: nn.BatchNorm2d(30), "attention": lambda nn: nn.MultiheadAttention(64, 4),
    "normal": lambda nn: filled(nn, nn.init.normal_, 1.0, 3.0), "uniform": lambda nn: filled(nn, nn.init.uniform_, -2.0, 5.0), "xavier_normal": lambda nn: filled(nn, nn.init.xavier_normal_),
    "xavier_uniform": lambda nn: filled(nn, nn.init.xavier_uniform_, 2.0), "kaiming_normal": lambda nn: filled(nn, lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu")),
    "kaiming_uniform": lambda nn: filled(nn, nn.init.kaiming_uniform_), "trunc_normal": lambda nn: filled(nn, lambda w: nn.init.trunc_normal_(w, std=2.0)), "constant": lambda nn: filled(nn, nn.init.constant_, 3.0),
    "zeros": lambda nn: filled(nn, nn.init.zeros_), "ones": lambda nn: filled(nn, nn.init.ones_), "orthogonal": lambda nn: filled(nn, nn.init.orthogonal_),
}
# fmt: on


def filled(nn: Any, fill: Any, *settings: Any) -> Any:
    layer = nn.Linear(300, 200)
    fill(layer.weight, *settings)
    return layer


@pytest.mark.parametrize("name", STARTS)
def test_distribution_of_starting_values(name: str) -> None:
    """The same moments and range as PyTorch's, within what chance allows."""
    for p, q in zip(STARTS[name](ours.nn).parameters(), STARTS[name](theirs.nn).parameters(), strict=True):
        a, b = p.detach().numpy(), q.detach().numpy()
        assert a.shape == b.shape
        spread = b.std() + 1e-12
        noise = 6 / np.sqrt(a.size)
        assert abs(a.mean() - b.mean()) <= spread * noise * 2 + 1e-7
        assert abs(a.std() / spread - 1) <= noise or spread < 1e-6
        assert abs(np.abs(a).max() - np.abs(b).max()) <= 0.35 * np.abs(b).max() + 1e-7


def test_orthogonal() -> None:
    w = ours.nn.init.orthogonal_(ours.empty(5, 8))
    np.testing.assert_allclose((w @ w.t()).numpy(), np.eye(5), atol=1e-5)


def test_dropout_drops_and_scales() -> None:
    x = ours.ones(200, 100, requires_grad=True)
    layer = ours.nn.Dropout(0.25)
    y = layer(x)
    y.sum().backward()
    kept = y.detach().numpy() > 0
    assert abs(kept.mean() - 0.75) < 0.01
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    assert not np.array_equal(layer(x).detach().numpy() > 0, kept)
    whole = ours.nn.functional.dropout2d(ours.ones(50, 20, 3, 3)).numpy().reshape(1000, 9)
    assert set(whole.sum(1).tolist()) == {0.0, 18.0}


def test_dropped_nan_is_nan() -> None:
    """In PyTorch too, dropout multiplies: what is not a number is not lost by chance."""

    def nans(t: Any) -> list[int]:
        x = t.tensor(np.full(60, np.nan, np.float32), requires_grad=True)
        q, k, v = (t.tensor(array(7, 4, seed=n), requires_grad=True) for n in range(3))
        seen = np.ones((7, 7), bool)
        seen[2] = False  # a row of an attention that sees nothing
        dropped = t.nn.functional.dropout(x, 0.5)
        y = t.nn.functional.dropout((q @ k.T).masked_fill(~t.tensor(seen), -float("inf")).softmax(-1), 0.5) @ v
        (y.sum() + dropped.sum()).backward()
        infinite = t.nn.functional.dropout(t.tensor(np.full(60, np.inf, np.float32)), 1.0)
        return [int(np.isnan(z.detach().numpy()).sum()) for z in (dropped, x.grad, infinite, y, q.grad, v.grad)]

    assert nans(ours) == nans(theirs) == [60, 0, 60, 4, 0, 28]


def test_hooks_state_and_copies() -> None:
    nn = ours.nn
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    seen: list[Any] = []
    with model[0].register_forward_hook(lambda m, args, y: seen.append(y.shape)):
        model[1].register_forward_pre_hook(lambda m, args: (args[0] * 0,))
        y = model(ours.ones(4, 3))
    model(ours.ones(4, 3))
    assert seen == [(4, 3)] and y.abs().sum().item() == 0
    other = copy.deepcopy(model)
    with ours.no_grad():
        other[0].weight.fill_(7)
    assert model[0].weight.max().item() < 1 and other[0].weight.requires_grad
    state = model.state_dict()
    state["0.weight"].zero_()
    assert model[0].weight.abs().sum().item() == 0
    assert repr(other.load_state_dict(state)) == "<All keys matched successfully>"
    assert other[0].weight.abs().sum().item() == 0


def test_module_errors() -> None:
    for t in (ours, theirs):
        layer = t.nn.Linear(3, 2)
        with pytest.raises(RuntimeError, match=r"Error\(s\) in loading state_dict for Linear"):
            layer.load_state_dict({"weight": t.ones(2, 2), "bias": t.ones(2)})
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
            layer(t.ones(1, 4))
        with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wieght'"):
            layer.wieght  # noqa: B018
        with pytest.raises(TypeError, match="cannot assign"):
            layer.weight = t.ones(2, 3)
        with pytest.raises(RuntimeError, match="to have 4 channels, but got 3 channels instead"):
            t.nn.Conv2d(4, 2, 3)(t.ones(1, 3, 5, 5))
        with pytest.raises(IndexError):
            t.nn.functional.cross_entropy(t.ones(2, 3), t.tensor([0, 3])).item()
        with pytest.raises(ValueError, match="expected 4D input"):
            t.nn.BatchNorm2d(3)(t.ones(2, 3))


def test_module_bookkeeping() -> None:
    results = []
    for t in (ours, theirs):
        nn = t.nn
        model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ModuleList([nn.Linear(2, 1), nn.Sequential(nn.Tanh())])})
        model.register_buffer("count", t.zeros(1))
        model.tied = model["a"]
        model.register_parameter("none", None)
        model.eval()
        model.apply(lambda m: setattr(m, "seen", True))
        results.append((
            [n for n, _ in model.named_parameters()], [n for n, _ in model.named_modules()], [n for n, _ in model.named_buffers()], list(model.state_dict()),
            [n for n, _ in model.named_children()], model["b"][1].training, model["b"][0].seen, sum(p.numel() for p in model.parameters()), "a" in model, len(model),
            model.get_submodule("b.1.0").training, str(model.double()["a"].weight.dtype), [m.in_features for m in model.modules() if isinstance(m, nn.Linear)],
        ))  # fmt: skip
    assert results[0] == results[1]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_with_dropout_drops_weights(causal: bool) -> None:
    """As dropout of the weights by hand does, from the same random numbers; gradients too."""
    F = ours.nn.functional
    rng = np.random.default_rng(0)
    q, k, v = (ours.tensor(rng.normal(size=(2, 3, 8, 4)).astype(np.float32), requires_grad=True) for _ in range(3))

    def by_hand() -> Any:
        s = q @ k.transpose(-2, -1) / 2.0
        if causal:
            s = s.masked_fill(ours.ones(8, 8).tril() == 0, -float("inf"))
        return F.dropout(s.softmax(-1), 0.5) @ v

    found = []
    for make in (by_hand, lambda: F.scaled_dot_product_attention(q, k, v, dropout_p=0.5, is_causal=causal)):
        ours.manual_seed(3)
        y = make()
        found.append([a.detach().numpy() for a in (y, *ours.autograd.grad((y * y).sum(), [q, k, v]))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    ours.manual_seed(3)
    low = F.scaled_dot_product_attention(*(x.bfloat16() for x in (q, k, v)), dropout_p=0.5, is_causal=causal)
    np.testing.assert_allclose(low.detach().float().numpy(), found[0][0], atol=0.05)
    nothing = F.scaled_dot_product_attention(q, k, v, dropout_p=1.0, is_causal=causal)
    assert not nothing.detach().numpy().any()
    plain = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert not np.allclose(found[0][0], plain.detach().numpy())
    with pytest.raises(ValueError, match="between 0 and 1"):
        F.scaled_dot_product_attention(q, k, v, dropout_p=1.5)


OLD = [(a, r) for a in (None, True, False) for r in (None, True, False)]


@pytest.mark.filterwarnings("ignore:size_average and reduce")
@pytest.mark.parametrize(("average", "reduce"), OLD)
def test_older_arguments_of_losses_choose_the_reduction(average: Any, reduce: Any) -> None:
    old = {"size_average": average, "reduce": reduce}

    def functions(torch: Any, x: Any, p: Any) -> Any:
        F, t, sign = torch.nn.functional, torch.tensor(LABELS), p.detach().round() * 2 - 1
        two = [
            F.mse_loss,
            F.l1_loss,
            F.smooth_l1_loss,
            F.kl_div,
            F.binary_cross_entropy_with_logits,
            F.soft_margin_loss,
        ]
        return [
            *(loss(x, p.detach(), **old) for loss in two),
            *(loss(x, t, **old) for loss in (F.cross_entropy, F.nll_loss)),
            F.cross_entropy(x, t, None, average, -100, reduce, label_smoothing=0.1),
            F.binary_cross_entropy(p, p.detach().round(), **old),
            F.hinge_embedding_loss(x, sign, **old),
            F.margin_ranking_loss(x, p, sign, **old),
            F.cosine_embedding_loss(x, p, sign[:, 0], **old),
        ]

    def modules(torch: Any, x: Any, p: Any) -> Any:
        nn, t = torch.nn, torch.tensor(LABELS)
        losses = [nn.MSELoss(average, reduce), nn.L1Loss(**old), nn.SmoothL1Loss(**old), nn.KLDivLoss(**old)]
        classes = [nn.CrossEntropyLoss(None, average, -100, reduce), nn.NLLLoss(**old)]
        return [*(m(x, p.detach()) for m in losses), *(m(x, t) for m in classes), losses[0].reduction]

    both(functions, X, P)
    both(modules, X, P)


def test_older_arguments_of_losses_warn() -> None:
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        ours.nn.functional.mse_loss(ours.ones(2), ours.zeros(2), size_average=False)
    with pytest.raises(TypeError, match="unexpected keyword argument 'reduce'"):
        ours.nn.ReLU(reduce=False)
