"""How rows are cut into tiles, and what is summed over into blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tinyflow.core import expr
from tinyflow.core.expr import Index, Index_

K_BLOCK = 384  # a panel of so many rows and a tile of A stay in the first cache


def ceil_div(n: Index_, by: int) -> Index_:
    return expr.floordiv(n + (by - 1), by)


def whole_vectors(n: int, lanes: int) -> int:
    return -(-n // lanes) * lanes


def heights(m: Index_, most: int) -> tuple[int, ...]:
    """The tile heights for m rows: two that differ by one where m is known, else halves."""
    if isinstance(m, int):
        tiles = -(-m // most)
        return tuple(sorted({-(-m // tiles), m // tiles}, reverse=True))
    halves = [most]
    step = 1 << (most - 1).bit_length() - 1
    while step:
        halves.append(step)
        step //= 2
    return tuple(dict.fromkeys(halves))


def halves(m: Index_, most: int) -> tuple[int, ...]:
    """The heights that m rows are cut into, if the greatest that fits is taken each time."""
    assert isinstance(m, int)
    halved = [most >> k for k in range(most.bit_length())]
    return tuple(h for h in halved if (h == most and m >= h) or (h < most and m % most & h))


class Blocks(NamedTuple):
    """How K is cut: letters before `split` one value at a time, that letter by `step`, the `inner` values after it whole."""

    split: int
    step: int
    inner: int

    @property
    def most(self) -> int:
        return self.step * self.inner

    def one(self, k: Sequence[Index]) -> bool:
        """Whether all of K is one block."""
        first = k[0].extent
        return self.split == 0 and isinstance(first, int) and first <= self.step


def blocks_of(k: Sequence[Index], first: int = 0) -> Blocks:
    """Blocks of about one size, of at most K_BLOCK values. Only letters after the `first` one are taken whole."""
    split, inner = len(k) - 1, 1
    while split > first and isinstance(n := k[split].extent, int) and n * inner <= K_BLOCK:
        split, inner = split - 1, n * inner
    n, step = k[split].extent, max(K_BLOCK // inner, 1)
    return Blocks(split, -(-n // -(-n // step)) if isinstance(n, int) else step, inner)


def term_block(depth: int, row: int, room: int, lanes: int) -> int:
    """Terms of a block, whole vectors: blocks of about one size, so that a panel's rows of some bytes each fit the room."""
    count = -(-depth * row // room)
    return whole_vectors(-(-depth // count), lanes)
