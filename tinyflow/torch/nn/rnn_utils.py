"""torch.nn.utils.rnn: sequences of different lengths side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyflow.torch.functions import FUNCTIONS
from tinyflow.torch.nn.functional import TABLE


def pad_sequence(sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0) -> Any:
    """Sequences (length, ...) filled up to the longest: (longest, batch, ...), or (batch, longest, ...)."""
    longest = max(s.shape[0] for s in sequences)
    same = [
        TABLE["pad"](s, [0, 0] * (s.ndim - 1) + [0, longest - s.shape[0]], "constant", padding_value) for s in sequences
    ]
    return FUNCTIONS["stack"](same, 0 if batch_first else 1)
