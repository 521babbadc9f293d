"""Random training steps, with in-place changes, aliases and what is kept in between: compiled ones do what plain ones do."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyflow import torch

OPS = ("torch.tanh({a}) + b", "{a} * B", "torch.relu({a} - {other} * 0.5)", "{a} + W.sum()", "torch.sigmoid({a}) * W.detach().mean()")  # fmt: skip
CHANGES = ("B.mul_(0.9).add_({a}.detach().mean(0), alpha=0.1)", "count.add_(1)", "B[0] += 1.0")
CLEARS = ("opt.zero_grad()", "opt.zero_grad(set_to_none=False)", "W.grad = None", "pass")
BETWEEN = ("W.grad.mul_(0.5)", "b.add_(B, alpha=0.01)", "W.clamp_(-2.0, 2.0)", "b.copy_(b * 0.99)", "W.data[0] *= 0.5")
RESULTS = (
    "loss",
    "loss.detach()",
    "(loss, W.grad)",
    "(loss, h0)",
    "W.detach()",
    "loss.item()",
    "(loss, b.data)",
    "{a}",
)
OPTIMISERS = ("SGD", "Adam", "AdamW", "RMSprop")


def program(r: random.Random) -> str:
    lines, names = ["h0 = torch.from_numpy(x) @ W"], ["h0"]
    for k in range(1, r.randint(2, 5)):
        lines.append(f"h{k} = " + r.choice(OPS).format(a=r.choice(names), other=r.choice(names)))
        names.append(f"h{k}")
        lines += [r.choice(CHANGES).format(a=names[-1])] * (r.random() < 0.2)
    lines.append(f"loss = {names[-1]}.square().mean() + {r.choice(names)}.mean()")
    lines.insert(r.randint(0, len(lines)), r.choice(CLEARS))
    lines.append("loss.backward()")
    lines += ["n = torch.nn.utils.clip_grad_norm_([W, b], 0.5)"] * (r.random() < 0.3)
    lines += ["with torch.no_grad():", "    " + r.choice(BETWEEN)] * (r.random() < 0.3)
    lines += ["opt.step()"] * (r.random() < 0.85)
    lines += ["B.copy_(W.detach()[0])"] * (r.random() < 0.2)
    lines += ["opt.zero_grad()"] * (r.random() < 0.2)
    lines.append("return " + r.choice(RESULTS).format(a=names[-1]))
    return "def step(x):\n" + "".join(f"    {line}\n" for line in lines)


def flat(v: Any) -> list[Any]:
    if isinstance(v, tuple | list):
        return [a for part in v for a in flat(part)]
    return [v.tolist() if hasattr(v, "tolist") else v]


def run(path: Path, seed: int, compiled: bool) -> list[Any]:
    rng, r = np.random.default_rng(seed), random.Random(seed)
    W, b = (torch.tensor(rng.normal(size=s).astype("float32"), requires_grad=True) for s in ((4, 3), (3,)))
    B, count = torch.tensor(rng.normal(size=3).astype("float32")), torch.tensor(0)
    opt = getattr(torch.optim, r.choice(OPTIMISERS))([W, b], lr=0.05)
    scope = {"torch": torch, "W": W, "b": b, "B": B, "count": count, "opt": opt}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    step: Any = torch.compile(scope["step"]) if compiled else scope["step"]
    found, kept = [], []
    for k in range(6):
        try:
            v = step(rng.normal(size=(5, 4)).astype("float32"))
        except (RuntimeError, AttributeError) as e:
            found.append(type(e))
            continue
        found += flat(v) if r.random() < 0.5 else []
        kept += [x for x in (v, W.grad, W.detach()) if r.random() < 0.3]
        found += flat(kept) if r.random() < 0.2 else []
        if k == 3:
            opt.param_groups[0]["lr"] = 0.01
    states = [[s[name] for name in sorted(s)] for s in opt.state.values()]
    return [*found, *flat([*kept, W, b, B, count, W.grad, b.grad, *states])]


@pytest.mark.parametrize("seed", range(12))
def test_same_as_plain(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "step.py"
    path.write_text(program(random.Random(seed)))
    plain, compiled = run(path, seed, False), run(path, seed, True)
    assert len(plain) == len(compiled)
    for want, got in zip(plain, compiled, strict=True):
        assert repr(got) == repr(want), path.read_text()
