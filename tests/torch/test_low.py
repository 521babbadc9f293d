"""bfloat16 and float16 beside PyTorch: types, values and gradients, layers, what is printed and kept."""

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, theirs, values

pytest.importorskip("ml_dtypes")
A, B = array(5, 6), array(6, 4, seed=1)
CLOSE = {"bfloat16": 2e-2, "float16": 3e-3}


def results(t, name):
    d = getattr(t, name)
    x, w = t.tensor(A).to(d).requires_grad_(), t.tensor(B, dtype=d, requires_grad=True)
    F = t.nn.functional
    # fmt: off
    out = [
        x, x + 1, x * 2.5, x.sum(), x.mean(), x @ w, F.softmax(x, -1), F.layer_norm(x, (6,)), x.float(), x.exp(), x.max(1).values, x > 0, x.half(), x.bfloat16(), x.double(),
        x[1:, 2], x.t(), t.cat([x, x]), x.to(t.int64), x + t.tensor(A), x + t.tensor(2), t.arange(5, dtype=d), t.zeros(3, dtype=d), x.var(), x.cumsum(1), x.sort(1).values, F.gelu(x),
        x.detach().half() + x.detach().bfloat16(), t.ones(2, dtype=d),
    ]
    # fmt: on
    (x @ w).tanh().sum().backward()
    return [*out, x.grad, w.grad, x.detach()[0, 0].item(), x.detach().tolist()]


@pytest.mark.parametrize("name", CLOSE)
def test_values_and_types(name):
    for k, (got, want) in enumerate(zip(values(results(ours, name)), values(results(theirs, name)), strict=True)):
        if not isinstance(want, theirs.Tensor):
            assert got == want, k
            continue
        assert str(got.dtype) == str(want.dtype), k
        near = dict(rtol=CLOSE[name], atol=CLOSE[name], err_msg=str(k))
        np.testing.assert_allclose(got.detach().double().numpy(), want.detach().double().numpy(), **near)


@pytest.mark.parametrize("name", CLOSE)
def test_what_is_printed(name):
    here, there = (t.tensor(A).to(getattr(t, name)) for t in (ours, theirs))
    assert repr(here) == repr(there) and here.type() == there.type()
    assert ours.finfo(here.dtype).max == theirs.finfo(there.dtype).max


def test_layers(tmp_path):
    layer = ours.nn.Linear(6, 4).bfloat16()
    assert (
        layer(ours.tensor(A).bfloat16()).dtype is ours.bfloat16
        and ours.nn.Linear(2, 2).half().weight.dtype is ours.half
    )
    optimizer = ours.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.detach().float().numpy().copy()
    layer(ours.tensor(A).bfloat16()).float().sum().backward()
    optimizer.step()
    assert layer.weight.dtype is ours.bfloat16 and not np.array_equal(before, layer.weight.detach().float().numpy())
    ours.save(layer.state_dict(), tmp_path / "layer.safetensors")
    again = ours.load(tmp_path / "layer.safetensors")
    assert again["weight"].dtype is ours.bfloat16 and (again["weight"] == layer.weight.detach()).all()


def test_numpy_has_no_bfloat16():
    with pytest.raises(TypeError, match="unsupported ScalarType BFloat16"):
        ours.tensor(A).bfloat16().numpy()
    half = ours.from_numpy(A.astype(np.float16))
    assert half.dtype is ours.float16 and half.numpy().dtype == np.float16
