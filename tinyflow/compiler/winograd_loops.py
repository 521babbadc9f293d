"""The loops of filters by Winograd's minimal filtering."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.kernel import share, store_all, work
from tinyflow.compiler.loops import Kernel, Store
from tinyflow.compiler.phrases import add, call_tile, const, div, greatest, least, less, mul, pointer, sub, when
from tinyflow.compiler.winograd import Filtering, Learning, Products, Sharing
from tinyflow.compiler.winograd_reading import apart
from tinyflow.compiler.writer import Value
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Index_


def emit_filtering(em: Emitter, kernel: Kernel, t: Filtering) -> Index_:
    """Block by block of each group: tiles are transformed; for each panel, the products, and what is made of them."""
    em.lanes = t.like.lanes
    if t.packing is not None:
        em.alone = True
        work(em, t.packing)
        em.alone = False
    tiles, channels, _ = t.sizes
    count = -(-tiles // t.block)
    line, deep = apart(t.block * channels), apart(channels * t.width)
    with share(em, t.groups * count) as task:
        em.env[t.group], block = (
            div(em, task, const(count)),
            em.op("urem {t} {0}, {1}", [task, const(count)]),
        )
        start, end = cut(em, const(tiles), const(count), block)
        size = sub(em, end, start)
        transform_image(em, t, start, size, const(0), const(channels))
        with em.loop(t.panel, "0", str(t.panels)):
            panel = add(em, mul(em, em.env[t.group], const(t.panels)), em.env[t.panel])
            filters = mul(em, panel, const(t.count * deep))
            multiply(em, kernel, t, start, size, (const(0), line), filters)
        del em.env[t.group]
    return t.groups * count


def emit_sharing(em: Emitter, kernel: Kernel, t: Sharing) -> Index_:
    """Panel by panel of each group: the filter is transformed, then multiplied with block after block of tiles."""
    em.lanes = t.like.lanes
    tiles, channels, _ = t.sizes
    count, line = -(-tiles // t.block), apart(tiles * channels)
    lane = t.transformed[0].inner[0]
    with share(em, t.groups * t.panels) as task:
        em.env[t.group], em.env[t.panel] = (
            div(em, task, const(t.panels)),
            em.op("urem {t} {0}, {1}", [task, const(t.panels)]),
        )
        with em.loop(t.channel):
            em.hoist_all([s.value for s in t.transformed], lane)
            em.in_lanes(lane, "0", str(t.width), lambda: store_all(em, t.transformed), t.width)
        with em.counting("0", str(count)) as block:
            start, end = cut(em, const(tiles), const(count), block)
            first = add(em, mul(em, em.env[t.group], const(t.count * line)), mul(em, start, const(channels)))
            multiply(em, kernel, t, start, sub(em, end, start), (first, line), const(0))
        del em.env[t.group], em.env[t.panel]
    return t.groups * t.panels


def multiply(
    em: Emitter,
    kernel: Kernel,
    t: Filtering | Sharing,
    start: Value,
    size: Value,
    image: tuple[Value, int],
    filters: Value,
) -> None:
    """A block of tiles times a panel, and what is made of that. The tiles' transforms begin somewhere and lie so far apart."""
    tiles, channels, _ = t.sizes
    count, deep, (first, line) = -(-tiles // t.block), apart(channels * t.width), image
    parts = -(-t.block // t.like.rows)  # micro-kernels, one under the other
    heights = tuple(
        sorted({h for n in {tiles // count, t.block} for h in (n // parts, -(-n // parts)) if h}, reverse=True)
    )
    with em.counting("0", str(t.count)) as q, em.counting("0", str(parts)) as part:
        low, high = cut(em, size, const(parts), part)
        a = at(em, t, t.tiles, add(em, first, add(em, mul(em, q, const(line)), mul(em, low, const(channels)))))
        b = at(em, t, t.filter, add(em, filters, mul(em, q, const(deep))))
        c = at(em, t, t.products, mul(em, add(em, mul(em, q, const(t.block)), low), const(t.width)))
        args = [str(channels), a, str(channels), "1", b, c, str(t.width), "true"]
        call_tile(em, heights, t.like, sub(em, high, low), args)
    with em.counting("0", size.name) as i:
        em.env[t.tile], em.env[t.local] = add(em, start, i), i
        finish(em, kernel, t)
        del em.env[t.tile], em.env[t.local]


def emit_learning(em: Emitter, kernel: Kernel, t: Learning) -> Index_:
    """Each thread has some of the channels: block by block, tiles of both operands are transformed and multiplied."""
    em.lanes = t.like.lanes
    tiles, channels, _ = t.sizes
    rows, tall = t.part.extent, t.row.extent
    assert isinstance(rows, int) and isinstance(tall, int)
    heights = tuple(dict.fromkeys((tall, channels // rows)))
    line, across = apart(t.block * channels), apart(t.panels * t.block * t.width)
    threads, tid = Value("%nthreads", int64, False), Value("%tid", int64, False)
    begin, stop = cut(em, const(t.groups * rows), threads, tid)
    for_groups = [div(em, n, const(rows)) for n in (begin, add(em, stop, const(rows - 1)))]
    with em.loop(t.group, *(n.name for n in for_groups)), em.counting("0", str(tiles), t.block) as start:
        before = mul(em, em.env[t.group], const(rows))
        low, high = greatest(em, sub(em, begin, before), const(0)), least(em, sub(em, stop, before), const(rows))
        first, _ = cut(em, const(channels), const(rows), low)
        end, _ = cut(em, const(channels), const(rows), high)
        size = least(em, const(t.block), sub(em, const(tiles), start))
        begins = em.op("icmp eq {t} {0}, {1}", [start, const(0)], bool_)
        ends = em.op("icmp eq {t} {0}, {1}", [add(em, start, size), const(tiles)], bool_)
        transform_image(em, t, start, size, first, end)
        with em.loop(t.panel, "0", str(t.panels)):
            transform(em, t, t.results, start, size, const(0), const(t.width))
        with em.loop(t.part, low.name, high.name), em.loop(t.panel, "0", str(t.panels)):
            row, after = cut(em, const(channels), const(rows), em.env[t.part])
            height = sub(em, after, row)
            chunk = const(0)
            if not t.whole:
                chunk = add(em, mul(em, add(em, before, em.env[t.part]), const(t.panels)), em.env[t.panel])
                chunk = mul(em, chunk, const(t.count))
            with em.counting("0", str(t.count)) as q:
                a = at(em, t, t.tiles, add(em, mul(em, q, const(line)), row))
                panel = mul(em, em.env[t.panel], const(t.block * t.width))
                b = at(em, t, t.right, add(em, mul(em, q, const(across)), panel))
                c = at(em, t, t.sums, mul(em, add(em, chunk, q), const(tall * t.width)))
                args = [size.name, a, "1", str(channels), b, c, str(t.width), begins.name]
                call_tile(em, heights, t.like, height, args)
            with when(em, ends), em.loop(t.row, "0", height.name):
                em.env[t.channel] = add(em, row, em.env[t.row])
                finish(em, kernel, t)
                del em.env[t.channel]
    return t.groups * rows


def transform_image(em: Emitter, t: Products, start: Value, size: Value, low: Value, high: Value) -> None:
    """Channels from low to high of each tile of a block."""
    each = t.last.extent
    assert isinstance(each, int)
    if t.beside.extent == 1:
        em.env[t.beside] = const(0)
        transform(em, t, t.image, start, size, low, high)
        del em.env[t.beside]
        return
    ends = (
        div(em, low, const(each)),
        div(em, add(em, high, const(each - 1)), const(each)),
    )
    with em.loop(t.beside, *(n.name for n in ends)):
        before = mul(em, em.env[t.beside], const(each))
        here = greatest(em, sub(em, low, before), const(0)), least(em, sub(em, high, before), const(each))
        transform(em, t, t.image, start, size, *here)


def transform(em: Emitter, t: Products, stores: Sequence[Store], start: Value, size: Value, low: Value, high: Value) -> None:  # fmt: skip
    """The values of each tile of a block; channels or columns from low to high in lanes."""
    (lane,) = stores[0].inner
    known = int(high.name) - int(low.name) if "%" not in high.name + low.name else None
    with em.counting("0", size.name) as i:
        em.env[t.tile], em.env[t.local] = add(em, start, i), i
        em.hoist_all([s.value for s in stores], lane)
        em.in_lanes(lane, low.name, high.name, lambda: store_all(em, stores), known)
        del em.env[t.tile], em.env[t.local]


def finish(em: Emitter, kernel: Kernel, t: Products) -> None:
    """What is made of the products, for the columns of a panel."""
    columns = t.sizes[2]
    low = mul(em, em.env[t.panel], const(t.width))
    high = least(em, add(em, low, const(t.width)), const(columns))
    em.hoist_all([s.value for s in kernel.stores], t.column)

    def places() -> None:
        for tests, stores in t.places(kernel):
            with ExitStack() as inside:
                for test in tests:
                    inside.enter_context(when(em, em.value(test)))
                store_all(em, stores)

    em.in_lanes(t.column, low.name, high.name, places, t.width if columns % t.width == 0 else None)


def cut(em: Emitter, n: Value, count: Value, k: Value) -> tuple[Value, Value]:
    """(start, end) of the k-th of `count` parts of n, whose lengths differ by one at most, the longer ones first."""
    base, rest = div(em, n, count), em.op("urem {t} {0}, {1}", [n, count])
    start = add(em, mul(em, k, base), least(em, k, rest))
    longer = less(em, k, rest)
    return start, add(em, start, em.choose(longer, add(em, base, const(1)), base))


def at(em: Emitter, t: Products, scratch: object, offset: Value) -> str:
    return pointer(em, scratch, offset, t.like.dtype.llvm)
