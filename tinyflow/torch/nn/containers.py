"""Modules that hold modules: Sequential, ModuleList, ModuleDict, and lists of parameters."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tinyflow.torch.nn.module import Module, Parameter


def place(index: Any, count: int) -> int:
    i = operator.index(index)
    if not -count <= i < count:
        raise IndexError(f"index {i} is out of range")
    return i % count


class Holder(Module):
    """What holds modules, or parameters: `_held` is theirs."""

    @property
    def _held(self) -> dict[str, Any]:
        return self._modules

    def __len__(self) -> int:
        return len(self._held)


class Numbered(Holder):
    """By number."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held.values())


class Named(Holder):
    """By name."""

    def _put(self, key: str, value: Any) -> None:
        self.add_module(key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def __getitem__(self, key: str) -> Any:
        return self._held[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._put(key, value)

    def __delitem__(self, key: str) -> None:
        del self._held[key]

    def keys(self) -> Any:
        return self._held.keys()

    def values(self) -> Any:
        return self._held.values()

    def items(self) -> Any:
        return self._held.items()

    def pop(self, key: str) -> Any:
        return self._held.pop(key)

    def clear(self) -> None:
        self._held.clear()

    def update(self, held: Any) -> None:
        for name, value in held.items() if isinstance(held, Mapping) else held:
            self[name] = value


class Sequential(Numbered):
    """Modules called one after the other."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        items = (
            args[0].items()
            if len(args) == 1 and isinstance(args[0], OrderedDict)
            else ((str(i), m) for i, m in enumerate(args))
        )
        for name, module in items:
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return list(self._modules.values())[place(index, len(self))]

    def __setitem__(self, index: int, module: Module) -> None:
        self._modules[list(self._modules)[place(index, len(self))]] = module

    def append(self, module: Module) -> Sequential:
        self.add_module(str(len(self)), module)
        return self

    def extend(self, sequential: Iterable[Module]) -> Sequential:
        for module in sequential:
            self.append(module)
        return self


class ModuleList(Numbered):
    """A list of modules."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or [])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return self._modules[str(place(index, len(self)))]

    def __setitem__(self, index: int, module: Module) -> None:
        self._modules[str(place(index, len(self)))] = module

    def append(self, module: Module) -> ModuleList:
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        held = list(self)
        held.insert(index, module)
        for i, m in enumerate(held):
            self._modules[str(i)] = m

    def __repr__(self) -> str:
        """Equal neighbours are shown once: (0-2): 3 x Linear(...)"""
        runs: list[tuple[int, int, str]] = []
        for i, m in enumerate(self):
            text = repr(m)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        if not runs:
            return "ModuleList()"
        lines = [
            (f"({a}): {t}" if a == b else f"({a}-{b}): {b - a + 1} x {t}").replace("\n", "\n  ") for a, b, t in runs
        ]
        return "ModuleList(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Named):
    """Modules by name."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})


def as_parameter(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)


class ParameterList(Numbered):
    """A list of parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or [])

    @property
    def _held(self) -> dict[str, Any]:
        return self._parameters

    def append(self, value: Any) -> ParameterList:
        self.register_parameter(str(len(self)), as_parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        for v in values:
            self.append(v)
        return self

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._parameters[str(place(index, len(self)))]

    def __setitem__(self, index: int, value: Any) -> None:
        self.register_parameter(str(place(index, len(self))), as_parameter(value))

    def extra_repr(self) -> str:
        return "\n".join(
            f"  ({k}): Parameter containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]"
            for k, p in self._parameters.items()
        )


class ParameterDict(Named):
    """Parameters by name."""

    def __init__(self, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.update(parameters or {})

    @property
    def _held(self) -> dict[str, Any]:
        return self._parameters

    def _put(self, key: str, value: Any) -> None:
        self.register_parameter(key, as_parameter(value))
