"""A region: statements of a function that are to become a piece, and the variants it has been compiled in.

    region  := statements, parameters, outs (None: it returns), variant*
    variant := guards, piece | program

A call takes the first variant whose guards hold. If none does, the statements are traced once more; what made the guards fail
is then a symbol. A trace that is cut splits the region: piece, statement that stays in Python, region.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyflow.graph.evaluate import evaluate as meaning
from tinyflow.graph.node import substitute
from tinyflow.jit import sources as s
from tinyflow.jit import syntax as x
from tinyflow.jit.effects import NO_EFFECTS, count_changes, effects_of
from tinyflow.jit.expressions import evaluate
from tinyflow.jit.piece import Piece, substitute_view
from tinyflow.jit.plan import FIELDS, Names, Planner
from tinyflow.jit.program import Block, Plain, Program, Step
from tinyflow.jit.sources import Guard, Source
from tinyflow.jit.split import Split, Splitter
from tinyflow.jit.statements import Return, execute
from tinyflow.jit.trace import Frame, Trace
from tinyflow.jit.values import NONE, Cut, Live, Made, Value
from tinyflow.torch.leaves import STORE
from tinyflow.torch.storage import OPEN, settle_sizes

MOST_VARIANTS = 8
SIZES = ("size", "extent")


class Outcome(NamedTuple):
    """What tracing a region gave: a piece, or where it was cut."""

    trace: Trace
    piece: Piece | None
    at: int = 0  # which statement
    cut: Cut | None = None


class Variant:
    """One version of a region, right while its guards hold."""

    def __init__(
        self, guards: Sequence[Guard], parameters: Sequence[str], piece: Piece | None, program: Program | None
    ) -> None:
        self.guards, self.piece, self.program = tuple(guards), piece, program
        self.check = s.checker(self.guards, parameters)
        self.run: Callable[..., Any] = piece if piece is not None else program.run_now  # type: ignore[union-attr, assignment]


class Region:
    def __init__(
        self, owner: Any, stmts: Sequence[ast.stmt], parameters: Sequence[str], outs: Sequence[str] | None, names: Names
    ) -> None:
        self.names = names  # at its start
        self.owner, self.stmts, self.parameters = owner, list(stmts), list(parameters)
        self.outs = None if outs is None else list(outs)
        self.home: Block | None = None  # the block that calls it; None once it is settled
        self.variants: list[Variant] = []
        self.dynamic: set[Source] = set()
        self.frozen = False  # sizes stay numbers here
        self.plain: Program | None = None

    def __call__(self, *live: Any) -> Any:
        if OPEN:  # a piece is of one size, or of a symbol of its own: not of what another program will tell
            settle_sizes()
        for v in self.variants:
            if v.check(*live):
                return v.run(*live)
        return self.specialise(live)

    # ------------------------------------------------------------------------------ compiling

    def specialise(self, live: Sequence[Any]) -> Any:
        """A new variant, and its result."""
        if self.plain is not None:
            return self.plain.run_now(*live)
        if len(self.variants) >= MOST_VARIANTS:
            self.owner.note(
                self.stmts[0].lineno,
                f"changes too often: {MOST_VARIANTS} variants were compiled; from here on it runs as plain Python",
            )
            return self.run_plain(live)
        self.learn(live)
        outcome = self.traced(live)
        if outcome.piece is None:
            return self.cut(outcome, live)
        if not outcome.piece.operations:
            return self.run_plain(live) if self.variants else self.give_up(live)
        self.home = None
        variant = Variant(list(outcome.trace.guards), self.parameters, outcome.piece, None)
        self.variants.append(variant)
        self.owner.compilations += 1
        return variant.run(*live)

    def learn(self, live: Sequence[Any]) -> None:
        """What differed from the variants that there are becomes a symbol."""
        if self.owner.dynamic is False:
            return
        env = dict(zip(self.parameters, live, strict=True))
        for v in self.variants:
            for g in s.failing(v.guards, self.parameters, live):
                source = g.sources[0]
                if isinstance(source, Source) and (
                    g.kind == "size" or (g.kind == "equal" and g.objects[-1] in (int, float))
                ):
                    try:
                        same_kind = g.kind == "size" or type(source.read(env)) is g.objects[-1]
                    except s.MISSING:
                        continue
                    if same_kind and not (self.frozen and g.kind == "size"):
                        self.dynamic.add(source)

    def traced(self, live: Sequence[Any]) -> Outcome:
        """The trace; with symbolic sizes where that gives what fixed sizes give."""
        outcome = self.trace(live, self.dynamic)
        if not outcome.trace.dims or self.frozen:
            return outcome
        fixed = self.trace(live, {d for d in self.dynamic if d.kind not in SIZES}, all_dynamic=False)
        if agree(outcome, fixed, live):
            return outcome
        self.frozen = True
        self.dynamic = {d for d in self.dynamic if d.kind not in SIZES}
        return fixed

    def trace(self, live: Sequence[Any], dynamic: set[Source], all_dynamic: bool | None = None) -> Outcome:
        everything = self.owner.dynamic is True and not self.frozen if all_dynamic is None else all_dynamic
        t = Trace(dynamic, self.owner.volatile, everything)
        frame = self.frame(live)
        at, signal = 0, None
        with t.recording():
            try:
                for at in range(len(self.stmts)):
                    signal = execute(t, frame, self.stmts[at])
                    if signal is not None:
                        break
                results = self.results(frame, signal)
            except Cut as c:
                return Outcome(t, None, at, c)
            except RecursionError:
                return Outcome(t, None, at, Cut("calls go too deep", self.stmts[at].lineno))
        try:
            return Outcome(t, Piece(t.inputs, t.dims, results, self.parameters, effects_of(t)))
        except Cut as c:
            return Outcome(t, None, self.culprit(t, results, at), c)

    def culprit(self, t: Trace, results: Value, at: int) -> int:
        """The statement that made what cannot be handed on."""
        found = results.raw if isinstance(results, Made) and len(self.outs or ()) > 1 else (results,)
        for name, v in zip(self.outs or (), found):
            try:
                Piece(t.inputs, t.dims, v, self.parameters, NO_EFFECTS)
            except Cut:
                return max((k for k, st in enumerate(self.stmts) if name in x.assigned_names([st])), default=at)
        return at

    def frame(self, live: Sequence[Any]) -> Frame:
        f = self.owner.function
        names = {p: Live(v, s.local(p, p in self.owner.arguments)) for p, v in zip(self.parameters, live, strict=True)}
        frame = Frame(names, f.__globals__, f.__code__.co_filename, f, s.object_(f))
        frame.local = frame.local | self.owner.temporaries
        frame.foreign |= self.owner.declared
        frame.top = True
        return frame

    def results(self, frame: Frame, signal: Any) -> Value:
        if self.outs is None:
            return signal.value if isinstance(signal, Return) else NONE
        if signal is not None:
            raise Cut("leaves the block")
        missing = [o for o in self.outs if o not in frame.names]
        if missing:
            raise Cut(f"{missing[0]} has no value")
        found = [frame.names[o] for o in self.outs]
        return found[0] if len(found) == 1 else Made(tuple(found))

    # ------------------------------------------------------------------------------ cutting

    def cut(self, outcome: Outcome, live: Sequence[Any]) -> Any:
        """Splits the statements where the trace was cut, and runs what that gives."""
        cut, at = outcome.cut, outcome.at
        assert cut is not None
        stmt = self.stmts[at]
        self.owner.cut_at(cut.line or stmt.lineno, cut.reason)
        steps = self.dissected(self.splitting(live, at, cut), at, cut)
        program = Program(self.owner, Block(steps), self.parameters, self.outs)
        if self.home is not None:
            home, self.home = self.home, None
            home.replace(self, steps)
            # a caller that still holds this region runs its parts
            self.variants.append(Variant((), self.parameters, None, program))
            return program.run_now(*live)
        variant = Variant(list(outcome.trace.guards), self.parameters, None, program)
        self.variants.append(variant)
        return variant.run(*live)

    def splitting(self, live: Sequence[Any], at: int, cut: Cut) -> Split:
        """The statement at the cut, taken apart; a second trace says which of its parts are tensors' work."""
        t = Trace(self.dynamic, self.owner.volatile)
        frame = self.frame(live)
        locals_ = frozenset(frame.local) - self.owner.captured
        with t.recording():
            try:
                for stmt in self.stmts[:at]:
                    execute(t, frame, stmt)
                splitter = Splitter(
                    self.owner, lambda node: evaluate(t, frame, node), lambda: count_changes(t), locals_
                )
                return splitter.split(self.stmts[at], cut)
            except Cut:
                return Split([], self.stmts[at], [])

    def dissected(self, split: Split, at: int, cut: Cut) -> list[Step]:
        """Steps for the statements before the cut, the one that stays, and those after."""
        owner, tail = self.owner, self.outs is None
        before = [*self.stmts[:at], *split.before]
        after = [*split.after, *self.stmts[at + 1 :]]
        needed = frozenset(self.outs or ())
        at_middle = self.names.after(before)
        at_rest = at_middle.after([split.middle])
        plan = Planner(owner, Region)
        first = plan.steps(before, self.names, x.read_names([split.middle, *after]) | needed, False)
        if isinstance(split.middle, tuple(FIELDS)):
            later = x.read_names(after) | needed
            middle = [plan.compound(split.middle, at_middle, later, tail and not after, False)]
        else:
            middle = [Plain(split.middle)]
            if not cut.followed:
                owner.volatile |= x.assigned_names([split.middle])
        return [*first, *middle, *plan.steps(after, at_rest, needed, tail)]

    def run_plain(self, live: Sequence[Any]) -> Any:
        """The statements as they are."""
        if self.plain is None:
            self.plain = Program(self.owner, Block([Plain(st) for st in self.stmts]), self.parameters, self.outs)
        return self.plain.run_now(*live)

    def give_up(self, live: Sequence[Any]) -> Any:
        """No tensor is computed here: the statements stay what they are."""
        if self.home is not None:
            home, self.home = self.home, None
            home.replace(self, [Plain(st) for st in self.stmts])
        return self.run_plain(live)


