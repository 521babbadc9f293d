"""The lecture's programs under torch.compile run as a script, and print what they claim."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_example_runs() -> None:
    script = ROOT / "examples" / "lecture" / "jit.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT,
        env={**__import__("os").environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "tensor([2.])" in done.stdout
    assert "1, 2, 3, 7, 64 and 1000 took 2 compilations" in done.stdout
    assert "t1 = piece_2(h)" in done.stdout and "argument x is an int equal to 1" not in done.stdout
    assert "cut at line" in done.stdout
