"""No program touches memory outside its arrays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyflow.runtime import target

ROOT = Path(__file__).parent.parent.parent


def guarded(*command, **flags):
    """A process of its own, because a program that does touch what it must not ends it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **flags}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected as Linux does it")
@pytest.mark.parametrize(
    "flags, cases", [({}, []), ({"TINYFLOW_TARGET": "avx2"}, ["rows"])], ids=["this machine", "avx2"]
)
def test_no_memory_outside_is_touched(flags, cases):
    if flags and not target.runs_here(target.named("avx2")):
        pytest.skip("this machine cannot run AVX2 code")
    child = guarded("-m", "tests.compiler.guarded", *cases, **flags)
    last = child.stdout.splitlines()[-1:] or ["nothing"]
    assert last == ["done"], f"{last[0]} ended the process with {child.returncode}: {child.stderr[-3000:]}"
