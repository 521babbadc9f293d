"""Functions with gradients of their own, random numbers, data, files, names."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyflow.torch as ours
from tests.torch.compare import array, both, theirs

A = array(3, 4)


# ------------------------------------------------------------------------------------------ functions with backward


def scaled_exp(t: Any) -> Any:
    class ScaledExp(t.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, scale: float) -> Any:
            y = x.exp()
            ctx.save_for_backward(y)
            ctx.scale = scale
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (y,) = ctx.saved_tensors
            return g * y * ctx.scale, None

    return ScaledExp.apply


def two_outputs(t: Any) -> Any:
    class SinCos(t.autograd.Function):
        @staticmethod
        def forward(x: Any, y: Any) -> Any:
            return x.sin() * y, x.cos()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            x, y = ctx.saved_tensors
            return g * x.cos() * y - h * x.sin(), g * x.sin()

    return SinCos.apply


def hooked(t: Any, x: Any) -> Any:
    y = x * 2
    y.register_hook(lambda g: g * 10)
    return (y * y).sum(), y


def removed(t: Any, x: Any) -> Any:
    y = x * 2
    y.register_hook(lambda g: g * 10).remove()
    return y.exp()


PROGRAMS: dict[str, Any] = {
    "exp": lambda t, x: scaled_exp(t)(x * 2, 10.0), "two": lambda t, x: two_outputs(t)(x, x + 1), "hook": hooked, "removed": removed,
    "plain": lambda t, x: scaled_exp(t)(x.detach(), 1.0), "between": lambda t, x: scaled_exp(t)(x, 3.0).sin().t() @ x,
    "variable": lambda t, x: t.autograd.Variable(x) * 2,
    "vector_norm": lambda t, x: (t.linalg.vector_norm(x), t.linalg.norm(x, dim=1), t.linalg.norm(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    both(PROGRAMS[name], A)


def test_a_custom_function_is_no_new_program_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.torch.test_autograd import count_programs
    from tinyflow.graph.signature import signature

    runs = count_programs(monkeypatch)
    f = scaled_exp(ours)
    for _ in range(3):
        x = ours.tensor(A, requires_grad=True)
        f(x, 2.0).sum().backward()
        x.grad.sum().item()
    assert len({signature(roots, []).key for roots, _ in runs}) == 1


# ------------------------------------------------------------------------------------------ random numbers


def test_seed_gives_the_same_numbers_and_draws_differ() -> None:
    def draw() -> Any:
        return [
            ours.randn(3).tolist(),
            ours.rand(3).tolist(),
            ours.randperm(5).tolist(),
            ours.randint(9, (3,)).tolist(),
        ]

    ours.manual_seed(5)
    first, second = draw(), draw()
    ours.manual_seed(5)
    ours.zeros(3).exp().tolist()  # what else is computed does not matter
    assert draw() == first and draw() == second and first != second
    g, h = (ours.Generator().manual_seed(3) for _ in range(2))
    assert ours.randn(4, generator=g).tolist() == ours.randn(4, generator=h).tolist()


N = 20000
# fmt: off
MOMENTS = {  # name -> (draw, mean, deviation, least, greatest)
    "rand": (lambda: ours.rand(N), 0.5, 12**-0.5, 0, 1), "randn": (lambda: ours.randn(100, N // 100), 0, 1, -6, 6), "normal": (lambda: ours.normal(2.0, 3.0, (N,)), 2, 3, -18, 22),
    "normal of tensors": (lambda: ours.normal(ours.full((N,), 1.0), ours.full((N,), 0.5)), 1, 0.5, -3, 5), "randint": (lambda: ours.randint(2, 6, (N,)), 3.5, 1.118, 2, 5),
    "bernoulli": (lambda: ours.bernoulli(ours.full((N,), 0.3)), 0.3, 0.4583, 0, 1), "uniform_": (lambda: ours.empty(N).uniform_(-1, 3), 1, 4 / 12**0.5, -1, 3),
    "normal_": (lambda: ours.empty(N).normal_(1, 2), 1, 2, -12, 14), "exponential_": (lambda: ours.empty(N).exponential_(2.0), 0.5, 0.5, 0, 20), "random_": (lambda: ours.zeros(N, dtype=ours.int64).random_(4), 1.5, 1.118, 0, 3),
    "like": (lambda: ours.randn_like(ours.zeros(N, dtype=ours.float64)), 0, 1, -6, 6), "multinomial": (lambda: ours.multinomial(ours.tensor([0.0, 3.0, 1.0]), N, replacement=True), 1.25, 0.433, 1, 2),
}
# fmt: on


@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name: str) -> None:
    draw, mean, deviation, low, high = MOMENTS[name]
    a = draw().numpy()
    assert a.size == N and a.min() >= low and a.max() <= high
    assert abs(a.mean() - mean) < 5 * deviation / N**0.5
    assert abs(a.std() / deviation - 1) < 0.05
    assert not np.array_equal(a, draw().numpy())


def test_permutations_and_draws_without_replacement() -> None:
    assert sorted(ours.randperm(50).tolist()) == list(range(50))
    picked = ours.multinomial(ours.tensor([[1.0, 0.0, 2.0, 3.0]] * 40), 3)
    assert all(sorted(row) == [0, 2, 3] for row in picked.tolist())


def test_distributions() -> None:
    x, k = ours.tensor(A), ours.tensor([0, 3, 1])
    y, j = theirs.tensor(A), theirs.tensor([0, 3, 1])
    for make in (
        lambda t, v, i: t.distributions.Normal(v, v.abs() + 1).log_prob(v + 0.5),
        lambda t, v, i: t.distributions.Normal(v, v.abs() + 1).entropy(),
        lambda t, v, i: t.distributions.Categorical(logits=v).log_prob(i),
        lambda t, v, i: t.distributions.Categorical(probs=v.abs()).entropy(),
        lambda t, v, i: t.distributions.Bernoulli(v.sigmoid()).log_prob((v > 0).float()),
        lambda t, v, i: t.distributions.Uniform(v - 1, v + 1).log_prob(v),
        lambda t, v, i: t.distributions.kl_divergence(
            t.distributions.Normal(v, 1.0 + v * 0), t.distributions.Normal(v * 0, 2.0 + v * 0)
        ),
    ):
        np.testing.assert_allclose(make(ours, x, k).numpy(), make(theirs, y, j).numpy(), rtol=2e-5, atol=1e-6)
    drawn = ours.distributions.Categorical(probs=ours.tensor([[0.0, 1.0], [1.0, 0.0]])).sample((5,))
    assert drawn.tolist() == [[1, 0]] * 5
    loc = ours.tensor([1.0], requires_grad=True)
    ours.distributions.Normal(loc, 1.0).rsample().sum().backward()
    assert loc.grad.tolist() == [1.0]


# ------------------------------------------------------------------------------------------ data


def test_loader() -> None:
    data = ours.utils.data
    x, y = ours.arange(10).reshape(10, 1).float(), ours.arange(10)
    rows = data.TensorDataset(x, y)
    assert [b[1].tolist() for b in data.DataLoader(rows, batch_size=4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    loader = data.DataLoader(rows, batch_size=4, shuffle=True, drop_last=True)
    first, second = ([v for _, b in loader for v in b.tolist()] for _ in range(2))
    assert len(loader) == 2 and len(set(first)) == 8 and first != second
    for a, b in loader:
        assert a[:, 0].tolist() == b.tolist() and a.shape == (4, 1)

    class Squares(data.Dataset):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, i: int) -> Any:
            return {"x": np.float32(i), "y": (i, i * i)}

    batch = next(iter(data.DataLoader(Squares(), batch_size=3)))
    assert batch["x"].dtype is ours.float32 and [t.tolist() for t in batch["y"]] == [[0, 1, 2], [0, 1, 4]]
    parts = data.random_split(rows, [0.7, 0.3])
    assert sorted(int(r[1]) for p in parts for r in p) == list(range(10)) and len(parts[0]) == 7
    padded = ours.nn.utils.rnn.pad_sequence([ours.ones(2), ours.ones(3)], batch_first=True, padding_value=7)
    assert padded.tolist() == [[1, 1, 7], [1, 1, 1]]


# ------------------------------------------------------------------------------------------ files


def test_save_and_load(tmp_path: Path) -> None:
    model = ours.nn.Sequential(ours.nn.Linear(3, 2), ours.nn.BatchNorm1d(2))
    opt = ours.optim.Adam(model.parameters())
    model(ours.ones(4, 3)).sum().backward()
    opt.step()
    saved = {
        "model": model.state_dict(),
        "opt": opt.state_dict(),
        "epoch": 3,
        "shape": (1, [2.5, None, True]),
        "empty": ours.zeros(0, 2),
    }
    path = tmp_path / "all.pt"
    ours.save(saved, path)
    back = ours.load(path, weights_only=True)
    assert back["epoch"] == 3 and back["shape"] == (1, [2.5, None, True]) and back["empty"].shape == (0, 2)
    for k, v in saved["model"].items():
        assert ours.equal(back["model"][k], v) and back["model"][k].dtype is v.dtype
    assert back["opt"]["state"].keys() == saved["opt"]["state"].keys()
    memory = io.BytesIO()
    ours.save([ours.ones(2)], memory)
    memory.seek(0)
    assert ours.load(memory)[0].tolist() == [1, 1]
    ours.save(model.state_dict(), tmp_path / "m.safetensors")
    for k, v in ours.load(tmp_path / "m.safetensors").items():
        assert ours.equal(v, model.state_dict()[k])


def test_foreign_and_damaged_files(tmp_path: Path) -> None:
    theirs.save({"a": theirs.ones(2)}, tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match="loading it would run code"):
        ours.load(tmp_path / "pickled.pt")
    ours.save({"a": ours.ones(20)}, tmp_path / "good.pt")
    ours.save({"a": ours.ones(20)}, tmp_path / "good.safetensors")
    for name in ("good.pt", "good.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for cut in (0, 3, 8, 20, len(whole) // 2, len(whole) - 3):
            (tmp_path / "cut").write_bytes(whole[:cut])
            with pytest.raises(ValueError):
                ours.load(tmp_path / "cut")
    with zipfile.ZipFile(tmp_path / "odd.pt", "w") as z:
        z.writestr("tree.json", '{"tensor": 5}')
    with pytest.raises(ValueError, match="cannot be loaded"):
        ours.load(tmp_path / "odd.pt")
    with pytest.raises(TypeError, match="save"):
        ours.save(object(), tmp_path / "x")


# ------------------------------------------------------------------------------------------ names and settings


def test_unknown_names_say_what_may_be_meant() -> None:
    for module, name, text in (
        (ours, "sofmax", "softmax"),
        (ours, "complex64", "complex"),
        (ours.nn, "Linaer", "Linear"),
        (ours.nn.functional, "rellu", "relu"),
        (ours.optim, "Adan", "Adam"),
        (ours.linalg, "svd", "torch.linalg has no 'svd'"),
    ):
        with pytest.raises(AttributeError, match=text):
            getattr(module, name)


def test_devices_and_settings() -> None:
    from tinyflow.core.config import config

    assert not ours.cuda.is_available()
    assert ours.ones(1, device="cpu").to("cpu").device == ours.device("cpu") and ours.ones(1).device.type == "cpu"
    with pytest.raises(AssertionError, match="CPU"):
        ours.ones(1, device="cuda")
    before = ours.get_num_threads()
    ours.set_num_threads(1)
    assert config.THREADS == 1
    ours.set_num_threads(before)
    ours.set_default_dtype(ours.float64)
    assert ours.tensor([1.5]).dtype is ours.float64 and (ours.arange(3) / 2).dtype is ours.float64
    ours.set_default_dtype(ours.float32)
    assert ours.result_type(ours.tensor([1]), 1.0) is ours.float32
    assert (
        ours.Tensor([1, 2]).dtype is ours.float32
        and ours.Tensor(2, 3).shape == (2, 3)
        and ours.LongTensor([1]).dtype is ours.int64
    )
    assert ours.is_tensor(ours.ones(1)) and not ours.is_tensor(1)
    assert ours.empty(3, 2).numel() == ours.numel(ours.zeros(6)) == 6


def test_numbers_and_arrays_as_operands() -> None:
    x = ours.tensor([1.0, 2.0])
    assert (np.float32(2) * x).tolist() == (x * np.float64(2)).tolist() == [2, 4]
    assert (x + np.array([1.0, 1.0], np.float32)).tolist() == [2, 3]
    assert np.asarray(x).tolist() == [1, 2]
    assert [1, 2][ours.tensor(1)] == 2 and float(x[0]) == 1.0 and int(x[1]) == 2 and 2.0 in x
    assert (x == None) is False  # noqa: E711
    assert sorted({x: 1}) == [x]


def test_assert_close() -> None:
    ours.testing.assert_close(ours.ones(2), ours.ones(2) + 1e-7)
    with pytest.raises(AssertionError):
        ours.testing.assert_close(ours.ones(2), ours.ones(2) * 1.1)
    with pytest.raises(AssertionError, match="dtype"):
        ours.testing.assert_close(ours.ones(2), ours.ones(2, dtype=ours.float64))


def test_array_whose_rows_are_not_rows() -> None:
    """A table laid out by columns is read as it is meant, at the first call and where what was made of it is found again."""
    x = array(2, 7, 8)
    want = theirs.nn.functional.adaptive_max_pool1d(theirs.tensor(x), 3, return_indices=True)
    for _ in range(3):
        got = ours.nn.functional.adaptive_max_pool1d(ours.tensor(x), 3, return_indices=True)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
