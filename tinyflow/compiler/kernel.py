"""kernel: the frame of a kernel's text, and its passes over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyflow.compiler import vecmath
from tinyflow.compiler.emit import BLOCK, Code, Emitter
from tinyflow.compiler.loops import Kernel, Store, folds, free, loads, stride, traffic
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import float32, int64
from tinyflow.core.expr import Apply, Fold, Index, Index_, Load
from tinyflow.runtime.memory import ALIGN, aligned
from tinyflow.runtime.target import Target

WIDE = 4  # vectors of a line of columns that are added up at once
MANY_ROWS = 32  # of fewer, whole lines of columns are read anyway
SIMPLE = 24  # expressions of a value for that
LARGE = 32 << 20  # bytes: the end of so much drives its beginning out of the last cache
LONG = 1 << 12  # bytes of a row for which it is worth to fetch the next one early
METADATA = """!0 = !{!"branch_weights", i32 1, i32 100000}
!1 = !{i32 1}"""


def emit(kernel: Kernel, target: Target) -> Code:
    """The text of a kernel, canonical: kernels of one structure give one text."""
    em = Emitter(target)
    em.checks = list(kernel.checks)
    return finish(em, kernel, work(em, kernel))


def work(em: Emitter, kernel: Kernel) -> Index_:
    """The body of a kernel; returns how many tasks the threads share."""
    return kernel.recipe.emit(em, kernel) if kernel.recipe is not None else passes(em, kernel)


def passes(em: Emitter, kernel: Kernel) -> Index_:
    """The rows, each thread a run of them; a single row long enough is cut into blocks."""
    if adds_up_columns(kernel, WIDE * em.lanes):
        em.lanes *= WIDE
    em.past = frozenset(s.target.key for s in kernel.stores if goes_past(kernel, s, em.lanes))
    em.ahead = next_row(kernel, em.target.l2 // 4)
    em.near_one = sums_near_one(kernel)
    if kernel.rows:
        tasks = expr.product(i.extent for i in kernel.rows)
        with share(em, tasks) as task:
            bind_rows(em, kernel.rows, task)
            row(em, kernel.stores)
        return tasks
    flat = kernel.stores[0].inner[0] if kernel.stores and len(kernel.stores[0].inner) == 1 else None
    if flat is None or any(s.inner != (flat,) for s in kernel.stores):
        with once(em):
            row(em, kernel.stores)
        return 1
    block = block_size(kernel.stores, em.lanes)
    tasks = expr.floordiv(flat.extent + (block - 1), block)
    em.hoist_all([s.value for s in kernel.stores], flat)
    with share(em, tasks) as task:
        low = em.op("mul {t} {0}, {1}", [task, Value(str(block), int64, False)])
        end = em.op("add {t} {0}, {1}", [low, Value(str(block), int64, False)])
        extent = em.value(flat.extent)
        high = em.op("call {t} @llvm.smin.i64({t} {0}, {t} {1})".replace("{t} {1}", "i64 {1}"), [end, extent])
        em.declared["declare i64 @llvm.smin.i64(i64, i64)"] = None
        known = flat.extent if isinstance(flat.extent, int) and flat.extent <= block else None
        known = block if isinstance(flat.extent, int) and flat.extent % block == 0 else known
        em.in_lanes(
            flat, low.name, high.name, lambda: store_all(em, kernel.stores), known, at_once(em, kernel.stores, flat)
        )
    return tasks


def goes_past(kernel: Kernel, s: Store, lanes: int) -> bool:
    """Whether so much is stored that nobody finds it in a cache later, in whole vectors that lie at multiples of their size."""
    lane = s.lanes if kernel.rows or len(s.inner) != 1 else s.inner[0]
    if s.target.home != "own" or lane is None or not is_large(s.offset, s.target.dtype.size):
        return False
    if stride(s.offset, lane) != 1 or any(x.buffer is s.target.node for t in kernel.stores for x in loads(t.value)):
        return False
    return all(c % lanes == 0 for _, c in expr.terms_of(expr.add(s.offset, expr.mul(lane, -1))))


def next_row(kernel: Kernel, most: int) -> dict[Load, int]:
    """Where rows are gone through several times: loads of the last loop, and how many bytes on the same of the next row lies.
    The processor fetches ahead while it meets new memory, which is in the first loop alone."""
    found: dict[object, tuple[Load, int]] = {}
    seen: set[object] = set()
    for s in kernel.stores if kernel.rows else ():
        seen |= {x.buffer for f in folds(s.value) for x in loads(f)}
        for x in loads(s.value):
            again = x.buffer in seen and s.lanes is not None and stride(x.offset, s.lanes) == 1
            if again and is_large(x.offset, x.dtype.size):
                on = stride(x.offset, kernel.rows[-1])
                if isinstance(on, int) and LONG <= on * x.dtype.size <= most:
                    found[x.buffer] = x, on * x.dtype.size
        seen |= {x.buffer for x in loads(s.value)}
    return dict(found.values())


def sums_near_one(kernel: Kernel) -> frozenset[Fold]:
    """Sums along a row of exp(x - max x): one of the terms is 1, and none is more."""
    made = {s.target.key: s for s in kernel.stores if s.lanes is not None and s.offset == s.lanes}

    def term(f: Fold) -> Any:
        """What is added up, as it was computed if it is kept in memory of the row."""
        e: Any = f.body
        if isinstance(e, Load) and e.offset == f.over[0] and e.buffer in made:
            s = made[e.buffer]
            return expr.substitute(s.value, {s.lanes: f.over[0]})
        return e

    def is_share(e: Any, k: Index) -> bool:
        if getattr(e, "fn", "") != "exp" or getattr(e.args[0], "fn", "") != "sub":
            return False
        x, top = e.args[0].args
        if not isinstance(top, Fold) or top.fn != "max" or [i.extent for i in top.over] != [k.extent]:
            return False
        return expr.substitute(top.body, {top.over[0]: k}) is x

    found = dict.fromkeys(f for s in kernel.stores for f in folds(s.value) if f.fn == "add" and len(f.over) == 1)
    return frozenset(f for f in found if is_share(term(f), f.over[0]))


def is_large(offset: Index_, size: int) -> bool:
    count = expr.product(i.extent for i in free(offset))
    return isinstance(count, int) and count * size >= LARGE


def at_once(em: Emitter, stores: Sequence[Store], lane: Index) -> int:
    """How many vectors of a loop are computed at once: while one waits for memory or for a sum, the processor has others to go on
    with. Not where each would take many registers or a register for each element."""
    if not isinstance(lane.extent, int) or lane.extent < WIDE * em.lanes or em.lanes > em.target.lanes(float32):
        return 1
    found = [x for x in expr.walk(*(s.value for s in stores)) if lane in free(x)]
    for x in found:
        if isinstance(x, Fold) or (isinstance(x, Load) and stride(x.offset, lane) != 1):
            return 1
        if isinstance(x, Apply) and any(a.dtype.size > float32.size for a in (x, *x.args) if lane in free(a)):
            return 1
    if any(stride(s.offset, lane) != 1 for s in stores):
        return 1
    return WIDE if len(found) <= SIMPLE else 1


def adds_up_columns(kernel: Kernel, lanes: int) -> bool:
    """Whether the lanes run along the columns of what is folded, simple and long enough to take several vectors of a line at once."""
    for s in kernel.stores:
        found = folds(s.value)
        long = s.lanes is not None and isinstance(s.lanes.extent, int) and s.lanes.extent % lanes == 0
        if not long or not found or len(expr.walk(s.value)) > SIMPLE:
            return False
        lengths = [expr.product(k.extent for k in f.over) for f in found]
        if any(s.lanes not in free(f) for f in found) or any(isinstance(n, int) and n < MANY_ROWS for n in lengths):
            return False
    return bool(kernel.stores)


def block_size(stores: Sequence[Store], lanes: int) -> int:
    """How much of a flat loop is one task: less where an element costs more."""
    from tinyflow.compiler.loops import weight

    cost = max((w if isinstance(w, int) else BLOCK for w in (weight(s.value) for s in stores)), default=1)
    return max(BLOCK // max(cost // 8, 1) // lanes * lanes, lanes)


def bind_rows(em: Emitter, rows: Sequence[Index], task: Value) -> None:
    """A task's number, split into the rows' indices."""
    left = task
    first = next((k for k, i in enumerate(rows) if i.extent != 1), 0)  # nothing is divided by it
    for i in reversed(rows[first + 1 :]):
        n = em.value(i.extent)
        em.env[i] = em.op("urem {t} {0}, {1}", [left, n])
        left = em.op("udiv {t} {0}, {1}", [left, n])
    em.env[rows[first]] = left
    em.env.update((i, Value("0", int64, False)) for i in rows[:first])


def row(em: Emitter, stores: Sequence[Store]) -> None:
    """The stores of one row, in order: each may read what those before it wrote. Equal loops are shared."""
    at = 0
    while at < len(stores):
        group = [stores[at]]
        while at + len(group) < len(stores) and group[0].inner and stores[at + len(group)].inner == group[0].inner:
            group.append(stores[at + len(group)])
        em.hoist_all([s.value for s in group], *group[0].inner)
        nest(em, group, group[0].inner)
        at += len(group)


def nest(em: Emitter, stores: Sequence[Store], inner: Sequence[Index]) -> None:
    if not inner:
        store_all(em, stores)
        return
    i = inner[0]
    if i is stores[0].lanes:
        known = i.extent if isinstance(i.extent, int) else None
        ways = at_once(em, stores, i) if len(inner) == 1 else 1
        em.in_lanes(i, "0", em.value(i.extent).name, lambda: nest(em, stores, inner[1:]), known, ways)
        return
    with em.loop(i):
        em.hoist_all([s.value for s in stores], *inner[1:])
        nest(em, stores, inner[1:])


def store_all(em: Emitter, stores: Sequence[Store]) -> None:
    """All values first: a store may overwrite what another value is made of."""
    values = [em.value(s.value) for s in stores]
    if em.ahead:
        for x in dict.fromkeys(x for s in stores for x in loads(s.value) if x in em.ahead):
            em.fetch(x, em.ahead[x])
    for s, v in zip(stores, values, strict=True):
        em.store(s.target.key, s.offset, v, s.target.dtype)


# ------------------------------------------------------------------------------------------ threads


class share:
    """`with share(em, n) as task:` each thread runs the body for its run of n tasks."""

    def __init__(self, em: Emitter, tasks: Index_) -> None:
        self.em, self.tasks = em, tasks

    def __enter__(self) -> Value:
        em = self.em
        n = em.value(self.tasks)
        if em.alone:
            self.loop = em.counting("0", n.name)
            return self.loop.__enter__()
        tid, count = Value("%tid", int64, False), Value("%nthreads", int64, False)
        low = em.op("udiv {t} {0}, {1}", [em.op("mul {t} {0}, {1}", [n, tid]), count])
        after = em.op("add {t} {0}, {1}", [tid, Value("1", int64, False)])
        high = em.op("udiv {t} {0}, {1}", [em.op("mul {t} {0}, {1}", [n, after]), count])
        self.loop = em.counting(low.name, high.name)
        return self.loop.__enter__()

    def __exit__(self, *error: object) -> None:
        self.loop.__exit__(*error)  # type: ignore[arg-type]


class once(share):
    """A body that one thread runs."""

    def __init__(self, em: Emitter) -> None:
        super().__init__(em, 1)


# ------------------------------------------------------------------------------------------ the frame


def size_of_part(em: Emitter, size: Index_) -> tuple[str, list[str]]:
    """How many bytes of a buffer each thread has, and the lines that compute it at the beginning of the kernel."""
    if isinstance(size, int):
        return str(aligned(size)), []
    kept = em.lines, em.scopes
    em.lines, em.scopes = [], [{}]
    name, lines = em.value(expr.mul(expr.floordiv(size + (ALIGN - 1), ALIGN), ALIGN)).name, em.lines
    em.lines, em.scopes = kept
    return name, lines


def finish(em: Emitter, kernel: Kernel, tasks: Index_) -> Code:
    """The whole module: arguments, body, and the functions that it calls."""
    for e in expr.walk(tasks):
        if isinstance(e, expr.Dim):
            em.dimension(e)
    head = [
        "define void @kernel(ptr %slots, ptr %dims, ptr %args, i64 %tid, i64 %nthreads) " + em.target.attributes + " {",
        "entry:",
    ]
    number = 0
    own: list[str] = []  # where each thread's part of a buffer begins
    for buffer, name in em.buffers.items():
        head += [f"  {name}_a = getelementptr i64, ptr %args, i64 {number}", f"  {name}_i = load i64, ptr {name}_a",
                 f"  {name}_s = getelementptr ptr, ptr %slots, i64 {name}_i"]  # fmt: skip
        if getattr(buffer, "slot", None) and buffer.slot().per_thread:
            size, lines = size_of_part(em, buffer.slot().size)
            head.append(f"  {name}_b = load ptr, ptr {name}_s")
            own += [
                *lines,
                f"  {name}_o = mul i64 %tid, {size}",
                f"  {name} = getelementptr i8, ptr {name}_b, i64 {name}_o",
            ]
        else:
            head.append(f"  {name} = load ptr, ptr {name}_s")
        number += 1
    for name in em.dims.values():
        head += [f"  {name}_a = getelementptr i64, ptr %args, i64 {number}", f"  {name}_i = load i64, ptr {name}_a",
                 f"  {name}_p = getelementptr i64, ptr %dims, i64 {name}_i", f"  {name} = load i64, ptr {name}_p"]  # fmt: skip
        number += 1
    for k in range(len(em.checks)):
        head.append(f"  %check{k} = getelementptr i64, ptr %args, i64 {number}")
        number += 1
    if em.checks:
        head.append("  %status = load ptr, ptr %slots")
    head += own
    functions = [vecmath.define(*key, em.target.name) for key in em.functions]
    declared = dict.fromkeys([*em.declared, *vecmath.declarations(em.functions, em.target.name)])
    declared.pop("declare void @tf_note_bad_index(ptr, i64, i64, i64)", None)
    end = ["  fence seq_cst"] if em.past else []  # a barrier does not wait for stores past the caches
    text = "\n".join(
        [*functions, *head, *em.allocas, *em.lines, *end, "  ret void", "}", *em.extra, *declared, METADATA, ""]
    )
    buffers = tuple(em.buffers)
    written = kernel.written & em.buffers.keys()
    read, stored = traffic(kernel)
    touched: list[tuple[Any, Index_ | None]] = [*read.items(), *stored.items()]
    if kernel.recipe is not None:  # it touches all of its buffers
        touched = [(b, None) for b in buffers if b not in written or b in read] + [
            (b, None) for b in buffers if b in written
        ]
    flops = getattr(kernel.recipe, "flops", kernel.cost)
    return Code(text, buffers, tuple(em.dims), tuple(em.checks), tasks, written, tuple(touched), flops)
