"""torch.cuda, on a machine where there is none to use."""

from __future__ import annotations

from typing import Any


def is_available() -> bool:
    return False


def device_count() -> int:
    return 0


def manual_seed(seed: int) -> None:
    pass


def manual_seed_all(seed: int) -> None:
    pass


def empty_cache() -> None:
    pass


def synchronize(device: Any = None) -> None:
    pass


def current_device() -> int:
    raise RuntimeError("tinyflow computes on the CPU; there is no CUDA device")
