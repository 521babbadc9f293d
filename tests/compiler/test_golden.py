"""The loops that canonical graphs become, word for word. `pytest --update-golden` writes them anew: read the difference."""

import re
from pathlib import Path

import pytest

from tests.compiler.test_control import cond
from tests.compiler.test_fusion import adam
from tinyflow.compiler import loops
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32, int32, int64
from tinyflow.core.expr import dim
from tinyflow.graph.op import TABLE
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.contraction import convolution, matmul
from tinyflow.ops.indexing import gather, scatter_add
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.movement import concat, pad, permute
from tinyflow.ops.reduction import argmax, mean, sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients

GOLDEN = Path(__file__).parent / "golden"
NUMBERED = re.compile(rf"\b({'|'.join(map(re.escape, TABLE))})(\d+)\b")
N = dim("n")  # a size known when running


def x(*shape, name="x", dtype=float32):
    return placeholder(dtype, shape, name)


def w(*shape, name="W"):
    return variable(float32, shape, name)


# ------------------------------------------------------------------------------------------ graphs: results, changes


def slide():
    return [x(N, name="a") * x(N, name="b") + 3.0], {}


def softmax():
    return [f.softmax(x(N, 10))], {}


def lecture_step():
    images, labels, weights = x(N, 784), x(N, 10, name="y_"), w(784, 10)
    y = f.softmax(matmul(images, weights))
    loss = mean(-sum_(labels * e.log(y), 1))
    (g,) = gradients([loss], [weights])
    return [], {weights: weights - g * 0.5}


def mlp_layer():
    return [e.relu(matmul(x(N, 784), w(784, 256)) + w(256, name="b"))], {}


def layer_norm():
    return [f.layer_norm(x(N, 64), w(64, name="gain"), w(64, name="bias"), (1,))], {}


def cross_entropy_gradient():
    logits, labels = x(N, 10, name="logits"), x(N, dtype=int64, name="labels")
    loss = mean(f.sparse_cross_entropy(logits, labels))
    return [loss, *gradients([loss], [logits])], {}


def conv_bias_relu():
    image, kernel = x(N, 28, 28, 1, name="image"), w(3, 3, 1, 32, name="kernel")
    return [e.relu(convolution(image, kernel, (1, 1), (1, 1), (28, 28), (1, 1)) + w(32, name="b"))], {}


def adam_update():
    p, m, v = w(256, 10), w(256, 10, name="m"), w(256, 10, name="v")
    return [], dict(zip((p, m, v), adam(p, x(256, 10, name="g"), m, v), strict=True))


def condition():
    a, b, c = x(), x(name="y"), x(N, name="z")
    return [cond(e.less(a, b), lambda c: c + 1.0, lambda c: e.exp(c), c)], {}


def gather_rows():
    table, index = w(1000, 64, name="table"), x(N, dtype=int32, name="index")
    rows = gather(table, index)
    return [rows * 2.0], {table: table - scatter_add(rows, index, 1000) * 0.1}


def accuracy():
    y, labels = x(N, 10, name="y"), x(N, 10, name="labels")
    return [mean(e.cast(e.equal(argmax(y, 1), argmax(labels, 1)), float32))], {}


def concat_and_pad():
    a, b = x(N, 8, name="a"), x(N, 5, name="b")
    return [e.exp(concat([a, b * 2.0], 1)), pad(permute(a, (1, 0)), (0, 1), (0, 2))], {}


def row_and_column_sums():
    a = x(N, 100, name="a")
    return [sum_(a, 1), sum_(a, 0), a / sum_(a)], {}


GRAPHS = [
    slide, softmax, lecture_step, mlp_layer, layer_norm, cross_entropy_gradient, conv_bias_relu, adam_update, condition,
    gather_rows, accuracy, concat_and_pad, row_and_column_sums,
]  # fmt: skip


def text(graph, target="avx512"):
    """The loops of every kernel, in order. Nodes are numbered as they appear, for their own numbers tell what was made before."""
    results, changes = graph()
    nodes = pipeline.run([*results, *changes.values()])
    with config(TARGET=target):
        made = build(nodes[: len(results)], dict(zip(changes, nodes[len(results) :], strict=True)))
    numbers: dict[str, int] = {}
    shown = "\n\n".join(loops.show(k) for k in made.kernels) + "\n"
    return NUMBERED.sub(lambda m: f"{m[1]}{numbers.setdefault(m[0], len(numbers) + 1)}", shown)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda g: g.__name__)
def test_loops(graph, request):
    path = GOLDEN / f"{graph.__name__}.txt"
    got = text(graph)
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(got)
    assert path.exists(), "no golden loops yet: run pytest --update-golden"
    assert got == path.read_text()


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda g: g.__name__)
def test_loops_are_the_same_every_time(graph):
    assert text(graph) == text(graph)


def test_there_is_no_golden_text_without_a_graph():
    assert {p.stem for p in GOLDEN.glob("*.txt")} == {g.__name__ for g in GRAPHS}


def test_passes_are_as_few_as_they_should_be():
    """What the design promises, in numbers of kernels: a product packs its right operand, by itself or within."""
    kernels = {g.__name__: len(text(g).split("\n\n")) for g in GRAPHS}
    assert {n: kernels[n] for n in ("slide", "softmax", "layer_norm", "adam_update", "mlp_layer", "conv_bias_relu")} == {
        "slide": 1, "softmax": 1, "layer_norm": 1, "adam_update": 1, "mlp_layer": 1, "conv_bias_relu": 1,
    }  # fmt: skip
    assert kernels["lecture_step"] <= 5


def test_equal_kernels_are_one_text():
    """Layers of one form share their code: the text has no names of the graph."""
    a, b = (e.tanh(matmul(x(N, 64), w(64, 64)) + w(64, name=f"bias_{k}")) for k in range(2))
    made = build(pipeline.run([a, b]), {})
    texts = [c.text for c in made.codes]
    assert len(texts) == 2 and len(set(texts)) == 1
    assert not any(re.search(r"tanh\d|contract\d|bias", t) for t in texts)
