"""How a tensor prints: numbers in columns of one width, long ones summarised.

Floats that are all whole print as `1.`; others with four decimals; where the largest is beyond a thousand times the
smallest, or out of [1e-4, 1e8], with an exponent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyflow.core.dtypes import bool_, int64
from tinyflow.torch.dtypes import FACE, Defaults
from tinyflow.torch.tensor import Tensor, dtype_of

OPTIONS: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:  # fmt: skip
    """How tensors print: decimals, from how many elements on and to how many at each edge they are summarised, width."""
    if profile is not None:
        OPTIONS.update(PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    OPTIONS.update({k: v for k, v in given.items() if v is not None}, sci_mode=sci_mode)


Format = Callable[[Any], str]


def number_format(shown: np.ndarray) -> Format:
    """The text of one number, in the width that all need; of floats, those that are finite and not zero count."""
    kind = shown.dtype.kind
    text = float_text(shown) if kind == "f" else (lambda v: str(bool(v))) if kind == "b" else (lambda v: str(int(v)))
    counted = shown[np.isfinite(shown) & (shown != 0)] if kind == "f" else shown
    width = max((len(text(v)) for v in counted.flat), default=1)
    return lambda v: text(v).rjust(width)


def float_text(shown: np.ndarray) -> Format:
    precision = OPTIONS["precision"]
    finite = shown[np.isfinite(shown) & (shown != 0)].astype(np.float64)
    size = np.abs(finite)
    whole = bool(np.all(finite == np.ceil(finite)))
    low, high = (float(size.min()), float(size.max())) if size.size else (1.0, 1.0)
    exponent = high / low > 1000.0 or high > 1.0e8 or (low < 1.0e-4 and not whole) if size.size else False
    if OPTIONS["sci_mode"] is not None:
        exponent = OPTIONS["sci_mode"]
    if exponent:
        return lambda v: f"{v:.{precision}e}"
    if whole:
        return lambda v: f"{v:.0f}." if math.isfinite(v) else f"{v:.0f}"
    return lambda v: f"{v:.{precision}f}"


def vector_text(a: np.ndarray, indent: int, fmt: Format, summarise: bool) -> str:
    """One row, broken into lines of the line width."""
    edge = OPTIONS["edgeitems"]
    width = len(fmt(a[0])) if a.size else 0
    if summarise and not edge:
        words = ["..."]
    elif summarise and len(a) > 2 * edge:
        words = [*map(fmt, a[:edge]), " ...", *map(fmt, a[-edge:])]
    else:
        words = [*map(fmt, a)]
    per_line = max(1, math.floor((OPTIONS["linewidth"] - indent) / (width + 2)))
    lines = [words[i : i + per_line] for i in range(0, len(words), per_line)] or [[]]
    return "[" + ("," + "\n" + " " * (indent + 1)).join(", ".join(line) for line in lines) + "]"


def array_text(a: np.ndarray, indent: int, fmt: Format, summarise: bool) -> str:
    if a.ndim == 0:
        return fmt(a[()])
    if a.ndim == 1:
        return vector_text(a, indent, fmt, summarise)
    edge = OPTIONS["edgeitems"]
    if summarise and len(a) > 2 * edge:
        rows = [array_text(r, indent + 1, fmt, True) for r in (*a[:edge], *a[-edge:])]
        rows.insert(edge, "...")
    else:
        rows = [array_text(r, indent + 1, fmt, summarise) for r in a]
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def corners(a: np.ndarray) -> np.ndarray:
    """The elements that a summary shows."""
    edge = OPTIONS["edgeitems"]
    for d, n in enumerate(a.shape):
        if n > 2 * edge:
            a = np.take(a, [*range(edge), *range(n - edge, n)], axis=d)
    return a


def tensor_text(t: Tensor) -> str:
    """tensor([[1., 2.],\\n        [3., 4.]], grad_fn=<MulBackward0>)"""
    name = "Parameter containing:\n" if type(t).__name__ == "Parameter" else ""
    head = "tensor("
    d = dtype_of(t)
    a = t._array().astype(d.computed.numpy) if d.is_low else t._array()
    suffixes = []
    if a.size == 0:
        body = "[]"
        if a.ndim != 1:
            suffixes.append(f"size={tuple(a.shape)}")
        if d is not Defaults.dtype:
            suffixes.append(f"dtype={FACE[d]!r}")
    else:
        summarise = a.size > OPTIONS["threshold"]
        body = array_text(a, len(head), number_format(corners(a) if summarise else a), summarise)
        if d not in (Defaults.dtype, int64, bool_):
            suffixes.append(f"dtype={FACE[d]!r}")
    if t.requires_grad:
        suffixes.append(f"grad_fn=<{t._fn or 'ViewBackward0'}>" if not t.is_leaf else "requires_grad=True")
    return name + add_suffixes(head + body, suffixes, len(head), t)


def add_suffixes(text: str, suffixes: list[str], indent: int, t: Tensor) -> str:
    """What follows the numbers goes on a new line when the last one is full."""
    length = len(text) - text.rfind("\n") + 1
    for s in suffixes:
        if length + len(s) + 2 > OPTIONS["linewidth"]:
            text += ",\n" + " " * indent + s
            length = indent + len(s)
        else:
            text += ", " + s
            length += len(s) + 2
    return text + ")"
