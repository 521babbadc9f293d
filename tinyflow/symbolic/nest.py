"""Nested structures: lists, tuples, namedtuples and dicts with values at their leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def is_sequence(structure: Any) -> bool:
    """Whether something is a nesting rather than a leaf."""
    return isinstance(structure, list | tuple | Mapping)


def children(structure: Any) -> list[Any]:
    return [structure[k] for k in structure] if isinstance(structure, Mapping) else list(structure)


def flatten(structure: Any) -> list[Any]:
    """The leaves, from left to right."""
    return [leaf for c in children(structure) for leaf in flatten(c)] if is_sequence(structure) else [structure]


def pack(structure: Any, leaves: Sequence[Any]) -> Any:
    """The leaves in the form of a structure."""
    remaining = iter(leaves)
    packed = rebuild(structure, remaining)
    if next(remaining, remaining) is not remaining:
        raise ValueError(f"more leaves than {structure!r} has")
    return packed


def rebuild(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, Mapping):
        return type(structure)((k, rebuild(v, leaves)) for k, v in structure.items())
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(rebuild(v, leaves) for v in structure))
    if isinstance(structure, list | tuple):
        return type(structure)(rebuild(v, leaves) for v in structure)
    return next(leaves)


def map_structure(fn: Any, *structures: Any) -> Any:
    """fn over the leaves of structures of one form."""
    return pack(structures[0], [fn(*xs) for xs in zip(*(flatten(s) for s in structures), strict=True)])


def assert_same_structure(a: Any, b: Any) -> None:
    """ValueError unless both have one form."""
    if is_sequence(a) != is_sequence(b) or (is_sequence(a) and len(a) != len(b)):
        raise ValueError(f"{a!r} and {b!r} have different structures")
    if is_sequence(a):
        for x, y in zip(children(a), children(b), strict=True):
            assert_same_structure(x, y)
