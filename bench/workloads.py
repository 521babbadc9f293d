"""The workloads: one row each. Whoever runs a row makes the same weights and the same batches from it.

    workload := Workload(name, text, program, shapes, batch, seed)

`program` names a file under programs/<family>/; a family without that file does not run the row. `shapes` are those of
the weights, in the order of PyTorch's parameters().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Arrays = tuple[np.ndarray, ...]
Draw = Callable[[np.random.Generator], Arrays]
BATCHES = 16  # different ones, fed in turn: more than the second cache holds


class Workload(NamedTuple):
    name: str
    text: str
    program: str
    shapes: tuple[tuple[int, ...], ...]
    batch: Draw
    zero: bool = False  # the weights start at zero

    def weights(self) -> list[np.ndarray]:
        """He's initialisation: normal with variance 2 / fan in; biases are zero."""
        random = np.random.default_rng(1)
        return [np.zeros(s, np.float32) if self.zero or len(s) == 1 else scaled(random, s) for s in self.shapes]

    def batches(self, count: int = BATCHES) -> list[Arrays]:
        random = np.random.default_rng(2)
        return [self.batch(random) for _ in range(count)]


def scaled(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values: np.ndarray = random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    return values


def digits(count: int, shape: tuple[int, ...] = (784,), onehot: bool = False) -> Draw:
    """Like the digits of MNIST: a fifth of the pixels are lit, and the ten classes can be told apart."""

    def draw(random: np.random.Generator) -> Arrays:
        forms = np.random.default_rng(3)
        ideal = forms.random((10, 784), np.float32) * (forms.random((10, 784)) < 0.2)
        labels = random.integers(0, 10, count)
        images = ideal[labels] * random.random((count, 784), np.float32)
        return images.reshape(count, *shape), np.eye(10, dtype=np.float32)[labels] if onehot else labels

    return draw


def normal(*shape: int) -> Draw:
    return lambda random: (np.asarray(random.standard_normal(shape, np.float32)),)


def nothing(random: np.random.Generator) -> Arrays:
    return ()


def square(side: int) -> Workload:
    return Workload(
        f"mm{side}", f"{side} x {side} times {side} x {side}", "matmul", ((side, side), (side, side)), nothing
    )


LENET = ((32, 1, 5, 5), (32,), (64, 32, 5, 5), (64,), (1024, 3136), (1024,), (10, 1024), (10,))
SIZES = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)

# fmt: off
STEPS = [  # forward, backward and update
    Workload("softmax", "784-10, batch 100, SGD, a fresh numpy batch every step", "softmax", ((784, 10),), digits(100, onehot=True), zero=True),
    Workload("mlp",     "784-512-512-10, batch 128, Adam",                         "mlp",     ((512, 784), (512,), (512, 512), (512,), (10, 512), (10,)), digits(128)),
    Workload("lenet",   "28x28x1, 5x5 convs 32 and 64, dense 1024, batch 64, Adam", "lenet",  LENET, digits(64, (1, 28, 28))),
]
KERNELS = [square(side) for side in SIZES]
OVERHEAD = [
    Workload("no-op",  "a run of nothing",                              "no_op",  (),       nothing),
    Workload("one-op", "x + 1 of one fed number",                       "one_op", (),       normal()),
    Workload("tiny",   "1,000 operations on 16 numbers, one by one",    "tiny",   ((1, 16),), normal(16)),
]
# fmt: on

GROUPS = {**{w.name: [w] for w in STEPS}, "kernels": KERNELS, "overhead": OVERHEAD}
TABLE = {w.name: w for group in GROUPS.values() for w in group}
