"""No program touches memory outside its arrays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiler.native import needs_avx2

ROOT = Path(__file__).parent.parent.parent


def guarded(*command, **flags):
    """A process of its own, because a program that does touch what it must not ends it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **flags}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected as Linux does it")
@pytest.mark.parametrize(
    "flags", [{}, pytest.param({"TINYFLOW_TARGET": "avx2"}, marks=needs_avx2)], ids=["this machine", "avx2"]
)
def test_no_memory_outside_is_touched(flags):
    child = guarded("-m", "tests.compiler.guarded", *(["rows"] if flags else []), **flags)
    last = child.stdout.splitlines()[-1:] or ["nothing"]
    assert last == ["done"], f"{last[0]} ended the process with {child.returncode}: {child.stderr[-3000:]}"
