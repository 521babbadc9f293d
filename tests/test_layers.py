"""Imports point one way only: a layer imports itself and those that its row names."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tinyflow"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

DOWN_TO_PASSES = {"core", "graph", "ops", "passes"}
ENGINE = DOWN_TO_PASSES | {"compiler", "runtime", "programs", "execute"}
FACES = ENGINE | {"symbolic", "torch", "jit"}
FACE = ""  # `import tinyflow`: the symbolic face, which stands on everything

# fmt: off
MAY_IMPORT = {
    "core":        set(),
    "graph":       {"core"},
    "ops":         {"core", "graph"},
    "passes":      {"core", "graph", "ops"},
    "runtime":     {"core"},
    "compiler":    DOWN_TO_PASSES | {"runtime"},
    "programs":    DOWN_TO_PASSES | {"runtime", "compiler"},
    "execute":     DOWN_TO_PASSES | {"runtime", "compiler", "programs"},
    "symbolic":    ENGINE,
    "torch":       ENGINE,
    "jit":         ENGINE | {"torch"},
    "models":      FACES,
    "datasets":    FACES | {"models"},
    "distributed": FACES | {"models", "datasets"},
    "formats":     FACES | {"models", "datasets"},
    "examples":    FACES | {"datasets", "examples", FACE},
    "tools":       FACES | {"models", "datasets", "distributed", "formats", FACE},
    FACE:          FACES | {"models", "datasets", "distributed", "formats", "tools", "examples"},
}
LATE = {("torch", "jit"), ("symbolic", "tools")}  # inside a function: torch.compile and graph.show hand over to a layer above
ONLY_IN = {  # what the machine and the outside world are reached by, and the one place that does
    "llvmlite":  {"runtime/machine.py"},
    "threading": {"core/threads.py"},
    "mpi4py":    {"runtime/mpi.py"},
    "ml_dtypes": {"core/dtypes.py"},  # an extra
}
# fmt: on
WITH_PYTHON = sys.stdlib_module_names | {"numpy"}


def layer(name: str) -> str:
    """The layer of a file (`core/expr.py`) or of a module (`tinyflow.core.expr`)."""
    first = name.removeprefix("tinyflow.").replace("/", ".").split(".")[0]
    return FACE if first in ("tinyflow", "__init__", "__main__") else first


def imports(tree: ast.AST, late: bool = False) -> Iterator[tuple[int, str, bool]]:
    """(line, module, whether it is inside a function) of every import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level, late
        elif isinstance(node, ast.ImportFrom) and node.module == "tinyflow":
            yield from ((node.lineno, f"tinyflow.{alias.name}", late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "", late
        else:
            yield from imports(node, late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def faults(file: str, source: str) -> list[str]:
    """What is wrong with the imports of a file of the package."""
    here, found = layer(file), []
    if here not in MAY_IMPORT:
        return [f"{file}: {here} is not a layer; give it a row in MAY_IMPORT"]
    for line, module, late in imports(ast.parse(source)):
        root, target = module.split(".")[0], layer(module)
        if module.startswith("."):
            found.append(f"{file}:{line}: write the absolute name of the module")
        elif root in ONLY_IN:
            if file not in ONLY_IN[root]:
                found.append(f"{file}:{line} imports {root}: only {', '.join(ONLY_IN[root])} may")
        elif root == "tinyflow":
            allowed = {here} | MAY_IMPORT[here] | {up for down, up in LATE if late and down == here}
            if target not in allowed:
                found.append(f"{file}:{line} imports {module}: {here} may import {', '.join(sorted(allowed - {FACE}))}")
        elif root not in WITH_PYTHON:
            found.append(f"{file}:{line} imports {module}: tinyflow needs numpy and llvmlite, nothing else")
    return found


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file: str) -> None:
    assert not faults(file, (PACKAGE / file).read_text(encoding="utf-8"))


# fmt: off
PLANTED = [
    ("core/terms.py",       "import tinyflow.graph.node",                        True),
    ("core/terms.py",       "def f():\n    from tinyflow.graph import node",     True),
    ("core/terms.py",       "from tinyflow import graph",                        True),
    ("core/terms.py",       "import tinyflow as tf",                             True),
    ("graph/node.py",       "from .op import Op",                                True),
    ("graph/node.py",       "from tinyflow.core.expr import Expr",               False),
    ("runtime/store.py",    "import tinyflow.graph.node",                        True),
    ("runtime/store.py",    "from tinyflow.core import config",                  False),
    ("compiler/emit.py",    "import llvmlite.binding",                           True),
    ("runtime/machine.py",  "import llvmlite.binding",                           False),
    ("execute.py",          "from tinyflow.runtime import program",              False),
    ("execute.py",          "import tinyflow.symbolic",                          True),
    ("symbolic/graph.py",   "import threading",                                  True),
    ("symbolic/graph.py",   "import tinyflow.torch",                             True),
    ("torch/__init__.py",   "from tinyflow.jit import compile",                  True),
    ("torch/__init__.py",   "def f():\n    from tinyflow.jit import compile",    False),
    ("tools/cli.py",        "import tinyflow as tf",                             False),
    ("tools/page.py",       "import jinja2",                                     True),
    ("attic/old.py",        "",                                                  True),
    ("__init__.py",         "from tinyflow.symbolic import Session",             False),
]
# fmt: on


@pytest.mark.parametrize("file, source, bad", PLANTED)
def test_the_test_sees_what_is_wrong(file: str, source: str, bad: bool) -> None:
    assert bool(faults(file, source)) == bad