def agree(symbolic: Outcome, fixed: Outcome, live: Sequence[Any]) -> bool:
    """Whether symbolic sizes give what fixed sizes give, on the arrays at hand."""
    if (symbolic.piece is None) != (fixed.piece is None):
        return False
    if symbolic.piece is None or fixed.piece is None:
        return symbolic.at == fixed.at
    a, b = symbolic.piece, fixed.piece
    dims = dict(zip(a.dims, a.gather(*live)[1], strict=True))
    if [(substitute(shape, dims), substitute_view(view, dims)) for shape, view in a.shown] != b.shown:
        return False
    if len(a.roots) != len(b.roots) or tensors(a) != tensors(b):
        return False
    given = a.gather(*live)[0]
    try:
        left = meaning(a.roots, arrays(a, given), dims)
        right = meaning(b.roots, arrays(b, given), {})
    except Exception:
        return False
    return all(
        np.shape(left[m]) == np.shape(right[n]) and np.allclose(left[m], right[n], 1e-4, 1e-5, True)
        for m, n in zip(a.roots, b.roots)
    )


def tensors(p: Piece) -> list[Any]:
    return [i.source for i in p.inputs if i.kind != "scalar"]


def arrays(p: Piece, given: Sequence[Any]) -> dict[Any, Any]:
    """What the inputs hold; some numbers of the right shape where that is still to be computed."""
    rng = np.random.default_rng(0)
    found: dict[Any, Any] = {}
    for i, g in zip(p.inputs, given):
        if i.kind == "array":
            found[i.placeholder] = g
        elif i.kind != "tensor":
            found[i.placeholder] = np.array(0 if g is None else g)
        elif g._storage.pending:
            shape = g._storage.node.shape
            found[i.placeholder] = rng.normal(size=shape) if i.placeholder.dtype.is_floating else np.zeros(shape, int)
        else:
            found[i.placeholder] = g._storage.look()
    return found | {n: STORE[n] for n in p.nodes if n in STORE}
