"""Settings of layers and functions beside PyTorch's: `inplace`, `dtype`, running statistics, padding modes, printed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, both, theirs

X, IMAGE = array(3, 4, low=-4, high=7), array(2, 4, 6, 6)

# fmt: off
LAYERS: dict[str, Any] = {
    "ReLU":        lambda nn: nn.ReLU(True),
    "ReLU6":       lambda nn: nn.ReLU6(True),
    "LeakyReLU":   lambda nn: nn.LeakyReLU(0.2, True),
    "ELU":         lambda nn: nn.ELU(1.5, True),
    "CELU":        lambda nn: nn.CELU(inplace=True),
    "SELU":        lambda nn: nn.SELU(True),
    "SiLU":        lambda nn: nn.SiLU(True),
    "Mish":        lambda nn: nn.Mish(True),
    "Hardswish":   lambda nn: nn.Hardswish(True),
    "Hardsigmoid": lambda nn: nn.Hardsigmoid(True),
    "Hardtanh":    lambda nn: nn.Hardtanh(-1, 2, inplace=True),
    "Threshold":   lambda nn: nn.Threshold(0.1, 20, True),
    "Dropout":     lambda nn: nn.Dropout(1.0, True),
    "known":       lambda nn: nn.Dropout(0.5, True).eval(),
}
FUNCTIONS: dict[str, Any] = {
    "relu":        lambda F, x: F.relu(x, True),
    "relu6":       lambda F, x: F.relu6(x, inplace=True),
    "leaky_relu":  lambda F, x: F.leaky_relu(x, 0.2, True),
    "elu":         lambda F, x: F.elu(x, 1.5, True),
    "celu":        lambda F, x: F.celu(x, inplace=True),
    "selu":        lambda F, x: F.selu(x, True),
    "silu":        lambda F, x: F.silu(x, inplace=True),
    "mish":        lambda F, x: F.mish(x, inplace=True),
    "hardswish":   lambda F, x: F.hardswish(x, True),
    "hardsigmoid": lambda F, x: F.hardsigmoid(x, True),
    "hardtanh":    lambda F, x: F.hardtanh(x, -1, 2, True),
    "threshold":   lambda F, x: F.threshold(x, 0.1, 20, True),
    "dropout":     lambda F, x: F.dropout(x, 1.0, True, True),
    "dropout2d":   lambda F, x: F.dropout2d(x[None, None], 1.0, True, True),
    "not":         lambda F, x: F.leaky_relu(x, 0.2, False),
    "relu_":       lambda F, x: F.relu_(x),
    "leaky_relu_": lambda F, x: F.leaky_relu_(x, 0.2),
    "elu_":        lambda F, x: F.elu_(x),
    "hardtanh_":   lambda F, x: F.hardtanh_(x, -2, 2),
}
# fmt: on


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_place(name: str) -> None:
    def run(torch: Any, x: Any) -> Any:
        layer, y = LAYERS[name](torch.nn), x * 1.0
        return layer(y), y, str(layer)

    both(run, X)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_in_place(name: str) -> None:
    def run(torch: Any, x: Any) -> Any:
        y = x * 1.0
        return FUNCTIONS[name](torch.nn.functional, y), y

    both(run, X)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_skip_connection_sees_what_its_branch_did_in_place(compiled: bool) -> None:
    def run(torch: Any, x: Any) -> Any:
        nn = torch.nn

        class Skip(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.branch = nn.Sequential(nn.LeakyReLU(0.2, True), nn.Tanh())

            def forward(self, x: Any) -> Any:
                return torch.cat([x, self.branch(x)], 1)

        net = torch.compile(Skip()) if compiled and torch is ours else Skip()
        return [net(x * k) for k in (1.0, 2.0, 3.0)]

    both(run, X)


def test_a_leaf_is_not_changed_in_place() -> None:
    for torch in (ours, theirs):
        x = torch.ones(3, requires_grad=True)
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            torch.nn.functional.leaky_relu(x, 0.1, True)


# fmt: off
TYPED: dict[str, Any] = {
    "Linear":      lambda nn, kind: nn.Linear(2, 3, **kind),
    "Bilinear":    lambda nn, kind: nn.Bilinear(2, 2, 2, **kind),
    "Conv1d":      lambda nn, kind: nn.Conv1d(2, 3, 1, **kind),
    "transposed":  lambda nn, kind: nn.ConvTranspose2d(2, 3, 1, 1, 0, 0, 1, True, 1, "zeros", *kind.values()),
    "Embedding":   lambda nn, kind: nn.Embedding(3, 2, **kind),
    "PReLU":       lambda nn, kind: nn.PReLU(2, **kind),
    "LayerNorm":   lambda nn, kind: nn.LayerNorm(3, **kind),
    "RMSNorm":     lambda nn, kind: nn.RMSNorm(3, **kind),
    "GroupNorm":   lambda nn, kind: nn.GroupNorm(1, 3, **kind),
    "BatchNorm":   lambda nn, kind: nn.BatchNorm2d(3, **kind),
    "LSTM":        lambda nn, kind: nn.LSTM(2, 3, proj_size=2, **kind),
    "GRUCell":     lambda nn, kind: nn.GRUCell(2, 3, **kind),
    "heads":       lambda nn, kind: nn.MultiheadAttention(4, 2, **kind),
    "transformer": lambda nn, kind: nn.TransformerEncoderLayer(4, 2, 8, **kind),
}
# fmt: on


@pytest.mark.parametrize("name", TYPED)
def test_a_layer_of_a_type(name: str) -> None:
    def types(torch: Any) -> Any:
        state = TYPED[name](torch.nn, {"device": "cpu", "dtype": torch.float64}).state_dict()
        return [[str(k), str(v.dtype), tuple(v.shape)] for k, v in state.items()]

    both(types)


@pytest.mark.parametrize(
    "layer", ["Conv2d", "LayerNorm", "BatchNorm1d", "LSTM", "Embedding", "ReLU", "MultiheadAttention"]
)
def test_a_setting_that_there_is_not(layer: str) -> None:
    given = {"Conv2d": (1, 2, 3), "LSTM": (2, 2), "Embedding": (2, 2), "ReLU": (), "MultiheadAttention": (4, 2)}
    with pytest.raises(TypeError, match="unexpected keyword argument 'wieght'"):
        getattr(ours.nn, layer)(*given.get(layer, (3,)), wieght=1)


def test_instance_norm_keeps_running_statistics() -> None:
    def run(torch: Any, x: Any) -> Any:
        m = torch.nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        found = [m(x), m(x * 2), m.running_mean.clone(), m.running_var.clone(), m.num_batches_tracked.clone()]
        return [*found, m.eval()(x)]

    both(run, IMAGE, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
@pytest.mark.parametrize("padding", ["same", "valid", 1])
def test_padding_modes_of_a_convolution(mode: str, padding: Any) -> None:
    weight = np.linspace(-1, 1, 72, dtype=np.float32).reshape(3, 4, 3, 2)

    def run(torch: Any, x: Any) -> Any:
        m = torch.nn.Conv2d(4, 3, (3, 2), padding=padding, padding_mode=mode, bias=False)
        m.weight.data.copy_(torch.tensor(weight))
        return m(x)

    both(run, IMAGE, rtol=1e-4, atol=1e-5)


def test_an_embedding_of_a_largest_norm_cuts_the_rows_asked_for() -> None:
    rows = np.arange(15, dtype=np.float32).reshape(5, 3) / 4

    def run(torch: Any) -> Any:
        m = torch.nn.Embedding(5, 3, max_norm=1.0)
        m.weight.data.copy_(torch.tensor(rows))
        y = m(torch.tensor([[0, 1], [3, 1]]))
        y.sum().backward()
        return y.detach(), m.weight.detach().clone(), m.weight.grad

    both(run)


def test_losses_that_others_write() -> None:
    def run(torch: Any, x: Any) -> Any:
        class Loss(torch.nn.modules.loss._Loss):
            def forward(self, x: Any) -> Any:
                return x.sum() if self.reduction == "sum" else x.mean()

        return Loss()(x), Loss(reduction="sum")(x), Loss().reduction

    both(run, X)


def test_hooks_in_order() -> None:
    def run(torch: Any) -> Any:
        log: list[int] = []
        m = torch.nn.Linear(2, 2)
        m.register_forward_hook(lambda *_: log.append(1))
        m.register_forward_hook(lambda *_: log.append(2), prepend=True)
        m.register_forward_pre_hook(lambda *_: log.append(3))
        m(torch.ones(1, 2))
        return log

    both(run)
    with pytest.raises(NotImplementedError, match="with_kwargs"):
        ours.nn.ReLU().register_forward_pre_hook(print, with_kwargs=True)


def test_results_into_a_tensor_that_is_there() -> None:
    def run(torch: Any) -> Any:
        x, y = torch.empty(2, 3, dtype=torch.float64), torch.empty(3, dtype=torch.int64)
        found = torch.zeros(2, 3, out=x), torch.full((2, 3), 7.0, out=x), torch.arange(3, out=y), torch.ones(3, out=y)
        return found[1] is x, found[2] is y, x, y, torch.linspace(0, 1, 1, requires_grad=True).requires_grad

    both(run)


def test_a_triplet_with_swap() -> None:
    def run(torch: Any, x: Any, y: Any, z: Any) -> Any:
        F = torch.nn.functional
        return [
            F.triplet_margin_loss(x, y, z, swap=s, reduction=r) for s in (False, True) for r in ("mean", "sum", "none")
        ]

    both(run, array(5, 3), array(5, 3, seed=1), array(5, 3, seed=2))


def test_gradients_of_many_rows_at_once_are_refused() -> None:
    x = ours.ones(3, requires_grad=True)
    with pytest.raises(NotImplementedError, match="is_grads_batched"):
        ours.autograd.grad(x * 2, x, ours.eye(3), is_grads_batched=True)
