"""What recipes write again and again: whole numbers, a condition, a place in memory, a call of the micro-kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tinyflow.compiler.emit import Emitter, first_lane
from tinyflow.compiler.microkernel import Tile, tile_declarations, tile_text
from tinyflow.compiler.writer import Value
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Index, Index_


def const(n: int) -> Value:
    return Value(str(n), int64, False)


def index(em: Emitter, e: Index_) -> Value:
    return em.value(e)


def add(em: Emitter, a: Value, b: Value) -> Value:
    return em.op("add {t} {0}, {1}", [a, b])


def sub(em: Emitter, a: Value, b: Value) -> Value:
    return em.op("sub {t} {0}, {1}", [a, b])


def mul(em: Emitter, a: Value, b: Value) -> Value:
    return em.op("mul {t} {0}, {1}", [a, b])


def div(em: Emitter, a: Value, b: Value) -> Value:
    return em.op("udiv {t} {0}, {1}", [a, b])


def least(em: Emitter, a: Value, b: Value) -> Value:
    return em.intrinsic("smin", [a, b], int64)


def greatest(em: Emitter, a: Value, b: Value) -> Value:
    return em.intrinsic("smax", [a, b], int64)


def less(em: Emitter, a: Value, b: Value) -> Value:
    return em.op("icmp slt {t} {0}, {1}", [a, b], bool_)


def pointer(em: Emitter, buffer: object, at: Value, element: str) -> str:
    base = em.buffers.setdefault(buffer, f"%buf{len(em.buffers)}")
    p = em.name("p")
    em.line(f"{p} = getelementptr {element}, ptr {base}, i64 {at.name}")
    return p


def lane_start(em: Emitter, i: Index) -> Value:
    return em.env[first_lane(i)]


@contextmanager
def when(em: Emitter, condition: Value) -> Iterator[None]:
    if condition.name == "true":
        with em.scope():
            yield
        return
    yes, after = em.fresh("yes"), em.fresh("after")
    em.line(f"br i1 {condition.name}, label %{yes}, label %{after}")
    em.label(yes)
    with em.scope():
        yield
    em.line(f"br label %{after}")
    em.label(after)


def call_tile(em: Emitter, heights: Sequence[int], like: Tile, rows: Value, args: Sequence[str]) -> None:
    """The micro-kernel of one of the heights."""
    kinds = ("i64", "ptr", "i64", "i64", "ptr", "ptr", "i64", "i1")
    text = ", ".join(f"{k} {a}" for k, a in zip(kinds, args, strict=True))
    sm, sk = (None if s.startswith("%") else int(s) for s in args[2:4])
    shapes = [like._replace(rows=h, sm=sm, sk=sk) for h in heights]
    for k, shape in enumerate(shapes):
        if shape.across == "rows" and shape.rows < shape.lanes:
            shapes[k] = shape = shape._replace(across="columns")
        em.extra[tile_text(shape, em.target.attributes)] = None
        em.declared.update(dict.fromkeys(tile_declarations(shape)))
    if len(shapes) == 1:
        em.line(f"call void @{shapes[0].name}({text})")
        return
    after = em.fresh("after")
    cases = [em.fresh("case") for _ in shapes]
    em.line(
        f"switch i64 {rows.name}, label %{cases[0]} [ "
        + " ".join(f"i64 {h}, label %{c}" for h, c in zip(heights, cases, strict=True))
        + " ]"
    )
    for shape, case in zip(shapes, cases, strict=True):
        em.label(case)
        em.line(f"call void @{shape.name}({text})")
        em.line(f"br label %{after}")
    em.label(after)
