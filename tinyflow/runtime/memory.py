"""memory: lifetimes to offsets in one arena.

plan([Life(size, first, last)]) -> offsets, total         buffers whose lives meet do not overlap
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ALIGN = 64  # a cache line, and the widest vector


class Life(NamedTuple):
    size: int  # bytes
    first: int  # the step that writes it
    last: int  # the last step that reads it


def aligned(size: int) -> int:
    return -(-max(size, 1) // ALIGN) * ALIGN


def busiest(lives: Mapping[int, Life]) -> list[int]:
    """Those in use at the step where most bytes are."""
    steps = {life.first for life in lives.values()}
    at = max(steps, key=lambda k: sum(x.size for x in lives.values() if x.first <= k <= x.last), default=0)
    return [k for k, life in lives.items() if life.first <= at <= life.last]


def plan(lives: Sequence[Life]) -> tuple[list[int], int]:
    """Largest first, each at the lowest offset that is free throughout its life."""
    offsets = [0] * len(lives)
    placed: list[tuple[int, int, int, int]] = []  # start, end, and the life there: first, last; by start
    total = 0
    for k in sorted(range(len(lives)), key=lambda k: (-lives[k].size, lives[k].first)):
        (size, first, last), at = lives[k], 0
        size = aligned(size)
        for start, end, begins, ends in placed:
            if begins <= last and ends >= first:
                if at + size <= start:
                    break
                if end > at:
                    at = end
        offsets[k] = at
        insort(placed, (at, at + size, first, last))
        total = max(total, at + size)
    return offsets, total
