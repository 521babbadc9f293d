"""What programs pass to a session about devices and tracing: accepted, and without effect."""

from __future__ import annotations

from typing import Any


class Options:
    """Named settings; one that was not given is a set of settings of its own."""

    def __init__(self, *given: Any, **settings: Any) -> None:
        self.__dict__.update(settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        made = self.__dict__[name] = Options()
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


class ConfigProto(Options):
    """allow_soft_placement, gpu_options and the like."""


class GPUOptions(Options):
    """allow_growth, per_process_gpu_memory_fraction and the like."""


class GraphOptions(Options):
    pass


class OptimizerOptions(Options):
    L0, L1, ON_1, ON_2, OFF = 0, 1, 1, 2, -1


class RunOptions(Options):
    """How to run; FULL_TRACE and the like."""

    NO_TRACE, SOFTWARE_TRACE, HARDWARE_TRACE, FULL_TRACE = 0, 1, 2, 3


class RunMetadata(Options):
    """What a traced run would tell."""
