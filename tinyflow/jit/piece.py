"""A piece: what a trace recorded, made ready to run many times.

    piece := inputs, storages, results, effects
    input := Input(kind, source, placeholder)     kind in "tensor", "array", "scalar", "draw"

Where no gradient is wanted and nothing is changed a piece is one native call. Else, or where an input is still to be computed
itself, its nodes are recorded anew on the nodes of the real inputs: autograd sees ordinary nodes, and forward, backward and
update become one program.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyflow import execute
from tinyflow.core.dtypes import int64
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node, make, substitute, toposort
from tinyflow.jit.direct import Direct, direct, is_free, next_key
from tinyflow.jit.effects import Effects, count_all, write_all
from tinyflow.jit.sources import Source, Writer
from tinyflow.jit.values import Cut, Iterated, Known, Live, Made, Sym, Tens, Value, Viewed
from tinyflow.torch.creation import from_numpy, tensor
from tinyflow.torch.leaves import STORE, Remembered, passing_leaf
from tinyflow.torch.storage import Storage, bound, flush
from tinyflow.torch.tensor import Tensor, over, use


class Input(NamedTuple):
    kind: str
    source: Any  # a source of a tensor or an array, an expression of a scalar, None for a random draw
    placeholder: Node
    symbol: Any = None  # the tensor that stands for a tensor
    shared: bool = False  # of an array: the tensor is over its memory


class Piece:
    """The nodes between some inputs and some results."""

    def __init__(
        self, inputs: Sequence[Input], dims: Mapping[Expr, Source], results: Value, parameters: Sequence[str], effects: Effects
    ) -> None:  # fmt: skip
        self.inputs, self.dims, self.effects = tuple(inputs), dict(dims), effects
        self.storages: list[Storage] = []  # those that the piece makes, in order of their results
        self.arrays = [(k, i.shared) for k, i in enumerate(self.inputs) if i.kind == "array"]
        self.given = {id(i.symbol._storage): k for k, i in enumerate(self.inputs) if i.symbol is not None}
        self.shown: list[Any] = []  # shape and view of every tensor that is a result
        self.shown_arrays: set[int] = set()  # the inputs whose tensors are results
        self.build = Builder(self, parameters).build(results, effects)
        self.finish = Builder(self, parameters).build(results, effects, written=True) if effects.looks else None
        self.roots = [s.node for s in (*self.storages, *(s for _, s in effects.writes))]
        self.nodes = toposort(self.roots)
        used = {n for n in self.nodes if not n.inputs}
        self.gather = gatherer(self.inputs, self.dims, parameters)
        self.needed = [i.placeholder in used for i in self.inputs]
        self.recorded = bool(effects) or any(s.attached for s in self.storages)
        self.runner: Any = None
        self.at_once: Direct | bool | None = None  # False: it cannot be
        self.plan: list[Any] = []
        self.runs = 0

    @property
    def operations(self) -> int:
        """How many ops the piece computes."""
        return sum(1 for n in self.nodes if n.inputs or n.op.kind not in ("leaf",))

    def __call__(self, *live: Any) -> Any:
        given, sizes = self.gather(*live)
        self.runs += 1
        dims = dict(zip(self.dims, sizes, strict=True)) if sizes else NO_DIMS
        if self.finish is not None and is_free():
            if self.at_once is None:
                self.at_once = direct(self) or False
            if self.at_once:
                made = self.at_once(given)
                return self.finish(*live, made, self.with_tensors(given, self.shown_arrays), dims, ())
        given = self.with_tensors(given)
        waiting = self.recorded or any(x._storage.pending for i, x in zip(self.inputs, given, strict=True) if i.symbol is not None)  # fmt: skip
        if not waiting:
            return self.build(*live, self.computed(given) if self.roots else (), given, dims, ())
        nodes = self.spliced(given, dims)
        made = [Storage(n, s.attached, s.taint) for n, s in zip(nodes, self.storages)]
        return self.build(*live, made, given, dims, nodes[len(made) :])

    def with_tensors(self, given: Sequence[Any], numbers: Any = None) -> Sequence[Any]:
        """The inputs, with tensors in the place of arrays: all, or those of some numbers."""
        if not self.arrays or not (numbers is None or numbers):
            return given
        made = list(given)
        for k, shared in self.arrays:
            if numbers is None or k in numbers:
                made[k] = from_numpy(made[k]) if shared else tensor(made[k])
        return made

    def computed(self, given: Sequence[Any]) -> list[Storage]:
        """One native call."""
        if self.runner is None:
            stored = [i.placeholder for i in self.inputs if i.kind == "tensor"]
            self.runner = execute.compile(self.roots, private=stored)
        feeds = {}
        for i, needed, x in zip(self.inputs, self.needed, given, strict=True):
            if i.kind == "draw":
                x = next_key()
            if needed:
                feeds[i.placeholder] = np.array(x, i.placeholder.dtype.numpy) if i.symbol is None else x._storage.look()
        return [bound(a) for a in self.runner(feeds, STORE)]

    def spliced(self, given: Sequence[Any], dims: Mapping[Expr, int]) -> Sequence[Node]:
        """The roots, on the nodes of the real inputs."""
        for i, x in zip(self.inputs, given, strict=True):
            if i.symbol is not None and x._storage.grad_leaf and x._storage.pending:
                x._storage.look()  # before any node is taken: what it computes is no expression any more
        starts = [start(i, x) for i, x in zip(self.inputs, given, strict=True)]
        key = self, *starts, *dims.values()
        found = SPLICED.get(key)
        if found is None:
            found = self.on(starts, dims)
            SPLICED.put(key, found)
        return found  # type: ignore[no-any-return]

    def on(self, starts: Sequence[Node], dims: Mapping[Expr, int]) -> list[Node]:
        """The roots, made again on other nodes."""
        if not self.plan:
            self.plan = planned(self.nodes, [i.placeholder for i in self.inputs])
        new: list[Node] = []
        for node, place, operands in self.plan:
            if place is not None:
                new.append(starts[place])
                continue
            attrs = {k: substitute(v, dims) for k, v in node.attrs.items()} if dims else node.attrs
            made = make(node.op, *[new[k] for k in operands], **attrs) if operands or dims else node
            if made.uid > node.uid and made is not node:
                made.where = node.where
            new.append(made)
        value = dict(zip(self.nodes, new, strict=True))
        return [value[n] for n in self.roots]


SPLICED = Remembered(256)  # piece, nodes of its inputs -> nodes of its roots
NO_DIMS: dict[Expr, int] = {}


def start(i: Input, x: Any) -> Node:
    if i.symbol is not None:
        return use(whole(x))
    return passing_leaf(next_key() if i.kind == "draw" else x, int64 if i.kind == "draw" else i.placeholder.dtype)


def whole(t: Tensor) -> Tensor:
    """All of the storage that a tensor is a view of."""
    if t._view is None:
        return t
    base = over(t._storage, t._storage.node.shape)
    base._detached = t._detached
    return base


def planned(nodes: Sequence[Node], placeholders: Sequence[Node]) -> list[Any]:
    """(node, which input it is, where its operands stand), in order."""
    place = {n: k for k, n in enumerate(placeholders)}
    number = {n: k for k, n in enumerate(nodes)}
    return [(n, place.get(n), tuple(number[x] for x in n.inputs)) for n in nodes]


def gatherer(inputs: Sequence[Input], dims: Mapping[Expr, Source], parameters: Sequence[str]) -> Callable[..., Any]:
    """A function of the locals that gives what the inputs are now, and the sizes of symbolic dimensions."""
    w = Writer()
    given = ["None" if i.kind == "draw" else w.expression(i.source) for i in inputs]
    sizes = [w.source(s) for s in dims.values()]
    w.lines.append(f"return ({', '.join(given)}{',' if given else ''}), ({', '.join(sizes)}{',' if sizes else ''})")
    return w.function("gather", parameters)


# ------------------------------------------------------------------------------------------ results


def tensor_of(
    storage: Storage, shape: Any, view: Any, detached: bool, fn: str | None, dims: Mapping[Expr, int]
) -> Tensor:
    t = over(storage, substitute(shape, dims) if dims else shape, fn)
    t._view, t._detached = (substitute_view(view, dims) if dims else view), detached
    return t


def substitute_view(view: Any, dims: Mapping[Expr, int]) -> Any:
    return view and type(view)(substitute_view(view.parent, dims), view.kind, substitute(view.args, dims))


class Builder:
    """Writes the function that makes the results: new containers, tensors over new storages, and what was there before."""

    def __init__(self, piece: Piece, parameters: Sequence[str]) -> None:
        self.piece, self.parameters = piece, list(parameters)
        self.w = Writer()
        self.done: dict[int, str] = {}
        self.kept: list[Any] = []  # so that ids stay theirs
        self.open: set[int] = set()

    def build(self, results: Value, effects: Effects, written: bool = False) -> Callable[..., Any]:
        """`written`: the new values are there already."""
        text = self.text(results)
        self.apply(effects, written)
        self.w.lines.append(f"return {text}")
        return self.w.function("build", [*self.parameters, "_S", "_G", "_D", "_W"])

    def apply(self, effects: Effects, written: bool) -> None:
        """Lines that make the changes. What they need of before is read first."""
        b, lines = self.w.bind, self.w.lines
        inputs = {i.source: f"_G[{k}]" for k, i in enumerate(self.piece.inputs) if i.kind == "tensor"}
        gradients = [
            (inputs.get(s) or self.w.source(s), "None" if v is None else self.text(v)) for s, v in effects.gradients
        ]
        entries = [(self.w.source(e.holder), e.key, self.text(e.value)) for e in effects.entries]
        calls = [(b(c.function), [self.w.source(s) for s in c.sources]) for c in effects.calls]
        if written:
            lines.append(f"{b(count_all)}(_G, {b([(k, s.version) for k, s in effects.writes])})")
        elif effects.writes:
            how = [(k, s.attached, s.taint, s.version) for k, s in effects.writes]
            lines.append(f"{b(write_all)}(_G, _W, {b(how)})")
        lines += [f"{leaf}._grad = {text}" for leaf, text in gradients]
        lines += [f"{holder}[{key!r}] = {text}" for holder, key, text in entries]
        lines += [f"{function}({', '.join(sources)})" for function, sources in calls]
        if effects.looks and not written:
            lines.append(f"{b(flush)}()")

    def text(self, v: Value) -> str:
        rule = RESULTS.get(type(v))
        if rule is None:
            raise Cut(f"a {type(v).__name__.lower()} made here is needed later")
        return rule(self, v)  # type: ignore[no-any-return]

    def name(self, key: Any, text: str) -> str:
        self.kept.append(key)
        name = self.done[id(key)] = f"_v{len(self.done)}"
        self.w.lines.append(f"{name} = {text}")
        return name

    def known(self, v: Known) -> str:
        if v.source is not None:
            return self.w.source(v.source)
        if not (isinstance(v.raw, LASTING) or type(v.raw).__module__ == "tinyflow.torch.dtypes"):
            raise Cut(f"a {type(v.raw).__name__} made here is needed later")
        return self.w.bind(v.raw)

    def tens(self, v: Tens) -> str:
        t = v.tensor
        if v.source is not None:
            return self.w.source(v.source)
        if id(t) in self.done:
            return self.done[id(t)]
        storage = t._storage
        k = self.piece.given.get(id(storage))
        if k is None:
            if storage.grad_leaf:
                raise Cut("a tensor that requires gradients is made here")
            if not any(s is storage for s in self.piece.storages):
                self.piece.storages.append(storage)
            where = f"_S[{next(n for n, s in enumerate(self.piece.storages) if s is storage)}]"
        else:
            where = f"_G[{k}]._storage"
            if self.piece.inputs[k].kind == "array":
                self.piece.shown_arrays.add(k)
        b = self.w.bind
        self.piece.shown.append((tuple(t._shape), t._view))
        shape = b(tuple(t._shape))
        return self.name(t, f"{b(tensor_of)}({where}, {shape}, {b(t._view)}, {t._detached}, {t._fn!r}, _D)")

    def made(self, v: Made) -> str:
        raw = v.raw
        if isinstance(raw, Iterated | Viewed):
            raise Cut("an iterator is needed later")
        if id(raw) in self.done:
            return self.done[id(raw)]
        if id(raw) in self.open:
            raise Cut("a container that holds itself is needed later")
        self.open.add(id(raw))
        if isinstance(raw, dict):
            text = "{" + ", ".join(f"{self.w.bind(k)}: {self.text(x)}" for k, x in raw.items()) + "}"
        else:
            parts = ", ".join(self.text(x) for x in raw)
            text = DISPLAYS.get(type(raw), "").format(parts + ("," if len(raw) == 1 and type(raw) is tuple else ""))
            if type(raw) not in DISPLAYS:
                call = f"({parts})" if hasattr(raw, "_fields") else f"([{parts}])"
                text = self.w.bind(type(raw)) + call
        return self.name(raw, text)

    def sym(self, v: Sym) -> str:
        return self.w.expression(v.expression)


LASTING = (int, float, bool, str, bytes, complex, type(None), type(Ellipsis), range, slice, tuple, type, types.FunctionType, types.ModuleType, types.BuiltinFunctionType)  # fmt: skip
DISPLAYS = {tuple: "({})", list: "[{}]"}
RESULTS: dict[type, Any] = {
    Live: lambda b, v: b.w.source(v.source),
    Known: Builder.known,
    Tens: Builder.tens,
    Made: Builder.made,
    Sym: Builder.sym,
}
