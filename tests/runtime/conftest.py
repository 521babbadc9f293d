from collections.abc import Iterator
from pathlib import Path

import pytest

from tinyflow.core.config import config
from tinyflow.runtime import machine


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and nothing in memory."""
    monkeypatch.setattr(machine, "MEMORY", {})
    with config(CACHE=str(tmp_path / "cache")):
        yield tmp_path / "cache" / "kernels"
