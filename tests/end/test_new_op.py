"""Adding an op is adding a row: it then works in all three styles, with gradient, native code and the tests of the tables."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = """
    from tinyflow.core.expr import apply
    from tinyflow.ops import elementwise as e

    def times(a, b):
        return apply("mul", a, b)

    cube = e.unary("cube", lambda x: x * x * x, lambda x: times(x, times(x, x)), lambda g, y, x: g * x * x * 3.0)
    twice = e.binary("add_twice", lambda a, b: a + 2 * b, lambda a, b: apply("add", a, apply("add", b, b)), lambda g, y, a, b: (g, g * 2.0))
"""
USE = """
    import numpy as np
    import tinyflow as tf
    import tinyflow.torch as torch

    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.cube(x)
    assert y.op.type == "Cube"
    value, slope = tf.Session().run([y, tf.gradients(y, [x])[0]], {x: [2.0, 3.0]})
    assert value.tolist() == [8.0, 27.0] and slope.tolist() == [12.0, 27.0]
    assert tf.Session().run(tf.add_twice(x, 1.0), {x: [2.0, 3.0]}).tolist() == [4.0, 5.0]

    t = torch.tensor([2.0, 3.0], requires_grad=True)
    (torch.cube(t) + t.cube()).sum().backward()
    assert t.grad.tolist() == [24.0, 54.0]
    assert torch.add_twice(torch.tensor([1.0]), 3).tolist() == [7.0]

    compiled = torch.compile(lambda t: torch.cube(t) * 2)
    assert compiled(torch.tensor([2.0])).tolist() == [16.0]
"""


def python(text):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=300, env=env
    )


def test_a_row_is_enough_for_all_styles():
    done = python(ROW + USE)
    assert done.returncode == 0, done.stderr


def test_its_tests_come_with_it_and_find_a_wrong_gradient(tmp_path):
    """The tables' own tests, run with a row more, right and wrong."""
    tests = "tests/graph/test_rows.py"
    for slope, passes in (("3.0", True), ("3.1", False)):
        plugin = tmp_path / f"row_{slope[-1]}.py"
        plugin.write_text(textwrap.dedent(ROW.replace("* 3.0", f"* {slope}")))
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            plugin.stem,
            "-k",
            "cube",
            tests,
            "-p",
            "no:cacheprovider",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, cwd=ROOT)
        assert (done.returncode == 0) == passes, done.stdout[-3000:]
        assert "cube" in done.stdout or passes
