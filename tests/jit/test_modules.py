"""Compiled modules are the modules themselves: names, state, flags, copies."""

from __future__ import annotations

import copy
import pickle

import pytest

from tinyflow import torch
from tinyflow.torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("seen", torch.zeros(1))
        self.gain = 1.0

    def forward(self, x):
        h = torch.relu(self.first(x))
        if self.training:
            h = h * self.gain
        return self.second(h)


# fmt: off
LAYERS = {  # a layer, and the shape of what it is given
    "linear":       (lambda: nn.Linear(4, 3), (2, 4)),
    "layer norm":   (lambda: nn.LayerNorm(4), (2, 4)),
    "rms norm":     (lambda: nn.RMSNorm(4), (2, 4)),
    "group norm":   (lambda: nn.GroupNorm(2, 4), (2, 4, 5)),
    "batch norm":   (lambda: nn.BatchNorm2d(4), (2, 4, 5, 5)),
    "instance norm": (lambda: nn.InstanceNorm1d(4), (2, 4, 5)),
    "convolution":  (lambda: nn.Conv2d(4, 3, 3, padding=1), (2, 4, 5, 5)),
    "reflected":    (lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 5, 5)),
    "transposed":   (lambda: nn.ConvTranspose1d(4, 3, 3, 2), (2, 4, 5)),
    "attention":    (lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), (2, 3, 4)),
    "pooling":      (lambda: nn.MaxPool2d(2), (2, 4, 6, 6)),
    "activation":   (lambda: nn.GELU(), (2, 4)),
}
# fmt: on


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_one_piece(name) -> None:
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(*shape)
    assert torch.allclose(torch.compile(layer, fullgraph=True)(x), layer(x), atol=1e-5)


def test_names_are_the_modules_own() -> None:
    net = Net()
    compiled = torch.compile(net)
    assert list(compiled.state_dict()) == list(net.state_dict()) == ["seen", *dict(net.named_parameters())]
    assert isinstance(compiled, Net) and type(compiled).__name__ == "Net"
    assert next(nn.Sequential(compiled).named_parameters())[0] == "0.first.weight"
    x = torch.randn(2, 3)
    assert torch.allclose(compiled(x), net(x))
    compiled.load_state_dict({k: v * 0 for k, v in net.state_dict().items()})
    assert net(x).abs().sum().item() == 0 == compiled(x).abs().sum().item()


def test_flags_and_attributes_are_live() -> None:
    net = Net()
    compiled = torch.compile(net)
    x = torch.randn(2, 3)
    before = compiled(x)
    net.gain = 0.0
    assert torch.allclose(compiled(x), net.second.bias.expand(2, 2))
    compiled.eval()
    assert not net.training and torch.allclose(compiled(x), before)
    assert compiled.compilations == 3
    assert "self.training is True" in compiled.explain()
    compiled.extra = 5
    assert net.extra == 5


def test_layers_may_be_replaced() -> None:
    net = Net()
    compiled = torch.compile(net)
    x = torch.randn(2, 3)
    compiled(x)
    net.second = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 7))
    assert compiled(x).shape == (2, 7)
    net.first.bias = None
    assert torch.allclose(compiled(x), net(x))


def test_copies_and_pickles() -> None:
    net = Net()
    compiled = torch.compile(net)
    x = torch.randn(2, 3)
    expected = compiled(x)
    twin = copy.deepcopy(compiled)
    with torch.no_grad():
        net.first.weight.zero_()
    assert torch.allclose(twin(x), expected) and not torch.allclose(compiled(x), expected)


def test_layers_of_one_kind_share_a_variant() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(3, 3) for _ in range(6)]

    @torch.compile
    def apply(layer, x):
        return torch.relu(layer(x))

    x = torch.randn(2, 3)
    for layer in layers:
        assert torch.allclose(apply(layer, x), torch.relu(layer(x)))
    assert apply.compilations == 1


def test_statistics_that_change_in_forward() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(3)
    twin = copy.deepcopy(norm)
    compiled = torch.compile(norm)
    for k in range(4):
        x = torch.randn(5, 3) * k
        assert torch.allclose(compiled(x), twin(x), atol=1e-5)
    assert torch.allclose(norm.running_mean, twin.running_mean) and torch.allclose(norm.running_var, twin.running_var)
    compiled.eval(), twin.eval()
    assert torch.allclose(compiled(x), twin(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers(kind: str) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 4)
    compiled = torch.compile(layer)
    for length in (1, 2, 5):
        x = torch.randn(length, 2, 3)
        assert torch.allclose(compiled(x)[0], layer(x)[0], atol=1e-6)


def test_pickle() -> None:
    compiled = torch.compile(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    x = torch.ones(1, 2)
    again = pickle.loads(pickle.dumps(compiled))
    assert torch.allclose(again(x), compiled(x))
