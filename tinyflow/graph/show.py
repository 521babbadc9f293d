"""show: a graph as text. A listing has one line a node; equations write what some nodes compute as a mathematician would.

listing  := ("%"number op operand* attribute* dtype shape where)*        operand := "%"number
equation := name "=" formula
formula  := name | number | formula sign formula | op "(" formula*, attribute* ")"
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tinyflow.core.dtypes import DType
from tinyflow.graph.node import Node, shape_text, toposort

SHOWN_BESIDE = (
    "dtype",
    "shape",
    "number",
)  # attributes that say what the dtype and shape say, or only tell leaves apart


def show(roots: Iterable[Node]) -> str:
    """One line a node, numbered from 0, inputs before users: op, inputs, attributes, type and shape, the user's line."""
    order = toposort(roots)
    number = {node: f"%{k}" for k, node in enumerate(order)}
    rows = [row(node, number) for node in order]
    widths = [max((len(r[c]) for r in rows), default=0) for c in range(5)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, [*widths, 0], strict=True)).rstrip() for r in rows)


def row(node: Node, number: Mapping[Node, str]) -> tuple[str, ...]:
    operands = " ".join(number[x] for x in node.inputs)
    typed = f"{node.dtype} {shape_text(node.shape)}"
    return number[node], node.op.name, operands, attributes(node), typed, place(node)


def place(node: Node) -> str:
    """The file's own name and the line: what fits into a listing."""
    return f"{os.path.basename(node.where.file)}:{node.where.line}"


# ------------------------------------------------------------------------------------------ attributes


def attributes(node: Node) -> str:
    """The attributes that matter, short: `axes=1`, `ij,jk->ik`, `x`, `0.5`."""
    return " ".join(
        attribute(k, v) for k, v in node.attrs.items() if k not in SHOWN_BESIDE or (k == "dtype" and node.inputs)
    )


def attribute(name: str, value: Any) -> str:
    """The value alone where it tells its own name; else name=value."""
    alone = name in ("name", "value", "spec", "dtype", "shape", "order")
    if name == "axes" and len(value) == 1:
        (value,) = value
    return short(value) if alone else f"{name}={short(value)}"


def short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"({', '.join(map(short, value))}{',' * (len(value) == 1)})"
    return str(value)  # an index expression, a type and a contraction's spec know how they read


# ------------------------------------------------------------------------------------------ formulas

# fmt: off
#            op        written   binds
INFIX = {"add":      (" + ",    1),
         "sub":      (" - ",    1),
         "mul":      (" * ",    2),
         "div":      (" / ",    2),
         "floordiv": (" // ",   2),
         "mod":      (" % ",    2),
         "pow":      (" ** ",   4),
         "less":     (" < ",    0),
         "less_equal": (" <= ", 0),
         "equal":    (" == ",   0),
         "not_equal": (" != ",  0)}
# fmt: on
MINUS, CALL, NAME = 3, 8, 9  # how tightly a leading minus, a call and a name bind


def equations(results: Mapping[str, Node], names: Mapping[Node, str]) -> list[str]:
    """One equation a result, in terms of the named nodes: `dx = g * (1 - y * y)`. What is used twice gets a line of its own.

    Stretching is left unsaid, as numpy does.
    """
    order = toposort(results.values(), stop=names.__contains__)
    uses = Counter(x for node in order if node not in names for x in node.inputs)
    letters = (a for a in "tuvwpqrs" if a not in names.values())
    text: dict[Node, tuple[str, int]] = {}
    lines = []
    for node in order:
        text[node] = (names[node], NAME) if node in names else written(node, [text[x] for x in node.inputs])
        if uses[node] > 1 and text[node][1] < NAME:
            letter = next(letters, f"t{node.uid}")
            lines.append(f"{letter} = {text[node][0]}")
            text[node] = letter, NAME
    return [*lines, *(f"{name} = {text[node][0]}" for name, node in results.items())]


def written(node: Node, inputs: list[tuple[str, int]]) -> tuple[str, int]:
    """A node's text, and how tightly it binds."""
    name = node.op.name
    if name in INFIX:
        sign, binds = INFIX[name]
        left, right = wrapped(*inputs[0], binds + (name == "pow")), wrapped(*inputs[1], binds + 1)
        return left + sign + right, binds
    if name == "neg":
        return "-" + wrapped(*inputs[0], MINUS), MINUS
    if name == "expand":
        return inputs[0]
    if name == "constant":
        return constant_text(node.attrs["value"], node.dtype), NAME
    if not node.inputs:
        return node.label, NAME
    said = [attribute(k, v) for k, v in node.attrs.items()]
    return f"{name}({', '.join([*(t for t, _ in inputs), *said])})", CALL


def wrapped(text: str, binds: int, least: int) -> str:
    return text if binds >= least else f"({text})"


def constant_text(value: Any, dtype: DType) -> str:
    """A whole number without its point; the well-known infinities by name."""
    if dtype.is_floating and math.isfinite(value) and value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return short(value)
