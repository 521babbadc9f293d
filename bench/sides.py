"""The sides of a comparison: who runs a program, one row each, and how a program's file becomes a step.

    side := Side(name, family, module, compiled, ours, needs, install)

The sides of one family run the same file; all that differs is the module that its import names. A program that has no
`make(weights)` of its own, which gives its step, is trained as its family's training.py says, or asked as its inference.py does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from bench.workloads import Shapes, Workload, weights_of

PROGRAMS = Path(__file__).parent / "programs"
Step = Callable[..., Any]


class Side(NamedTuple):
    name: str
    family: str  # a folder of programs/
    module: str  # what stands in the place of the family's import
    compiled: bool  # the step is run under torch.compile
    ours: bool
    needs: tuple[str, ...]  # modules without which it does not run
    install: str
    ways: Mapping[
        str, str
    ] = {}  # the ways of a workload that it knows, and the family's files for them; none: all, as they are called


HERE = "it comes with tinyflow"
# fmt: off
#         name                 family   module                    compiled ours   needs                             install
SIDES = [
    Side("tinyflow session",  "tf1",   "tinyflow",                False, True,  ("tinyflow",),                      HERE),
    Side("tinyflow",          "torch", "tinyflow.torch",          False, True,  ("tinyflow.torch",),                HERE),
    Side("tinyflow compiled", "torch", "tinyflow.torch",          True,  True,  ("tinyflow.torch", "tinyflow.jit"), HERE),
    Side("torch",             "torch", "torch",                   False, False, ("torch",),                         "pip install 'torch==2.13.0' --index-url https://download.pytorch.org/whl/cpu"),
    Side("torch.compile",     "torch", "torch",                   True,  False, ("torch",),                         "pip install torch, as above; it needs a C++ compiler too"),
    Side("jax",               "jax",   "jax",                     False, False, ("jax",),                           "pip install jax"),
    Side("tensorflow 1",      "tf1",   "tensorflow.compat.v1",    False, False, ("tensorflow.compat.v1",),          "pip install tensorflow-cpu"),
    Side("onnxruntime",       "torch", "torch",                   False, False, ("onnxruntime", "torch"),           "pip install onnxruntime onnx, beside torch", {"inference": "exported"}),
    Side("numpy",             "numpy", "numpy",                   False, False, ("numpy",),                         "pip install numpy"),
]
IMPORTS = {  # the line that a family's files have, and the name that it gives the module
    "torch": ("import torch",                      "torch"),
    "tf1":   ("import tensorflow.compat.v1 as tf", "tf"),
    "jax":   ("import jax",                        "jax"),
    "numpy": ("import numpy as np",                "np"),
}
# fmt: on

BY_NAME = {side.name: side for side in SIDES}


class Missing(Exception):
    """A side that cannot run here, and what would mend that."""


def program_of(side: Side, program: str) -> Path:
    return PROGRAMS / side.family / f"{program}.py"


def way_of(side: Side, row: Workload) -> str:
    """The file that makes the step of a program with only a model; empty if the side does not go this way."""
    return side.ways.get(row.way, "") if side.ways else row.way


def sides_of(row: Workload) -> list[Side]:
    """Who has the row's program, and what makes its step."""
    return [side for side in SIDES if runs(side, row)]


def runs(side: Side, row: Workload) -> bool:
    path, way = program_of(side, row.program), way_of(side, row)
    if not path.exists() or not way:
        return False
    return "\ndef make(" in path.read_text(encoding="utf-8") or program_of(side, way).exists()


def require(side: Side) -> None:
    """Import what the side needs, or raise Missing."""
    for name in side.needs:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing = error.name or name
            if name.startswith(missing) or missing.startswith(name):
                raise Missing(f"{missing} is not installed: {side.install}") from None
            raise


def load(side: Side, program: str) -> ModuleType:
    """The program's module, with the side's module in the place of the one that its file imports."""
    path = program_of(side, program)
    text = path.read_text(encoding="utf-8")
    line, name = IMPORTS[side.family]
    head, found, tail = text.partition(f"\n{line}\n")
    if not found:
        raise ValueError(f"{path} does not have the line {line!r}")
    module = ModuleType(f"{program} by {side.name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # torch.compile looks for a function's module by its name
    exec(compile(f"{head}\nimport {side.module} as {name}\n{tail}", str(path), "exec"), module.__dict__)
    return module


def shapes_of(row: Workload) -> Shapes:
    """The shapes of the weights, by name: the row's, or those of the model of its PyTorch program."""
    if row.shapes is not None:
        return row.shapes
    model = load(BY_NAME["tinyflow"], row.program).model(**row.settings)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def step_of(side: Side, row: Workload, shapes: Shapes | None = None) -> Step:
    """The step of the row's program as this side runs it."""
    program, weights = load(side, row.program), weights_of(shapes_of(row) if shapes is None else shapes)
    step: Step
    if hasattr(program, "make"):
        step = program.make(list(weights.values()), **row.settings)
    else:
        step = load(side, way_of(side, row)).make(program, weights, row.settings)
    if side.compiled:
        step = importlib.import_module(side.module).compile(step)
    return step
