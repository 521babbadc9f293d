"""functions: the kernels of a program, as texts that become addresses of machine code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pickle import PicklingError

from tinyflow.core.errors import CompileError
from tinyflow.runtime import machine


class Functions:
    """The kernels of a program, compiled together when the first address is asked for; their texts are let go then."""

    def __init__(self, texts: Sequence[str], names: Sequence[str]) -> None:
        self.texts, self.names = list(texts), names

    @cached_property
    def addresses(self) -> list[int]:
        unique = dict(zip(self.texts, self.names, strict=True))
        try:
            libraries = machine.compile_many(list(unique.items()))
        except (machine.IRError, RuntimeError) as error:
            raise CompileError(str(error)) from error
        found = {text: library.address("kernel") for text, library in zip(unique, libraries, strict=True)}
        addresses = [found[text] for text in self.texts]
        self.texts.clear()
        return addresses

    def __getstate__(self) -> dict[str, object]:
        """The texts, for another process: addresses are of this one."""
        if not self.texts and self.names:
            raise PicklingError("the texts are let go")
        return {"texts": self.texts, "names": self.names}

    def address(self, k: int) -> int:
        return self.addresses[k]

    def at(self, k: int) -> Callable[[], int]:
        return partial(self.address, k)
