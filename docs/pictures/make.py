"""Draws step.svg: the lecture's training step as it is written, after the passes, and as the kernels it is compiled to.

python docs/pictures/make.py
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import tinyflow as tf
from tinyflow.core.config import config
from tinyflow.graph.node import toposort
from tinyflow.tools.picture import Box, Panel, Wire, code, drawn, panel, picture
from tinyflow.tools.view import view

HERE = Path(__file__).parent
WIDTH = 62  # characters of a line of loops


def program() -> Any:
    """The graph of README's first program, with names."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 784], name="x")
        W = tf.Variable(tf.zeros([784, 10]), name="W")
        y = tf.nn.softmax(tf.matmul(x, W))
        y_ = tf.placeholder(tf.float32, [None, 10], name="y_")
        cross_entropy = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), reduction_indices=[1]))
        W_grad = tf.gradients(cross_entropy, [W])[0]
        tf.assign(W, W - 0.5 * W_grad)
    return graph


def kernels(items: list[dict[str, Any]], stage: dict[str, Any]) -> Panel:
    """The graph of kernels: each one box."""
    boxes: dict[Any, Box] = {}
    wires: list[Wire] = []
    home: dict[int, Any] = {i: i for i in stage["items"]}
    home |= {i: kernel["name"] for kernel in stage["kernels"] for i in kernel["stores"]}
    inside = {i for kernel in stage["kernels"] for i in kernel["items"]}
    for i in stage["items"]:
        if i not in inside and items[i]["kind"] != "result":
            boxes[i] = Box(items[i]["name"], "", (items[i]["op"],), items[i]["kind"])
    for kernel in stage["kernels"]:
        names = [items[i]["op"] for i in kernel["items"] if items[i]["kind"] not in ("movement", "leaf")]
        boxes[kernel["name"]] = Box(
            kernel["name"].split()[0], "", textwrap.wrap("\N{NO-BREAK SPACE}· ".join(names), 26), "kernel"
        )
        needed = {x for i in kernel["items"] for x in items[i]["inputs"]} - set(kernel["items"])
        wires += [Wire(home[x], kernel["name"]) for x in sorted(needed)]
    for i in stage["items"]:
        if items[i]["kind"] == "result":
            boxes[i] = Box(items[i]["name"], "", (items[i]["op"],), "result")
            wires.append(Wire(home[items[i]["inputs"][0]], i))
    return drawn(boxes, list(dict.fromkeys(wires)), boxes, f"as compiled: {len(stage['kernels'])} kernels")


def loops(items: list[dict[str, Any]], stage: dict[str, Any]) -> Panel:
    """The loops of the kernels; a buffer is called after its op, and the batch's size n."""
    text = "\n\n".join(kernel["loops"] for kernel in stage["kernels"])
    taken: set[str] = set()
    for i in stage["items"]:
        label = items[i].get("label", "")
        if label and re.search(rf"\b{label}\b", text):
            name = next(n for n in (items[i]["op"], *(f"{items[i]['op']}_{k}" for k in range(2, 99))) if n not in taken)
            taken.add(name)
            text = re.sub(rf"\b{label}\b", items[i]["name"] or name, text)
    text = re.sub(r"\bn\d+\b", "n", text)
    lines = [part for line in text.splitlines() for part in wrapped(line)]
    return code("\n".join(lines), "their loops")


def wrapped(line: str) -> list[str]:
    depth = len(line) - len(line.lstrip())
    return textwrap.wrap(
        line,
        WIDTH,
        initial_indent="",
        subsequent_indent=" " * (depth + 4),
        drop_whitespace=True,
        break_on_hyphens=False,
    ) or [""]


def main() -> None:
    graph = program()
    with config(TARGET="avx512"):  # the same picture on every machine
        data = view(graph)
    stage = data["runs"][0]["stages"][-1]
    assign = graph.get_operation_by_name("Assign")
    panels = [
        panel(
            graph,
            title="as written, with what tf.gradients adds",
            unfold=[o for o in graph.get_operations() if o.type == "SymbolicGradient"],
            movement=False,
        ),
        kernels(data["items"], stage),
        loops(data["items"], stage),
    ]
    out = HERE / "step.svg"
    out.write_text(picture(panels), encoding="utf-8")
    print(
        f"{out.name}: {len(graph.get_operations())} operations, {len(toposort([assign.node]))} nodes, {len(stage['kernels'])} kernels"
    )


if __name__ == "__main__":
    main()
