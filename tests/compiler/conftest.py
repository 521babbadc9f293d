from collections.abc import Iterator

import pytest

from tinyflow import programs
from tinyflow.runtime import items


@pytest.fixture(scope="module", autouse=True)
def small_steps_are_shared() -> Iterator[None]:
    """Steps that are too small to be worth several threads get them all the same: so threads are tested on small arrays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "SMALL", 0)
        programs._programs.clear()
        yield
    programs._programs.clear()
