"""The recipe of a pass that reads a value along other axes than it stores: an update of filters by a gradient in another order.

    w[o, p] = w[o, p] - rate * g[p, o]      p: all places of the other axes, that lie in one piece where they are stored

Blocks of g are turned in registers into a block of the thread's own memory, from where the rows are made that the stores
have: all that is read and written goes by whole vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinyflow.compiler.blocks import whole_vectors
from tinyflow.compiler.emit import Emitter, first_lane
from tinyflow.compiler.kernel import bind_rows, share, store_all
from tinyflow.compiler.loops import Kernel, Store, folds, free, loads, stride
from tinyflow.compiler.phrases import add, const, least, mul, sub
from tinyflow.compiler.transpose import turned
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.expr import Apply, Expr, Index, Index_, Load
from tinyflow.ops.movement import split

RUN = 1024  # elements of a line that one task makes, about
MOST = 4  # values that are turned: each takes a room on the stack
MASKED = ("guard", "check", "inside")  # what may bar a load


@dataclass(frozen=True, eq=False)
class Turned:
    """Tasks are (other rows, block along `along`, run of the line)."""

    along: Index  # neighbours of it are neighbours where the turned loads read
    others: tuple[Index, ...]
    letters: tuple[Index, ...]  # which the line is made of, the fastest last
    line: Index
    sources: tuple[tuple[Expr, Load], ...]  # what stands for each turned load in the stores
    stores: tuple[Store, ...]
    lanes: int
    written: tuple[object, ...] = ()

    def __str__(self) -> str:
        read = ", ".join(expr.show(x) for _, x in self.sources)
        return f"{read} turned in blocks of {self.lanes} along {self.along.name}"

    @property
    def run(self) -> int:
        """Elements of a line that one task makes: whole vectors, for tasks of about one size."""
        n: int = self.line.extent  # type: ignore[assignment]
        return whole_vectors(-(-n // -(-n // RUN)), self.lanes)

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        em.lanes = self.lanes
        along, line = self.along.extent, self.line.extent
        assert isinstance(along, int) and isinstance(line, int)
        run, block = expr.index(-(-line // self.run), "run"), expr.index(-(-along // self.lanes), "block")
        rows = (*self.others, block, run)
        tasks = expr.product(i.extent for i in rows)
        rooms = [self.room(em, x) for _, x in self.sources]
        known = self.run if line % self.run == 0 else None
        with share(em, tasks) as task:
            bind_rows(em, rows, task)
            em.hoist_all([s.value for s in self.stores], self.along, self.line)
            low = mul(em, em.env[run], const(self.run))
            high = least(em, add(em, low, const(self.run)), const(line))
            start = mul(em, em.env[block], const(self.lanes))
            first = least(em, start, const(along - self.lanes))  # the last block is read as a whole one

            def turn() -> None:
                for room, (_, x) in zip(rooms, self.sources, strict=True):
                    self.turn(em, x, room, first, low)

            em.in_lanes(self.line, low.name, high.name, turn, known)
            with em.counting(sub(em, start, first).name, str(self.lanes)) as r:
                em.env[self.along] = add(em, first, r)
                em.hoist_all([s.value for s in self.stores], self.line)
                em.in_lanes(self.line, low.name, high.name, lambda: self.make(em, rooms, r, low), known)
                del em.env[self.along]
        return tasks

    def room(self, em: Emitter, x: Load) -> str:
        """For what a task reads across."""
        name = em.name("room")
        em.allocas.append(
            f"  {name} = alloca [{self.lanes * self.run} x {x.dtype.llvm}], align {self.lanes * x.dtype.size}"
        )
        return name

    def turn(self, em: Emitter, x: Load, room: str, first: Value, low: Value) -> None:
        """A vector of places of the line, `lanes` elements of each from the first on, into as many rows."""
        vector, place, lines = f"<{self.lanes} x {x.dtype.llvm}>", expr.index(self.line.extent, "place"), []
        offset = expr.substitute(x.offset, dict(zip(self.letters, split(place, extents(self.letters)), strict=True)))
        start, mask, length = em.env[first_lane(self.line)], em.mask, self.line.extent
        assert isinstance(length, int)
        em.env[self.along], em.mask = first, None
        for v in range(self.lanes):
            at = add(em, start, const(v))
            em.env[place] = at if mask is None else least(em, at, const(length - 1))
            with em.scope():
                p = em.pointer(x.buffer, offset, x.dtype)
            lines.append(em.name("x"))
            em.line(f"{lines[-1]} = load {vector}, ptr {p}, align {x.dtype.size}")
            del em.env[place]
        for v, y in enumerate(turned(em, lines, vector)):
            em.line(
                f"store {vector} {y}, ptr {self.place(em, x, room, const(v), low)}, align {self.lanes * x.dtype.size}"
            )
        em.mask = mask
        del em.env[self.along]

    def make(self, em: Emitter, rooms: Sequence[str], r: Value, low: Value) -> None:
        """What is made of a vector of a row."""
        for room, (name, x) in zip(rooms, self.sources, strict=True):
            y = Value(em.name("y"), x.dtype, True)
            em.line(
                f"{y.name} = load {y.type(self.lanes)}, ptr {self.place(em, x, room, r, low)}, align {self.lanes * x.dtype.size}"
            )
            em.env[name] = y
        store_all(em, self.stores)
        for name, _ in self.sources:
            del em.env[name]

    def place(self, em: Emitter, x: Load, room: str, r: Value, low: Value) -> str:
        """Where the lanes of a row lie."""
        at = add(em, mul(em, r, const(self.run)), sub(em, em.env[first_lane(self.line)], low))
        p = em.name("p")
        em.line(f"{p} = getelementptr {x.dtype.llvm}, ptr {room}, i64 {at.name}")
        return p


def turned_pass(kernel: Kernel, vector_bytes: int) -> Kernel:
    """A pass that reads some values across its lanes, by blocks; any other kernel as it is."""
    lane = kernel.stores[0].lanes if kernel.stores else None
    if kernel.recipe is not None or kernel.checks or lane is None:
        return kernel
    if any(s.inner != (lane,) or s.lanes is not lane or not plain(s.value) for s in kernel.stores):
        return kernel
    read = list(dict.fromkeys(x for s in kernel.stores for x in loads(s.value)))
    sizes = {x.dtype.size for x in read if lane in free(x.offset)} | {s.target.dtype.size for s in kernel.stores}
    apart = [x for x in read if stride(x.offset, lane) not in (0, 1)]
    along = next((i for i in kernel.rows if apart and all(stride(x.offset, i) == 1 for x in apart)), None)
    if len(sizes) != 1 or min(sizes) < 4 or along is None:
        return kernel
    letters = line_of(kernel, lane, along)
    across = [x for x in read if free(x.offset) & set(letters) and not straight(x.offset, letters)]
    if not letters or len(across) > MOST or any(stride(x.offset, along) != 1 for x in across):
        return kernel
    lanes, line = vector_bytes // sizes.pop(), expr.index(expr.product(extents(letters)), "line")
    long = all(isinstance(i.extent, int) and i.extent >= lanes for i in (along, line))
    if not long or any(stride(x.offset, i) is None for x in across for i in letters):
        return kernel
    names = {x: expr.apply("turned", expr.const(k), along, line, dtype=x.dtype) for k, x in enumerate(across)}

    def in_line(offset: Index_) -> Index_:
        start = expr.substitute(offset, dict.fromkeys(letters, 0))
        return expr.add(start, line) if free(offset) & set(letters) else offset

    new = names | {x: expr.load(x.buffer, in_line(x.offset), x.dtype) for x in read if x not in names}
    stores = []
    for s in kernel.stores:
        value = expr.as_expr(expr.substitute(s.value, new))
        if free(value) & set(letters):
            return kernel
        stores.append(Store(s.target, (line,), in_line(s.offset), value, line))
    others = tuple(i for i in kernel.rows if i is not along and i not in letters)
    sources = tuple((name, x) for x, name in names.items())
    recipe = Turned(along, others, letters, line, sources, tuple(stores), lanes)
    return replace(kernel, recipe=recipe)


def line_of(kernel: Kernel, lane: Index, along: Index) -> tuple[Index, ...]:
    """The indices, but for `along`, that number neighbours wherever it stores, the fastest last."""
    found: tuple[Index, ...] = (lane,)
    length = lane.extent
    if any(stride(s.offset, lane) != 1 for s in kernel.stores):
        return ()
    while isinstance(length, int):
        i = next((i for i in kernel.rows if all(stride(s.offset, i) == length for s in kernel.stores)), None)
        if i is None or i is along or i in found:
            return found
        found, length = (i, *found), expr.mul(length, i.extent)
    return ()


def straight(offset: Index_, letters: Sequence[Index]) -> bool:
    """Whether a line is neighbours there too."""
    length: Index_ = 1
    for i in reversed(letters):
        if stride(offset, i) != length:
            return False
        length = expr.mul(length, i.extent)
    return True


def plain(value: Expr) -> bool:
    """Whether a value is arithmetic on what is loaded in any case."""
    return not folds(value) and not any(isinstance(x, Apply) and x.fn in MASKED for x in expr.walk(value))


def extents(letters: Sequence[Index]) -> tuple[Index_, ...]:
    return tuple(i.extent for i in letters)
