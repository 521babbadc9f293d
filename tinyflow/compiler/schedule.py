"""schedule: who gets a buffer, and which buffers are computed in one pass. All else is inlined where it is read.

    group := Group(stores: Node*, depth, core?)         stores share their first `depth` axes: the rows of the pass

It starts with a buffer for what cannot be inlined and a group for each, and merges a group into the one that reads it
when every read stays within the row that is being computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter

from tinyflow.compiler.buffers import Buffers, joined, parts_of
from tinyflow.compiler.lasting import edge, lasting_values
from tinyflow.compiler.lower import Lowering, is_view, through_views
from tinyflow.compiler.worth import (
    FEW_PARTS,
    FOLDS,
    block_parts,
    cheap_producer,
    drawn_again,
    grows,
    is_costly,
    is_fold,
    is_laborious,
    repeated_operands,
    turned_images,
    turned_rows,
)
from tinyflow.core import expr
from tinyflow.core.expr import Expr, Index_
from tinyflow.graph.node import Node, is_static, toposort
from tinyflow.ops.attention import ATTENTION_GRAD
from tinyflow.ops.contraction import CONTRACT
from tinyflow.ops.control import MERGE
from tinyflow.ops.elementwise import HEAVY
from tinyflow.ops.movement import CONCAT, EXPAND, flatten
from tinyflow.ops.scan import SCAN, loops_of
from tinyflow.passes.state import Conditions, conditions

uid = attrgetter("uid")
ENOUGH_ROWS = 8  # a pass over fewer rows than this must be short to be worth merging
LONG_ROW = 1 << 14
LONG_CHAIN = 50  # nodes inlined into each other: expressions are made and walked by recursion
MOST_STORES = 24


@dataclass(eq=False)
class Group:
    stores: list[Node]
    conditions: Conditions
    depth: int | None = None  # None: a single store, whose rows are chosen when it is lowered
    core: Node | None = None  # the contraction whose tiles the other stores are computed from
    local: dict[Node, int] = field(default_factory=dict)  # stores of one row only, in a thread's own memory, by size
    needs: list[Node] | None = None  # what it reads, once that was asked for
    nearest: list[Node] | None = None


class Schedule:
    """The groups of a graph, in an order in which they can run."""

    def __init__(
        self,
        roots: Sequence[Node],
        has_recipe: Callable[[Node], bool],
        lasting: Collection[Node] = (),
        repeated: bool = False,
    ) -> None:
        self.roots = dict.fromkeys(n for n in roots if n.op.kind != "leaf")
        self.order = toposort(roots)
        self.conditions = conditions(roots)
        self.has_recipe = has_recipe
        self.tiled = of_tiles(self.order, has_recipe)
        self.users: dict[Node, list[Node]] = {n: [] for n in self.order}
        for n in self.order:
            for x in n.inputs:
                self.users[x].append(n)
        self.tells = {n.attrs["size"]: n for n in self.order if n.op.kind == "find"}
        self.lasting = lasting_values(self.order, lasting)
        self.buffered = self.choose_buffers(repeated)
        self.buffered.lasting = self.lasting
        self.joined = {} if repeated else joined(self.buffered, self.users, self.roots, self.conditions)
        self.lowering = Lowering(self.buffered)
        self.home: dict[Node, Group] = {}
        self.refused: set[tuple[Group, Group]] = set()  # that are not merged, now or later
        self.at = {n: k for k, n in enumerate(self.order)}
        self.spanned = bytearray(len(self.order))  # at k: whether a group has nodes both before k and from there on
        for results in loops_of(self.order).values():
            self.settle(Group(results, self.conditions[results[0]]))
        for n in self.order:
            if n in self.buffered and n not in self.home:
                core = n if n in self.tiled else None
                self.home[n] = Group([n], self.conditions[n], core=core)
        for together in gradients_of_one(self.order):
            self.settle(Group(together, self.conditions[together[0]]))
        for self.reshaped in (False, True):  # whether epilogues may have another shape: a pass over rows comes first
            for n in self.order:
                if n in self.home:
                    self.absorb(n)
        self.drop_inner_buffers()
        self.groups = self.sorted_groups()

    @cached_property
    def place(self) -> dict[Group, int]:
        """The number of each group."""
        return {g: k for k, g in enumerate(self.groups)}

    @cached_property
    def readers(self) -> dict[Node, list[tuple[int, tuple[Index_, ...], tuple[Index_, ...]]]]:
        """By whom each buffer is read: the number of the group, the index read, and the indices at which the reader is computed."""
        found: dict[Node, list[tuple[int, tuple[Index_, ...], tuple[Index_, ...]]]] = {}
        for group, k in self.place.items():
            for s in {*group.stores, *([group.core] if group.core else [])}:
                lowered = self.lowering[s]
                for x, index in lowered.reads:
                    found.setdefault(x, []).append((k, index, lowered.formula.indices))
        return found

    # ------------------------------------------------------------------------------------------ buffers

    def choose_buffers(self, repeated: bool) -> Buffers:
        chosen = set(self.roots) | {p for c in self.conditions.values() for p, _ in c if p.op.kind != "leaf"}
        for n in self.order:
            if is_fold(n) or n.op.whole:
                chosen.add(n)
            if n.op is SCAN:  # it is read at every step
                _, sequences, captures = n.attrs["loop"].parts(n.inputs)
                chosen.update(x for x in map(through_views, (*sequences, *captures)) if not is_view(x))
            if n.op is MERGE:
                chosen.update(x for x in n.inputs[1:] if not is_view(x) and self.conditions[x] != self.conditions[n])
            if n.op is CONCAT and len(n.inputs) > FEW_PARTS:  # or what they share would be computed in each
                chosen.update(x for x in map(through_views, n.inputs) if not is_view(x) and len(self.users[x]) > 1)
            parts = parts_of(n, self.users, self.roots) if n.op is CONCAT and not repeated else ()
            if parts and self.tiled.issuperset(parts):
                chosen.add(n)  # they are stored where they belong in it
            if n.op is EXPAND and is_costly(n.inputs[0]) and n.inputs[0].shape != () and grows(n):
                chosen.add(n.inputs[0])
            if n.op.kind == "block":
                chosen.update(block_parts(n))
            if n in self.tiled:
                chosen.update((*turned_images(n), *turned_rows(n)))
                chosen.update(
                    x
                    for x in map(through_views, n.inputs)
                    if x.op.kind != "leaf" and (len(self.users[x]) > 1 or not cheap_producer(x))
                )
            elif n.op is CONTRACT:
                chosen.update(x for x in map(through_views, repeated_operands(n)) if is_laborious(x))
        chosen |= edge(self.order, self.lasting)
        chosen |= self.shared(chosen)
        chosen |= self.sums_of_many(chosen, chosen | self.sums_of_many(chosen, chosen))
        chosen -= {n for n in map(self.seen_alone, self.roots) if n is not None}
        return Buffers(chosen | self.cut_chains(chosen))

    def seen_alone(self, root: Node) -> Node | None:
        """A fold of which the root shows each element once, in another order: it is computed in the root's order. Not a sum of
        windows whose neighbours would no longer be neighbours."""
        n, turned, last = root, False, root.ndim - 1
        while True:
            below = [x for x in n.inputs if not is_view(x)]
            if n.op in FOLDS or not (n.op.elementwise or n.op.name in ("permute", "reshape")) or len(below) != 1:
                break
            turned = turned or n.op.name == "permute"
            last = n.attrs["order"][last] if n.op.name == "permute" else min(last, below[0].ndim - 1)
            if len(self.users[below[0]]) > 1 or below[0] in self.roots:
                break
            n = below[0]
        windows = n.op is CONTRACT and len(n.inputs) == 1
        fits = n.op in FOLDS and n not in self.tiled and not (windows and last != n.ndim - 1)
        return n if turned and fits else None

    def cut_chains(self, chosen: set[Node]) -> set[Node]:
        """Buffers along chains too long for one expression."""
        length: dict[Node, int] = {}
        for n in self.order:
            longest = max([length[x] for x in n.inputs], default=0) + 1
            length[n] = 0 if n in chosen or n.op.kind == "leaf" or longest > LONG_CHAIN else longest
        self.cuts = {n for n in self.order if not length[n] and n not in chosen and n.op.kind != "leaf"}
        return self.cuts

    def sinks(self, chosen: set[Node], more: set[Node] | None = None) -> dict[Node, set[Node]]:
        """The buffers that each node is read for, if it is inlined; `more` get one too."""
        sinks: dict[Node, set[Node]] = {}
        for n in reversed(self.order):
            users, own = self.users[n], set[Node]()
            for user in users:
                if user in chosen or (more is not None and user in more):
                    own.add(user)
                elif len(users) == 1:
                    own = sinks[user]
                else:
                    own |= sinks[user]
            sinks[n] = own
            wanted = more is not None and len(own) > 1 and n not in chosen and n.op.name in HEAVY and n.shape != ()
            if wanted and not drawn_again(n, own):
                more.add(n)  # type: ignore[union-attr]
        return sinks

    def shared(self, chosen: set[Node]) -> set[Node]:
        """Costly values that several buffers are computed from: they get one too."""
        more: set[Node] = set()
        self.sinks(chosen, more)
        return more

    def sums_of_many(self, chosen: set[Node], readers: set[Node]) -> set[Node]:
        """Values made of several buffers of their size, and read so often that writing them down saves reading those again:
        the sum along a residual network, which would else be made of all its layers in each of them. Asked twice: `readers`
        are the buffers that there will be, as far as is known."""
        sinks = self.sinks(readers)
        made_of: dict[Node, frozenset[Node]] = {}
        more: set[Node] = set()
        for n in self.order:
            if n in chosen or n.op.kind == "leaf":
                made_of[n] = frozenset((n,))
                continue
            found = made_of[n] = union([made_of[x] for x in n.inputs])
            users = self.users[n]
            last = len(users) != 1 or not users[0].op.elementwise or users[0] in chosen  # of a chain of sums
            if n.op.elementwise and last and len(n.inputs) > 1 and len(sinks[n]) > 1:
                size = expr.product(n.shape)
                great = sum(isinstance(size, int) and expr.product(x.shape) == size for x in found)
                if great * len(sinks[n]) >= great + 1 + len(sinks[n]):
                    more.add(n)
                    made_of[n] = frozenset((n,))
        return more

    # ------------------------------------------------------------------------------------------ merging

    def reads(self, group: Group) -> Iterable[tuple[Node, Node, tuple[Index_, ...]]]:
        """(reader, buffer read, index) for all reads of a group."""
        for n in group.stores:
            for x, index in self.lowering[n].reads:
                yield n, x, index

    def absorb(self, n: Node) -> None:
        """Merges into the group of n the groups that it reads, nearest first."""
        for x in self.nearest(self.home[n]):
            mine = self.home[n]
            other = self.home.get(x)
            if other is None or other is mine or (other, mine) in self.refused:
                continue
            merged = self.merge(other, mine)
            if merged is not None:
                self.settle(merged)
            elif other.core is None or self.reshaped:  # else its epilogue may have another shape later
                self.refused.add((other, mine))

    def nearest(self, group: Group) -> list[Node]:
        """The buffers that a group reads, from the last one made."""
        if group.nearest is None:
            group.nearest = sorted({x for _, x, _ in self.reads(group)}, key=uid, reverse=True)
        return group.nearest

    def settle(self, group: Group) -> None:
        """From here on its nodes are computed in this group."""
        self.home.update(dict.fromkeys(group.stores, group))
        places = [self.at[s] for s in group.stores]
        first, last = min(places), max(places)
        self.spanned[first + 1 : last + 1] = b"\1" * (last - first)

    def merge(self, first: Group, second: Group) -> Group | None:
        """Both as one pass, if that is possible and nothing else must run between them."""
        merged = self.candidate(first, second)
        if merged is None or self.between(first, second):
            return None
        merged.needs = list(dict.fromkeys((*self.needs(second), *self.needs(first))))
        return merged

    def candidate(self, first: Group, second: Group) -> Group | None:
        if first.conditions != second.conditions or second.core is not None or self.lasts(first) != self.lasts(second):
            return None
        stores = sorted({*first.stores, *second.stores}, key=uid)
        if (
            any(s.op.whole or s in self.joined for s in stores)
            or len(stores) > MOST_STORES
            or (self.cuts & set(stores))
        ):
            return None
        if first.core is not None:
            folds = any(self.lowering[s].formula.folds for s in second.stores)
            if folds or not self.core_fits(stores, first.core):
                return None
            return Group(stores, first.conditions, first.core.ndim, first.core)
        for depth in range(min(s.ndim for s in stores), -1, -1):
            whole = all(s.ndim == depth for s in stores)
            if (depth or whole) and self.depth_fits(stores, depth) and (whole or self.worthwhile(stores, depth)):
                return Group(stores, first.conditions, depth)
        return None

    def lasts(self, group: Group) -> bool:
        """Whether it is made of what stays the same from run to run."""
        return group.stores[0] in self.lasting

    def depth_fits(self, stores: Sequence[Node], depth: int) -> bool:
        """Whether the stores have the same first axes, and read each other only at their own place on them."""
        prefix = stores[0].shape[:depth]
        if any(s.shape[:depth] != prefix for s in stores):
            return False
        inside = set(stores)
        for s in stores:
            lowered = self.lowering[s]
            if any(x in inside and index[:depth] != lowered.formula.indices[:depth] for x, index in lowered.reads):
                return False
        return True

    def core_fits(self, stores: Sequence[Node], core: Node) -> bool:
        """Whether the stores have the shape of a contraction's results, or that of a matrix with its rows on several axes,
        and read each other only at their own place."""
        if all(s.shape == core.shape for s in stores):
            return self.depth_fits(stores, core.ndim)
        if not self.reshaped or core.ndim != 2 or not is_static(core.shape):
            return False
        size, columns = expr.product(core.shape), core.shape[-1]
        inside = set(stores)
        for s in stores:
            lowered = self.lowering[s]
            if not s.ndim or s.shape[-1] != columns or expr.product(s.shape) != size:
                return False
            place = flatten(lowered.formula.indices, s.shape)
            if any(x in inside and flatten(index, x.shape) != place for x, index in lowered.reads):
                return False
        return True

    def worthwhile(self, stores: Sequence[Node], depth: int) -> bool:
        if any(self.lowering[s].formula.runs_down for s in stores):
            return False
        rows = expr.product(stores[0].shape[:depth])
        if not isinstance(rows, int) or rows >= ENOUGH_ROWS:
            return True
        return (
            max((n for s in stores for n in [self.work(s, depth)] if isinstance(n, int)), default=LONG_ROW) <= LONG_ROW
        )

    def work(self, s: Node, depth: int) -> Index_:
        """How much one row of a store takes: its elements, times what each folds."""
        folded = [expr.product(i.extent for i in f.over) for f in self.lowering[s].formula.folds]
        return expr.product((*s.shape[depth:], max((n for n in folded if isinstance(n, int)), default=1)))

    def between(self, first: Group, second: Group) -> bool:
        """Whether some other group must run after the first and before the second.

        Nodes do not need those after them: no group is looked into that lies before a place which no group spans,
        and the first group behind it.
        """
        bound = self.spanned.rfind(0, 0, min(self.at[s] for s in first.stores) + 1)
        stack = [g for g in self.inputs(second) if g is not first]
        seen: set[Group] = set()
        while stack:
            g = stack.pop()
            if g is first:
                return True
            if g in seen:
                continue
            seen.add(g)
            if all(self.at[s] < bound for s in g.stores):
                continue
            # The oldest is looked into first: from there it is not far.
            stack.extend(sorted(self.inputs(g), key=lambda g: -self.at[g.stores[0]]))
        return False

    def inputs(self, group: Group) -> list[Group]:
        """The groups that must run before."""
        home = self.home
        return list(dict.fromkeys(home[x] for x in self.needs(group) if x in home and home[x] is not group))

    def needs(self, group: Group) -> list[Node]:
        """The nodes whose buffers a group reads, those of its conditions too, and of what it is to wait for."""
        if group.needs is None:
            found = dict.fromkeys(x for _, x, _ in self.reads(group))
            waits = [x for n in group.stores for x in self.lowering[n].waits]
            for p in (*(p for p, _ in group.conditions), *waits):
                found[p] = None
                if p.op.kind != "leaf" and p not in self.buffered:
                    found.update((r, None) for r, _ in self.lowering[p].reads)
            for n in group.stores if self.tells else ():
                found.update((self.tells[d], None) for d in self.sizes_of(n) if d in self.tells)
            group.needs = list(found)
        return group.needs

    def sizes_of(self, n: Node) -> set[Expr]:
        """The symbols in the shapes of a buffer and of all that is computed in it."""
        found: set[Expr] = set()
        stack, seen = [n], {n}
        while stack:
            x = stack.pop()
            found.update(a for d in x.shape if isinstance(d, Expr) for a in expr.walk(d))
            if x is n or (x not in self.buffered and x.op.kind != "leaf"):
                stack += [y for y in x.inputs if y not in seen]
                seen.update(x.inputs)
        return found

    def drop_inner_buffers(self) -> None:
        """What only its own pass reads needs no buffer: a value of the row is inlined, a row is kept by the thread."""
        readers: dict[Node, set[Group]] = {}
        for group in set(self.home.values()):
            for _, x, _ in self.reads(group):
                readers.setdefault(x, set()).add(group)
        outside = set(self.roots) | {p for c in self.conditions.values() for p, _ in c}
        dropped: set[Node] = set()
        for group in set(self.home.values()):
            if group.depth is None or len(group.stores) == 1:
                continue
            for n in list(group.stores):
                if n in outside or readers.get(n, set()) - {group}:
                    continue
                inner = expr.product(n.shape[group.depth :])
                if (
                    group.core is None
                    and isinstance(inner, int)
                    and inner > 1
                    and (self.lowering[n].formula.folds or n.op.name in HEAVY)
                ):
                    group.local[n] = inner
                    continue
                group.stores.remove(n)
                self.buffered.discard(n)
                del self.home[n]
                dropped.add(n)
        self.lowering.forget_readers(dropped)

    def sorted_groups(self) -> list[Group]:
        """An order in which every buffer is written before it is read."""
        for g in self.home.values():
            g.needs = None
        done: dict[Group, None] = {}
        stack = [(g, False) for g in sorted(set(self.home.values()), key=lambda g: -max(s.uid for s in g.stores))]
        while stack:
            g, ready = stack.pop()
            if ready:
                done[g] = None
            elif g not in done:
                stack.append((g, True))
                stack.extend((h, False) for h in self.inputs(g) if h not in done)
        return list(done)


def union(sets: Sequence[frozenset[Node]]) -> frozenset[Node]:
    return sets[0] if len(sets) == 1 else frozenset().union(*sets)


def of_tiles(order: Sequence[Node], has_recipe: Callable[[Node], bool]) -> set[Node]:
    """The contractions that are computed in tiles. Those of equal layers are asked about once."""
    known: dict[object, bool] = {}
    found: set[Node] = set()
    for n in order:
        if n.op is CONTRACT:
            key = n.attrs["spec"], n.dtype
            if key not in known:
                known[key] = has_recipe(n)
            if known[key]:
                found.add(n)
    return found


def gradients_of_one(order: Sequence[Node]) -> list[list[Node]]:
    """Gradients of the same attention: they are computed together."""
    found: dict[object, list[Node]] = {}
    for n in order:
        if n.op is ATTENTION_GRAD:
            found.setdefault((n.inputs, n.attrs["steps"]), []).append(n)
    return [nodes for nodes in found.values() if len(nodes) > 1]
