"""The recipe of attention: a softmax between two products, whose scores live in the memory of one thread.

    head     one entry of the batch: its keys and values are packed into panels once
    block    some tiles of rows of a head: scores = q k^T, softmax in place, result = scores v

Gradients go the same way; the probabilities P of a block are made again, and W, which is P weighed, or P itself; then

    dW = g v^T      dS = W dW - P (sum of W dW), through the steps      dq = dS k      dk += dS^T q      dv += W^T g

One thread does all blocks of a head, one after the other, so that dk and dv are added up in one order. Under a causal
step, keys that no row of a tile sees are left out. `attention_loops.py` writes it down.

Operands of bfloat16 and float16 are widened as they are read: the thread's memory holds float32, which is rounded only when a
result is stored. The instruction for pairs of bfloat16 is not used here: scores are float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tinyflow.compiler.blocks import heights
from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.loops import Kernel, Scratch, Store, Target
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.core import expr
from tinyflow.core.dtypes import DType
from tinyflow.core.expr import Expr, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.attention import ATTENTION, Steps, weight
from tinyflow.ops.movement import split
from tinyflow.ops.rules import select
from tinyflow.runtime import target as targets

if TYPE_CHECKING:
    from tinyflow.compiler.emit import Emitter
    from tinyflow.compiler.schedule import Group

SCORES = 256 * 1024  # bytes of scores that stay in a second cache beside the panels
TILES = 4  # of rows in a block: a panel is read once for all of them, and little lies above the diagonal
CLASH = 1024  # bytes: rows a multiple of this apart drive each other out of the first cache
FEW_TASKS = 16


class Panels(NamedTuple):
    """A matrix of rows x columns in panels of some columns each: [panel][row][width]."""

    buffer: Scratch
    rows: int  # that there is memory for
    columns: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    @property
    def number(self) -> int:
        return -(-self.columns // self.width)

    @property
    def line(self) -> int:
        """The columns, up to whole panels."""
        return self.number * self.width


class Letters(NamedTuple):
    """What expressions are written in: i and j are a row and a key, d and e run along q and v."""

    head: Index
    next: Index  # the head after it, of those that the thread does
    i: Index
    local: Index  # i, counted from the first row of the block
    j: Index
    seen: Index  # j, of only so many keys as row i sees
    d: Index
    e: Index


class Sizes(NamedTuple):
    """Of i, j, d and e; and of what the loops go by."""

    m: int
    n: int
    d: int
    e: int
    lanes: int
    vectors: int
    tile: int  # rows of a tile at most
    line: int  # from one row of scores to the next: q and g lie alike, so that one micro-kernel reads them all
    group: int  # tiles in a block

    @property
    def block(self) -> int:
        """Rows of a block at most."""
        return self.group * heights(self.m, self.tile)[0]


@dataclass(frozen=True, eq=False)
class Attention:
    """What the kernel computes."""

    dtype: DType  # that is computed with
    sizes: Sizes
    at: Letters
    causal: int | None  # row i sees keys up to i + causal
    safe: bool  # whether a row that sees nothing is 0, not NaN
    weight: Expr | None  # at head, i, seen: what the softmax is multiplied by
    q: Expr  # at head, i, d
    k: Expr  # at head, j, d
    v: Expr  # at head, j, e
    g: Expr | None  # at head, i, e: the gradient of the result
    own: Expr  # what lies in the memory `scores` at local and seen
    score: Expr  # made of it, as long as that is a product
    slope: Expr | None  # the gradient of a product, made of what lies in `scores`, `weights` and `slopes`
    memory: Mapping[str, Scratch]
    panels: Mapping[str, Panels]
    results: Mapping[str, Sequence[Store]]  # of y, or of dq, dk, dv

    @property
    def rows(self) -> tuple[int, ...]:
        """The heights of tiles that are needed, greatest first."""
        return heights(self.sizes.m, self.sizes.tile)

    @property
    def weights(self) -> str:
        """Where the weights of the values lie when gradients are made."""
        return "scores" if self.weight is None else "weights"

    @property
    def written(self) -> tuple[Scratch, ...]:
        return tuple(self.memory.values())

    @property
    def flops(self) -> Index_:
        m, n, d, e, *_ = self.sizes
        depth = d + (0 if self.slope is None else e) + sum({"y": e, "dq": d, "dk": d, "dv": e}[x] for x in self.results)
        return expr.mul(self.at.head.extent, m * n * depth * (2 if self.causal is None else 1))

    def __str__(self) -> str:
        m, n, d, e, *_ = self.sizes
        what = "attention" if self.g is None else f"gradients of attention, {', '.join(self.results)}"
        seen = "" if self.causal is None else f", j <= i + {self.causal}"
        return (
            f"{what}: {expr.show(self.at.head.extent)} heads of {m} rows, {n} keys{seen}, widths {d} and {e}; "
            f"blocks of {self.sizes.group} tiles of {self.rows} rows\n"
            f"  q: {expr.show(self.q)}, k: {expr.show(self.k)}, v: {expr.show(self.v)}, score: {expr.show(self.score)}"
            + ("" if self.weight is None else f", times {expr.show(self.weight)}")
        )

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        from tinyflow.compiler.attention_loops import emit

        return emit(em, self)


# ------------------------------------------------------------------------------------------ lowering


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:
    """The kernel of a result, or of those gradients of one attention that are wanted."""
    core, dtype = group.stores[0], group.stores[0].dtype.computed
    backward = core.op is not ATTENTION
    q, k, v, *more = core.inputs
    g = more.pop(0) if backward else None
    steps: Steps = core.attrs["steps"]
    causal = next((s[1] for s in steps if s[0] == "causal"), None)
    heads = expr.product(q.shape[:-2])
    sizes = sizes_of(q, k, v, None if backward else heads)
    at = letters(sizes, heads, causal)
    lead = split(at.head, q.shape[:-2])
    scope = Scope(buffered, {}, core.ndim)

    def read(x: Node, *index: Index_) -> Expr:
        return expr.as_expr(expr.opened(Reader(x, scope, core)(*lead, *index)))

    extras = [expr.as_expr(expr.substitute(read(x, at.i, at.j), {at.j: at.seen})) for x in more]
    wanted = {("d" + s.attrs["of"] if backward else "y"): s for s in group.stores}
    weighed = weight(core)
    scales = None if weighed is None else extras[more.index(weighed)]
    memory, panels = room(core.label, dtype, sizes, wanted, scales is not None)
    place = at.local * sizes.line + at.seen
    lying = {what: expr.load(memory[what], place, dtype) for what in PLACES if what in memory}
    own, slope = lying["scores"], sloped(lying, at.seen, steps, extras) if "slopes" in lying else None
    stores: dict[str, list[Store]] = {}
    for what, node in wanted.items():
        index = {"y": (at.i, at.e), "dq": (at.i, at.d), "dk": (at.j, at.d), "dv": (at.j, at.e)}[what]
        row = at.local if index[0] is at.i else at.j
        value = expr.load(memory[what], row * panels[OTHER[what]].line + index[1], dtype)
        if what == "y":
            value = expr.apply("mul", value, expr.load(memory["totals"], at.local, dtype))
        elif node.attrs["times"] != 1:
            value = expr.apply("mul", value, expr.const(node.attrs["times"], dtype))
        at_index = [(*lead, *index)[d] for d in node.attrs["order"]]
        stores[what] = [Store(t, index[1:], t.place(at_index, node.shape), value, index[1]) for t in homes[node]]
    t = Attention(
        dtype, sizes, at, causal, ("safe",) in steps, scales,
        read(q, at.i, at.d), read(k, at.j, at.d), read(v, at.j, at.e), None if g is None else read(g, at.i, at.e),
        own, scored(own, steps, extras), slope, memory, panels, stores,
    )  # fmt: skip
    cost = expr.floordiv(t.flops, 8) + 1
    every = tuple(s for each in stores.values() for s in each)
    return [Kernel(name, (), every, tuple(scope.checks), cost, t, group.conditions, tuple(group.stores))]


def up(n: int, step: int) -> int:
    """n, up to a multiple."""
    return -(-n // step) * step


def sizes_of(q: Node, k: Node, v: Node, heads: Index_ | None) -> Sizes:
    """`heads`, if they are known, are cut into blocks for the threads to share. None for gradients: if scores do not stay in a
    cache anyway, then at least the panels, of which there are more and which are added to, are read for many rows at once."""
    m, n, d, e = (int(x) for x in (q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]))  # type: ignore[arg-type]
    target, dtype = targets.current(), q.dtype.computed
    size, lanes, (tile, vectors) = dtype.size, target.lanes(dtype), target.tile(dtype)
    line = max(up(n, lanes * vectors), up(d, lanes), up(e, lanes))
    line += lanes * (line * size % CLASH == 0)
    tiles = -(-m // tile)
    group = max(min(TILES, tiles, SCORES // (tile * line * size)), 1)
    if heads is None and group == 1:
        group = min(TILES, tiles)
    elif isinstance(heads, int) and heads * -(-tiles // group) < FEW_TASKS:
        group = 1
    return Sizes(m, n, d, e, lanes, vectors, tile, line, group)


def letters(sizes: Sizes, heads: Index_, causal: int | None) -> Letters:
    m, n, d, e, *_ = sizes
    i = expr.index(m, "i")
    seen = n if causal is None else expr.minimum(n, i + (causal + 1))
    return Letters(
        expr.index(heads, "head"), expr.index(heads, "next"), i, expr.index(m, "local"), expr.index(n, "j"), expr.index(seen, "seen"),
        expr.index(d, "d"), expr.index(e, "e"),
    )  # fmt: skip


# fmt: off
PLACES = ("scores", "weights", "slopes")  # of a block: one for each row and key
OTHER = {"y": "v", "dq": "k", "dk": "q panels", "dv": "g panels"}  # the right operand of what a result is the sum of
#                 rows     columns    wanted for            None: always
PANELS = {
    "k":          ("keys",  "d",       None),
    "k turned":   ("d",     "keys",    None),
    "v":          ("keys",  "e",       None),
    "v turned":   ("e",     "keys",    ("dq", "dk")),
    "q panels":   ("block", "d",       ("dk",)),
    "g panels":   ("block", "e",       ("dv",)),
}
# fmt: on


def room(
    label: str, dtype: DType, sizes: Sizes, wanted: Mapping[str, Node], weighed: bool
) -> tuple[dict[str, Scratch], dict[str, Panels]]:
    """A thread's own memory."""
    lanes, vectors = sizes.lanes, sizes.vectors
    size = {"keys": sizes.n, "block": sizes.block, "d": sizes.d, "e": sizes.e}
    memory: dict[str, Scratch] = {}
    panels: dict[str, Panels] = {}

    def take(what: str, elements: int) -> Scratch:
        memory[what] = Scratch(f"{what} of {label}", elements * dtype.size, per_thread=True)
        return memory[what]

    slopes = not wanted.keys().isdisjoint(("dq", "dk"))
    weights = weighed and "y" not in wanted  # of a result they lie where the scores did
    for what in ("q rows", "scores", *(("weights",) if weights else ()), *(("g rows", "slopes") if slopes else ())):
        take(what, sizes.block * sizes.line)
    take("totals", sizes.block)
    for what, (down, across, purpose) in PANELS.items():
        if purpose is None or not wanted.keys().isdisjoint(purpose):
            rows, columns = up(size[down], lanes * vectors), size[across]
            narrow = min(vectors, -(-columns // lanes))
            panels[what] = Panels(take(what, rows * up(columns, narrow * lanes)), rows, columns, narrow, lanes)
    for what in wanted:
        take(what, (sizes.block if what in ("y", "dq") else sizes.n) * panels[OTHER[what]].line)
    return memory, panels


def scored(x: Expr, steps: Steps, extras: Sequence[Expr]) -> Expr:
    """A score, made of a product. What a causal step bars is not looped over."""
    for kind, *given in steps:
        if kind in ("mul", "div"):
            x = expr.apply(kind, x, expr.const(given[0], x.dtype))
        elif kind == "add":
            x = expr.apply("add", x, extras[given[0]])
        elif kind in ("where", "unless"):
            a, b = x, expr.const(given[1], x.dtype)
            x = select(extras[given[0]], a, b) if kind == "where" else select(extras[given[0]], b, a)
    return x


def sloped(lying: Mapping[str, Expr], seen: Index, steps: Steps, extras: Sequence[Expr]) -> Expr:
    """The gradient of a product: W dW - P (sum of W dW), back through the steps."""
    p, dw = lying["scores"], lying["slopes"]
    part = expr.apply("mul", dw, lying.get("weights", p))
    total = expr.fold("add", (seen,), part)
    if "weights" in lying:
        x = expr.apply("sub", part, expr.apply("mul", p, total))
    else:
        x = expr.apply("mul", p, expr.apply("sub", dw, total))
    for kind, *given in reversed(steps):
        if kind in ("mul", "div"):
            x = expr.apply(kind, x, expr.const(given[0], x.dtype))
        elif kind in ("where", "unless"):
            a, b = x, expr.const(0, x.dtype)
            x = select(extras[given[0]], a, b) if kind == "where" else select(extras[given[0]], b, a)
    return x


__all__ = ["OTHER", "Attention", "Panels", "lower"]
