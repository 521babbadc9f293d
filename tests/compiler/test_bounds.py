"""No program touches memory outside its arrays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected as Linux does it")
def test_no_memory_outside_is_touched():
    """A process of its own, because a program that does touch some ends it."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.compiler.guarded"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    last = child.stdout.splitlines()[-1:] or ["nothing"]
    assert last == ["done"], f"{last[0]} ended the process with {child.returncode}: {child.stderr[-3000:]}"
