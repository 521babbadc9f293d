"""Spare memory: handed on once, when nobody has a part of it, and not for long."""

import gc

import numpy as np
import pytest

import tinyflow.torch as torch
from tinyflow.runtime.memory import ALIGN
from tinyflow.runtime.spare import LEAST, SPARE, Spare, maker, owns

SHAPE, KIND = (LEAST // 4,), np.dtype(np.float32)


def place(a: np.ndarray) -> int:
    return int(a.ctypes.data)


def test_memory_is_taken_once() -> None:
    spare = Spare()
    where = place(spare.take(SHAPE, KIND))
    first, second = spare.take(SHAPE, KIND), spare.take(SHAPE, KIND)
    assert place(first) == where != place(second)


def test_only_what_fits_is_taken() -> None:
    spare = Spare()
    where = place(spare.take(SHAPE, KIND))
    assert place(longer := spare.take((*SHAPE, 2), KIND)) != where
    assert place(other := spare.take((4, LEAST // 16), np.dtype(np.int32))) == where
    assert longer.shape == (*SHAPE, 2) and other.dtype == np.int32


def test_a_part_keeps_the_whole() -> None:
    spare = Spare()
    whole = spare.take((2, *SHAPE), KIND)
    whole[...] = 1
    part = whole[1].T.reshape(4, -1)[2:].view(np.int32)
    del whole
    other = spare.take((2, *SHAPE), KIND)
    other[...] = 2
    assert not np.shares_memory(part, other) and (part.view(np.float32) == 1).all()
    del part
    assert sum(map(len, spare.now.values())) == 1


def test_two_runs_later_it_is_gone() -> None:
    spare = Spare()
    del (a := [spare.take(SHAPE, KIND)])[0]
    spare.turn()
    assert spare.before and not a
    spare.turn()
    assert not spare.before and not spare.now


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "uint8", "bool", "float16", "bfloat16"])
def test_arrays_are_like_any(kind: str) -> None:
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    dtype = np.dtype(kind)
    for shape in ((3, 5), (LEAST,), (2, 0, 3), ()):
        a = SPARE.take(shape, dtype)
        assert a.shape == shape and a.dtype == dtype and a.flags.carray and place(a) % ALIGN == 0
        a[...] = 1
        assert (a == 1).all()


def test_who_owns_its_memory() -> None:
    a = np.ones(SHAPE, KIND)
    b = SPARE.take(SHAPE, KIND)
    assert owns(a) and owns(b) and not owns(a[1:]) and not owns(b[1:])
    assert maker((10,), KIND) is np.empty and maker(SHAPE, KIND) == SPARE.take


def test_a_result_that_is_gone_makes_room_for_the_next() -> None:
    x = torch.ones(LEAST)
    places = set()
    for _ in range(5):
        places.add(place((x + 1).numpy()))
        gc.collect()
    kept = (x + 1).numpy()
    again = (x + 1).numpy()
    assert len(places) == 1 and not np.shares_memory(kept, again) and (kept == 2).all()
