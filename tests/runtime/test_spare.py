"""Spare arrays: handed on once, and not for long."""

import numpy as np

from tinyflow.runtime.spare import LEAST, Spare

SHAPE, KIND = (LEAST // 4,), np.dtype(np.float32)


def test_an_array_is_taken_once() -> None:
    spare, a = Spare(), np.ones(SHAPE, KIND)
    spare.give(a)
    assert spare.take(SHAPE, KIND) is a
    assert spare.take(SHAPE, KIND) is not a


def test_only_what_fits_is_taken() -> None:
    spare, a = Spare(), np.ones(SHAPE, KIND)
    spare.give(a)
    assert spare.take((*SHAPE, 1), KIND) is not a
    assert spare.take(SHAPE, np.dtype(np.int32)) is not a
    assert spare.take(SHAPE, KIND) is a


def test_parts_of_arrays_are_not_kept() -> None:
    spare, a = Spare(), np.ones((2, *SHAPE), KIND)
    for part in (a[0], a.T, a.view()):
        spare.give(part)
    a.flags.writeable = False
    spare.give(a)
    assert not spare.now


def test_two_runs_later_it_is_gone() -> None:
    spare, a = Spare(), np.ones(SHAPE, KIND)
    spare.give(a)
    spare.turn()
    spare.turn()
    assert spare.take(SHAPE, KIND) is not a
    spare.give(a)
    spare.turn()
    assert spare.take(SHAPE, KIND) is a
