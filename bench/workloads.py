"""The workloads: one row each. Whoever runs a row makes the same weights and the same batches from it.

    workload := Workload(name, text, program, batch, shapes, settings)

`program` names a file under programs/<family>/; a family without that file does not run the row. `shapes` are those of
the weights by name; a row without them has those of the model that its PyTorch program makes of the `settings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Arrays = tuple[np.ndarray, ...]
Shapes = Mapping[str, tuple[int, ...]]
Draw = Callable[[np.random.Generator], Arrays]
BATCHES = 16  # different ones, fed in turn: more than the second cache holds


class Workload(NamedTuple):
    name: str
    text: str
    program: str
    batch: Draw
    shapes: Shapes | None = None
    settings: Mapping[str, Any] = {}
    flops: int | None = None  # of a step, where its graph has more: products with the zeros between a spread gradient's
    way: str = "training"  # the family's file that makes the step of a program that has only a model

    def batches(self, count: int = BATCHES) -> list[Arrays]:
        random = np.random.default_rng(2)
        return [self.batch(random) for _ in range(count)]


def weights_of(shapes: Shapes) -> dict[str, np.ndarray]:
    """Matrices and kernels are normal with variance 2 / fan in (He et al., 2015), scales one, what is called zero or bias zero."""
    random = np.random.default_rng(1)
    return {name: weight(random, name.rpartition(".")[2], shape) for name, shape in shapes.items()}


def weight(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if "zero" in name or "bias" in name:
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
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


def photos(count: int, side: int) -> Draw:
    """Pictures of three colours, each of a class that shifts its colours."""

    def draw(random: np.random.Generator) -> Arrays:
        ideal = np.random.default_rng(3).standard_normal((10, 3, 1, 1), np.float32)
        labels = random.integers(0, 10, count)
        return ideal[labels] + random.standard_normal((count, 3, side, side), np.float32), labels

    return draw


def scenes(count: int, side: int, classes: int = 4) -> Draw:
    """Pictures of three colours, and what each pixel belongs to: one of some upright bands, told by its colour."""

    def draw(random: np.random.Generator) -> Arrays:
        ideal = np.random.default_rng(3).standard_normal((classes, 3), np.float32)
        bands = random.integers(0, classes, (count, 1, side // 8)).repeat(8, 2).repeat(side, 1)  # (B, H, W)
        noise = random.standard_normal((count, 3, side, side), np.float32)
        return np.ascontiguousarray(ideal[bands].transpose(0, 3, 1, 2)) + noise, bands

    return draw


def text(count: int, length: int, symbols: int) -> Draw:
    """Symbols that go on from each other by one of four steps, and those that come next."""

    def draw(random: np.random.Generator) -> Arrays:
        line = (
            random.integers(0, symbols, (count, 1)) + random.integers(1, 5, (count, length + 1)).cumsum(1)
        ) % symbols
        return np.ascontiguousarray(line[:, :-1]), np.ascontiguousarray(line[:, 1:])

    return draw


def sentences(count: int, length: int, symbols: int) -> Draw:
    """Such symbols in sentences of different lengths: 0 is no symbol, 1 one of the seventh part that is hidden and asked for."""

    def draw(random: np.random.Generator) -> Arrays:
        (line, _) = text(count, length, symbols - 2)(random)
        real = np.arange(length) < random.integers(length // 2, length + 1, (count, 1))
        asked = real & (random.random((count, length)) < 0.15)
        x = np.where(real, np.where(asked, 1, line + 2), 0)
        return x, np.where(asked, line + 2, -100)

    return draw


def diffusion(count: int, channels: int, side: int) -> Draw:
    """Pictures, the noise that spoils them, how far it has, and their classes."""

    def draw(random: np.random.Generator) -> Arrays:
        labels = random.integers(0, 10, count)
        ideal = np.random.default_rng(3).standard_normal((10, channels, side, side), np.float32)
        noise = random.standard_normal((count, channels, side, side), np.float32)
        return ideal[labels], noise, random.integers(0, 1000, count), labels

    return draw


def normal(*shape: int) -> Draw:
    return lambda random: (np.asarray(random.standard_normal(shape, np.float32)),)


def nothing(random: np.random.Generator) -> Arrays:
    return ()


def square(side: int) -> Workload:
    shapes = {"a": (side, side), "b": (side, side)}
    return Workload(f"mm{side}", f"{side} x {side} times {side} x {side}", "matmul", nothing, shapes)


def product(name: str, a: tuple[int, ...], b: tuple[int, ...], turned: str = "") -> Workload:
    text = " times ".join(" x ".join(map(str, shape)) + " turned" * (letter in turned) for letter, shape in (("a", a), ("b", b)))  # fmt: skip
    return Workload(name, text, "product", nothing, {"a": a, "b": b}, {"turned": turned})


def conv(name: str, count: int, channels: int, out: int, kernel: int, *sizes: int, forward: bool = False, stride: int = 1, padding: int | None = None, dilation: int = 1, groups: int = 1) -> Workload:  # fmt: skip
    """`out` channels of `channels`, for `count` images; forward alone, or all three passes. The padding keeps the size."""
    pad = (kernel - 1) * dilation // 2 if padding is None else padding
    ends = tuple((size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for size in sizes)
    shapes = {
        "x": (count, channels, *sizes),
        "w": (out, channels // groups, *(kernel for _ in sizes)),
        "dy": (count, out, *ends),
    }
    flops = 2 * math.prod(shapes["dy"]) * math.prod(shapes["w"][1:]) * (1 if forward else 3)
    kinds = (("stride", stride), ("dilation", dilation), ("groups", groups))
    options = dict(stride=stride, padding=pad, dilation=dilation, groups=groups)
    words = [f"{out} of {channels} channels", *(f"{kind} {value}" for kind, value in kinds if value != 1)]
    text = f"{' x '.join(map(str, (count, *sizes)))}, kernels of {kernel}, {', '.join(words)}"
    return Workload(name, text, "conv", nothing, shapes, {"trained": not forward, **options}, flops)


def stream(name: str, count: int = 1) -> Workload:
    """The function of 16M floats; `count` such arrays go in."""
    shapes = {f"x{k}": (4096, 4096) for k in range(count)}
    return Workload(f"{name}-16M", f"{name} of 4096 x 4096", "stream", nothing, shapes, {"function": name})


SIZES = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
TINY = dict(layers=4, width=128, heads=4, context=64, symbols=65)
SMALL = dict(layers=6, width=384, heads=6, context=256, symbols=65)

# fmt: off
STEPS = [  # forward, backward and update
    Workload("softmax",   "784-10, batch 100, SGD, a fresh numpy batch every step",         "softmax",  digits(100, onehot=True), {"zeros": (784, 10)}),
    Workload("mlp",       "784-512-512-10, batch 128, Adam",                                "mlp",      digits(128)),
    Workload("lenet",     "28x28x1, 5x5 convs 32 and 64, dense 1024, batch 64, Adam",       "lenet",    digits(64, (1, 28, 28))),
    Workload("resnet18",  "32x32x3, batch 32, SGD with momentum, batch norm",               "resnet18", photos(32, 32)),
    Workload("unet",      "64x64x3, 4 levels from 32 channels, batch 4, Adam",              "unet",     scenes(4, 64)),
    Workload("lstm",      "2 layers x 256, embedding 128, 96 symbols, batch 32, 64 steps, Adam", "lstm", text(32, 64, 96)),
    Workload("gpt-tiny",  "4 layers x 128, 4 heads, context 64, batch 12, AdamW",           "gpt",      text(12, 64, 65), settings=TINY),
    Workload("gpt-small", "6 layers x 384, 6 heads, context 256, batch 8, AdamW",           "gpt",      text(8, 256, 65), settings=SMALL),
    Workload("bert",      "4 layers x 256, 128 tokens, batch 16, masked loss, AdamW",       "bert",     sentences(16, 128, 1024)),
    Workload("moe",       "4 layers x 256, 8 experts, top-2 router, 128 tokens, batch 8, AdamW", "moe", text(8, 128, 65)),
    Workload("dit",       "32x32x4, patch 2, 6 layers x 256, batch 8, AdamW",               "dit",      diffusion(8, 4, 32)),
]
SQUARES = [square(side) for side in SIZES]
PRODUCTS = [
    product("tall",              (16384, 64), (64, 64)),
    product("tall-512",          (8192, 512), (512, 64)),
    product("wide",              (64, 64), (64, 16384)),
    product("wide-512",          (64, 512), (512, 8192)),
    product("deep",              (64, 16384), (16384, 64)),
    product("few-rows",          (4, 2048), (2048, 2048)),
    product("matrix-vector",     (2048, 2048), (2048, 1)),
    product("vector-matrix",     (1, 2048), (2048, 2048)),
    product("batched-32",        (256, 32, 32), (256, 32, 32)),
    product("batched-128",       (48, 128, 128), (48, 128, 128)),
    product("batched-64-by-16",  (96, 256, 64), (96, 64, 256)),
    product("turned-left",       (768, 512), (768, 512), "a"),
    product("turned-right",      (512, 768), (512, 768), "b"),
    product("turned-both",       (768, 512), (512, 768), "ab"),
    product("turned-batched",    (48, 128, 64), (48, 128, 64), "b"),
]
CONVS = [  # forward alone of some, all three passes of all; the names begin with the kernel's size
    conv("1x1-forward",      8,  64,  64, 1, 32, 32, forward=True),
    conv("3x3-forward",      8,  64,  64, 3, 32, 32, forward=True),
    conv("7x7-forward",      8,   3,  64, 7, 64, 64, forward=True, stride=2),
    conv("3x3-of-3",         8,   3,  64, 3, 32, 32),
    conv("1x1",              8,  64,  64, 1, 32, 32),
    conv("1x1-256",          8, 256, 256, 1, 16, 16),
    conv("3x3",              8,  64,  64, 3, 32, 32),
    conv("3x3-128",          8, 128, 128, 3, 16, 16),
    conv("3x3-256",          8, 256, 256, 3,  8,  8),
    conv("3x3-512",          8, 512, 512, 3,  4,  4),
    conv("5x5",              8,  64,  64, 5, 16, 16),
    conv("7x7",              4,  64,  64, 7, 16, 16),
    conv("1x1-strided",      8,  64, 128, 1, 32, 32, stride=2),
    conv("3x3-strided",      8,  64, 128, 3, 32, 32, stride=2),
    conv("4x4-patches",      8,  64, 128, 4, 32, 32, stride=4, padding=0),
    conv("3x3-dilated",      8,  64,  64, 3, 32, 32, dilation=2),
    conv("3x3-grouped",      8, 128, 128, 3, 32, 32, groups=4),
    conv("3x3-depthwise",    8, 128, 128, 3, 32, 32, groups=128),
    conv("3-line",           8,  64,  64, 3, 1024),
    conv("5-line-dilated",   8,  64,  64, 5, 1024, dilation=4),
    conv("3-line-depthwise", 8, 128, 128, 3, 1024, groups=128),
    conv("3x3x3",            2,  64,  64, 3, 8, 16, 16),
    conv("3x3x3-of-16",      2,  16,  16, 3, 16, 16, 16),
    conv("3x3x3-strided",    2,  32,  64, 3, 16, 16, 16, stride=2),
    conv("3x3x3-depthwise",  2,  64,  64, 3, 16, 16, 16, groups=64),
]
STREAMS = [stream("copy"), stream("softmax"), stream("layer_norm"), stream("gelu"), stream("adam", 2)]
INFERENCE = [
    Workload("resnet18-1",  "resnet18, 1 image, evaluation",                  "resnet18", lambda r: photos(1, 32)(r)[:1],  way="inference"),
    Workload("resnet18-32", "resnet18, 32 images, evaluation",                "resnet18", lambda r: photos(32, 32)(r)[:1], way="inference"),
    Workload("gpt-token",   "gpt-small, one symbol, those before it are kept", "gpt_token", lambda r: text(1, 1, 65)(r)[:1], settings=SMALL, way="inference"),
]
OVERHEAD = [
    Workload("no-op",  "a run of nothing",                              "no_op",  nothing,    {}),
    Workload("one-op", "x + 1 of one fed number",                       "one_op", normal(),   {}),
    Workload("tiny",   "1,000 operations on 16 numbers, one by one",    "tiny",   normal(16), {"a": (1, 16)}),
]
# fmt: on

KERNELS = {"squares": SQUARES, "products": PRODUCTS, "convs": CONVS, "streams": STREAMS}
GROUPS = {**{w.name: [w] for w in STEPS}, "inference": INFERENCE, **KERNELS, "overhead": OVERHEAD}
SEVERAL = {"kernels": list(KERNELS)}  # names of several groups
TABLE = {w.name: w for group in GROUPS.values() for w in group}
