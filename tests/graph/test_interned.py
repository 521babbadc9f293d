"""Equal things are one object as long as anybody holds it, and are forgotten then."""

from __future__ import annotations

from tinyflow.core.interned import Interned


class Thing:
    """What can be referred to weakly."""


def test_the_first_of_equal_things_is_kept():
    table: Interned[Thing] = Interned()
    first, second = Thing(), Thing()
    assert table.get("key") is None
    assert table.keep("key", first) is first
    assert table.keep("key", second) is first
    assert table.get("key") is first


def test_a_thing_that_nobody_holds_is_forgotten():
    table: Interned[Thing] = Interned()
    held = table.keep("held", Thing())
    table.keep("dropped", Thing())
    assert table.get("dropped") is None
    assert len(table) == 1
    assert table.get("held") is held


def test_the_end_of_a_thing_does_not_touch_the_one_after_it():
    table: Interned[Thing] = Interned()
    old = Thing()
    table.keep("key", old)
    entry = table.entries.pop("key")
    new = table.keep("key", Thing())
    del old
    table.forget(entry)
    assert table.get("key") is new
