"""Random functions, written as text: tensors, numbers, lists, prints, branches and loops on data, in-place updates, errors."""

from __future__ import annotations

import random
import textwrap

EXPRESSIONS = [
    "{t} + {t}", "{t} * {s}", "{t} - {s}", "torch.tanh({t})", "{t}.abs() + {s}", "-{t}", "({t} * {t}).sum(0, keepdim=True) + {t}", "helper({t}, {s})",
    "{t}.clone()", "{t}.detach()", "{t}.view(-1).view({t}.shape)", "{t} / ({t}.abs() + 1)", "torch.where({t} > 0, {t}, {s} * {t})", "obj.apply({t})",
    "noisy({t})", "({t} if {n} > 2 else -{t})", "torch.stack([{t}, {t}]).mean(0)", "scale({t})", "items[0] * {s}", "{t}[:1] + {t}", "total + {t}",
]  # fmt: skip
SCALARS = [
    "{n}",
    "2",
    "0.5",
    "({n} + 1)",
    "len(items)",
    "obj.k",
    "K",
    "{t}.shape[0]",
    "({n} % 3)",
    "float({n})",
    "{t}.sum().item() * 0.01",
]
TESTS = [
    "{t}.sum() > 0",
    "{n} > 2",
    "flag",
    "{t}.max() < {t}.sum() and {n} > 0",
    "not flag",
    "obj.k > 3",
    "{t}.mean().item() > 0.1",
    "len(items) < 4",
]
SIMPLE = [
    "{v} = {e}", "{v} = {e}", "{v} = {e}", "{v} += {e}", "{v} *= 0.5", "{v} = {v}.clone(); {v}[0] = {s}", "{m} = {sc}", "{m} += 1", "items.append({e})",
    "print('seen', {m}, round({t}.sum().item(), 3))", "log.append({m})", "obj.k += 1", "obj.last = {t}", "{v}, {w} = {e}, {t}", "total = total + {t}.sum()",
    "count()", "{v} = items[-1] + {t}", "table['k'] = {t}.mean()", "{v} = sum(i.sum() for i in items) + {t}", "{v} = [q * 2 for q in ({t}, {t})][1]",
    "bump()", "{v} = bent({t})", "{v} = keep[0]({t}) if keep else {t}", "keep.append(lambda t, k={m}: t * k + n)", "{v} = net({t}.view(-1)[:3])",
    "{v} = (x @ W).sum(-1, keepdim=True) + {t}", "{v} = torch.zeros({t}.shape[-1]) + {t}", "{v} = nn.functional.dropout({t}, 0.5, training=flag)",
    "with torch.no_grad(): W.mul_(0.5)", "{v} = torch.rand(3) * {t}", "rows = [r.sum() for r in {t}.view(-1, 3)]; total = total + rows[0]", "net.train(not net.training)",
    "{v}.add_({t})", "{v} = items.pop() + {t} if len(items) > 2 else {t}", "assert {n} < 50", "{v} = max({n}, 2) * {t}", "pass", "{m} = int({n} * 2) % 7",
]  # fmt: skip
HEAD = """
import tinyflow.torch as torch
from tinyflow.torch import nn
K = 3
torch.manual_seed(7)
W = torch.randn(3, 3).requires_grad_()
net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.3), nn.Tanh())
log, table = [], {}
class Thing:
    def __init__(self):
        self.k, self.last, self.gain = 1, None, torch.tensor([1.5, -0.5, 2.0])
    def apply(self, t):
        return t * self.gain + self.k
obj = Thing()
calls = 0
def helper(t, s=1.0):
    if s > 1:
        return t * s
    return t + s
def noisy(t):
    log.append(round(float(t.sum()), 2))
    return t * 2
def scale(t):
    if t.sum() > 0:
        return t * 0.5
    return t - 1
def count():
    global calls
    calls += 1
def state():
    return [list(log), dict(table), obj.k, obj.last, calls, W, net.training]
"""
INNER = """keep, bumps = [], 0
def bump():
    nonlocal bumps
    bumps += 1
def bent(t, by=2):
    return t * by + bumps"""


class Writer:
    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def fill(self, template: str) -> str:
        pick = self.r.choice
        while "{" in template:
            for mark, options in (
                ("{e}", EXPRESSIONS),
                ("{sc}", SCALARS),
                ("{s}", SCALARS),
                ("{t}", ["x", "y", "z"]),
                ("{v}", ["x", "y", "z"]),
                ("{w}", ["x", "y"]),
                ("{n}", ["n", "m"]),
                ("{m}", ["m", "n"]),
            ):
                while mark in template:
                    template = template.replace(mark, pick(options), 1)
        return template

    def block(self, depth: int, in_loop: bool = False) -> str:
        return "\n".join(self.statement(depth, in_loop) for _ in range(self.r.randint(1, 4)))

    def statement(self, depth: int, in_loop: bool) -> str:
        kind = self.r.random()
        if depth <= 0 or kind < 0.55:
            return self.fill(self.r.choice(SIMPLE)).replace("; ", "\n")
        body = textwrap.indent(self.block(depth - 1, in_loop or 0.72 <= kind < 0.86), "    ")
        if kind < 0.72:
            other = textwrap.indent(self.block(depth - 1, in_loop), "    ")
            orelse = f"\nelse:\n{other}" if self.r.random() < 0.6 else ""
            return f"if {self.fill(self.r.choice(TESTS))}:\n{body}{orelse}"
        if kind < 0.80:
            return f"for i in range({self.r.choice(['2', 'n % 4', '3'])}):\n{body}"
        if kind < 0.86:
            m = self.r.choice(["", "\n    if w > 1:\n        break"])
            return f"w = 0\nwhile w < 2 and x.abs().sum() < 1e4:\n    w += 1{m}\n{body}"
        if kind < 0.90:
            return f"with torch.no_grad():\n{body}"
        if kind < 0.95:
            caught = textwrap.indent(self.block(depth - 1, in_loop), "    ")
            trouble = self.r.choice(["", "\n    z = z + torch.ones(7)", "\n    raise ValueError(n)"])
            return f"try:\n{body}{trouble}\nexcept (ValueError, RuntimeError):\n{caught}"
        if in_loop and kind < 0.97:
            return self.r.choice(["if {q}:\n    break", "if {q}:\n    continue"]).replace(
                "{q}", self.fill(self.r.choice(TESTS))
            )
        return (
            f"if {self.fill(self.r.choice(TESTS))}:\n    return {self.r.choice(['x', 'y, m', '[x, y, z]', 'z.sum()'])}"
        )

    def function(self) -> str:
        lines = [self.statement(2, False) for _ in range(self.r.randint(3, 8))]
        result = self.r.choice(
            [
                "x, y, z, n, m",
                "x * 2 + y, items",
                "{'x': x, 'm': m, 'total': total}",
                "helper(z, n), total",
                "x, bumps, keep and keep[-1](y)",
                "bent(x), bumps",
            ]
        )
        body = [
            "z = x + y",
            "items = [x * 2]",
            "total = torch.zeros(3)",
            "m = 1",
            *INNER.splitlines(),
            *lines,
            f"return {result}",
        ]
        return "def f(x, y, n, flag=False):\n" + textwrap.indent("\n".join(body), "    ")


def source(seed: int) -> str:
    """The text of a module with a random function f, what it uses, and state() that says what it changed."""
    return HEAD + Writer(seed).function() + "\n"
