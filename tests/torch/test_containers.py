"""What holds modules and parameters behaves as a list or a dict does, in both."""

from importlib import import_module

import pytest

SIDES = ("torch", "tinyflow.torch")


def lists(torch):
    nn = torch.nn
    layers = nn.ModuleList([nn.Linear(k, 1) for k in (1, 2, 3)])
    numbers = nn.ParameterList([torch.full((2,), float(k)) for k in range(3)])
    numbers.append(torch.full((2,), 3.0)).extend([torch.full((2,), 4.0)])
    numbers[1] = nn.Parameter(torch.full((2,), 10.0))
    layers[-1] = nn.Linear(7, 1)
    return (
        [m.in_features for m in layers], [m.in_features for m in layers[1:]], len(layers), type(layers[:1]).__name__,
        [p.tolist() for p in numbers], [p.tolist() for p in numbers[::2]], len(numbers), sorted(numbers.state_dict()),
        all(p.requires_grad for p in numbers),
    )  # fmt: skip


def dicts(torch):
    nn = torch.nn
    layers = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(2, 1)})
    layers.update([("c", nn.Linear(3, 1))])
    taken = layers.pop("a")
    del layers["b"]
    weights = nn.ParameterDict({"x": torch.ones(2), "y": torch.zeros(1)})
    weights.update({"z": torch.ones(3)})
    before = sorted(weights.state_dict())
    gone = weights.pop("y")
    left = list(weights)
    weights.clear()
    return (
        taken.in_features, list(layers), [m.in_features for m in layers.values()], "c" in layers, "a" in layers,
        before, gone.tolist(), left, len(weights), list(nn.Module.parameters(weights)),
    )  # fmt: skip


@pytest.mark.parametrize("case", [lists, dicts])
def test_containers(case):
    torch = pytest.importorskip("torch")
    assert case(import_module(SIDES[1])) == case(torch)
