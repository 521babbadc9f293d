"""Plan: how the session runs certain fetches with certain feeds, prepared once.

    Plan    := fetches, feeds, what Python does afterwards     one for each structure of fetches and feeds
    Program := leaves to feed, runner                          one for each combination of ranks that is fed

The first run looks at the graph: a placeholder of unknown rank gets the rank that was fed, a tensor that is fed is
replaced. Where sizes that were taken for equal differ, they are written in, so that they broadcast. A later run
converts, calls the program once, and hands out what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinyflow.core.errors import GraphError, IndexOutOfRange, ShapeError
from tinyflow.graph.evaluate import DEAD, dead_message
from tinyflow.symbolic import errors, nest
from tinyflow.symbolic.graph import Operation
from tinyflow.symbolic.program import Program, build
from tinyflow.symbolic.tensor import Tensor
from tinyflow.symbolic.world import NotYet, parents

VARIANTS = 1000  # programs of one plan that are kept


class Plan:
    """A prepared run."""

    def __init__(self, session: Any, fetches: Any, feed_dict: Mapping[Any, Any]) -> None:
        self.session = session
        graph = session.graph
        self.leaves = [element(graph, x, fetches) for x in nest.flatten(fetches)]
        self.rebuild = rebuilder(fetches)
        self.fed = [fed(graph, k) for k in feed_dict]
        self.key = (form(fetches), *self.leaves, None, *self.fed)
        self.types = [t.dtype.numpy for t in self.fed]
        ops = ancestors(self.leaves, set(self.fed))
        self.before = in_turn(graph, ops)
        self.open = any(op.nodes is None for op in ops)
        self.hosts = [op for op in ops if op.host is not None]
        fetched = [x for x in self.leaves if isinstance(x, Tensor)]
        needed = [t for op in self.hosts for t in op.inputs]
        fed_hosts = {t for t in self.fed if t.op.host is not None}
        self.tensors = list(dict.fromkeys(t for t in (*fetched, *needed) if t.op.host is None))
        self.targets = list(dict.fromkeys(x for x in self.leaves if isinstance(x, Operation) and x.host is None))
        self.place = {t: k for k, t in enumerate(self.tensors)}
        self.simple = not self.hosts and not fed_hosts
        self.single = self.simple and len(self.leaves) == 1 and isinstance(fetches, Tensor) and not self.targets
        self.order = [self.place.get(x, -1) for x in self.leaves]
        self.programs: dict[Any, Program] = {}  # by the shapes of what is fed
        self.by_rank: dict[Any, Program] = {}

    def __call__(self, values: Iterable[Any]) -> Any:
        arrays = []
        for value, want, tensor in zip(values, self.types, self.fed, strict=False):
            if type(value) is not np.ndarray or value.dtype is not want:
                value = converted(tensor, value)
            arrays.append(value)
        key = tuple([a.shape for a in arrays])
        program = self.programs.get(key) or self.prepare(key, arrays)
        try:
            out = program(self.session, arrays)
        except IndexOutOfRange as e:
            raise errors.IndexOutOfRange(None, None, str(e)) from e
        except (GraphError, ShapeError) as e:
            if program.concrete or not self.fed or isinstance(e, errors.OpError):
                raise
            out = self.broadcast(key, arrays)
        if self.single:
            value = out[0]
            if value is DEAD:
                raise self.dead(self.tensors[0])
            return value if value.ndim else value[()]
        return self.finish(out, arrays)

    def prepare(self, key: Any, arrays: Sequence[np.ndarray]) -> Program:
        """The program for arrays of these shapes: there is one for each combination of ranks."""
        for t, a in zip(self.fed, arrays, strict=True):
            if not t.shape.is_compatible_with(a.shape):
                raise ValueError(
                    f"{t.name!r} ({t.op.where}) has shape {t.shape}, and was fed with an array of shape {a.shape}"
                )
        ranks = tuple([a.ndim for a in arrays])
        program = self.by_rank.get(ranks)
        if program is None:
            try:
                program = self.by_rank[ranks] = build(self, arrays, concrete=False)
            except NotYet:
                program = build(self, arrays, concrete=True)
        return self.keep(key, program)

    def broadcast(self, key: Any, arrays: Sequence[np.ndarray]) -> list[Any]:
        """A run in which sizes that were taken for equal are not: they are written in, and broadcast if they can."""
        return self.keep(key, build(self, arrays, concrete=True))(self.session, arrays)

    def keep(self, key: Any, program: Program) -> Program:
        if len(self.programs) >= VARIANTS:
            self.programs.clear()
        self.programs[key] = program
        return program

    def finish(self, out: Sequence[Any], arrays: Sequence[np.ndarray]) -> Any:
        """The fetched values in their form; what Python has to do is done."""
        if self.simple:
            found = [None if k < 0 else self.given(k, out[k]) for k in self.order]
            return self.rebuild(found)
        known = {t: a[()] if a.ndim == 0 else a for t, a in zip(self.fed, arrays, strict=True) if t.op.host is not None}
        for op in self.hosts:
            values = [known[t] if t.op.host is not None else out[self.place[t]] for t in op.inputs]
            if any(v is DEAD for v in values):
                continue
            result = op.host(*(v[()] if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in values))
            for t, v in zip(op.outputs, (result,), strict=False):
                known.setdefault(t, v)
        return self.rebuild([self.value(x, out, known) for x in self.leaves])

    def value(self, x: Any, out: Sequence[Any], known: Mapping[Tensor, Any]) -> Any:
        if isinstance(x, Operation):
            return None
        return known[x] if x.op.host is not None else self.given(self.place[x], out[self.place[x]])

    def given(self, k: int, value: Any) -> Any:
        if value is DEAD:
            raise self.dead(self.tensors[k])
        return value if value.ndim else value[()]

    def dead(self, tensor: Tensor) -> Exception:
        message = dead_message(tensor.node) if tensor.node is not None else f"{tensor.name} has no value in this run"
        return errors.DeadTensorError(None, tensor.op, f"{tensor.name!r}: {message}")


# ------------------------------------------------------------------------------------------ fetches and feeds


def element(graph: Any, x: Any, fetches: Any) -> Any:
    """The tensor or operation that a fetch stands for."""
    if x is None:
        raise TypeError(
            f"None cannot be fetched ({'' if fetches is None else repr(fetches) + ': '}a gradient that does not exist is None)"
        )
    try:
        return graph.as_graph_element(x)
    except TypeError as e:
        raise TypeError(f"{x!r} cannot be fetched: a fetch is a tensor, an operation, a variable or a name") from e
    except (KeyError, ValueError) as e:
        raise ValueError(f"{x!r} cannot be fetched: {e.args[0]}") from e


def fed(graph: Any, key: Any) -> Tensor:
    """The tensor that a key of feed_dict stands for."""
    try:
        found = graph.as_graph_element(key)
    except (KeyError, ValueError, TypeError) as e:
        raise TypeError(f"{key!r} cannot be fed: {e.args[0]}") from e
    if not isinstance(found, Tensor):
        raise TypeError(f"{key!r} cannot be fed: it is an operation; feed its output {found.name + ':0'!r}")
    return found


def form(fetches: Any) -> Any:
    """The structure of fetches, hashable."""
    if isinstance(fetches, Mapping):
        return (type(fetches), *((k, form(v)) for k, v in fetches.items()))
    if isinstance(fetches, list | tuple):
        return (type(fetches), *map(form, fetches))
    return None


def rebuilder(fetches: Any) -> Callable[[list[Any]], Any]:
    """What puts the fetched values into the form of the fetches."""
    if not nest.is_sequence(fetches):
        return lambda values: values[0]
    if type(fetches) is list and not any(map(nest.is_sequence, fetches)):
        return lambda values: values
    skeleton = nest.map_structure(lambda _: None, fetches)
    return lambda values: nest.pack(skeleton, values)


def ancestors(leaves: Sequence[Any], given: set[Tensor]) -> list[Operation]:
    """All operations that the leaves need, in the order of their making."""
    stack = [x.op for x in leaves if x not in given]
    found = set(stack)
    while stack:
        for x in parents(stack.pop(), given):
            if x not in found:
                found.add(x)
                stack.append(x)
    return sorted(found, key=lambda o: o.index)


def in_turn(graph: Any, ops: Sequence[Operation]) -> dict[Operation, tuple[Operation, ...]]:
    """Operations that write a variable after others of the same run do, and must see what those left: each step counts."""
    writes = graph.state.get("writes", {})
    last: dict[Any, list[Operation]] = {}
    before: dict[Operation, tuple[Operation, ...]] = {}
    for op in ops:
        for v in writes.get(op, ()):
            earlier = last.setdefault(v, [])
            if earlier:
                waits = set(ancestors([op], set()))
                if any(e not in waits for e in earlier):
                    before[op] = (*before.get(op, ()), *(e for e in earlier if e not in waits))
            earlier.append(op)
    return before


def converted(tensor: Tensor, value: Any, what: str = "feed") -> np.ndarray:
    """A value as an array of the tensor's type, contiguous; ValueError or TypeError if it is none."""
    if hasattr(value, "_as_graph_element") or isinstance(value, Tensor | Operation):
        raise TypeError(
            f"{tensor.name!r} was fed with {value!r}, which has no value here; feed an array, or sess.run(...) of it"
        )
    try:
        array = np.asarray(value)
    except ValueError as e:
        raise ValueError(f"{tensor.name!r} ({tensor.op.where}) was fed with rows of different lengths: {e}") from None
    want = tensor.dtype
    if want.kind == "O":
        return np.asarray(array, dtype=object)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{tensor.name!r} ({tensor.op.where}) takes {want}, and was fed with {array.dtype} of shape {array.shape}: {brief(value)}"
        )
    with np.errstate(all="ignore"):
        new = np.ascontiguousarray(array, want.numpy).reshape(array.shape)
    if array.dtype.kind == "f" and want.kind != "f" and not np.array_equal(new, array):
        raise ValueError(
            f"{tensor.name!r} ({tensor.op.where}) takes {want}, and was fed with {array.dtype} of shape {array.shape} whose values "
            f"are no integers: {brief(value)}; round them, or make the placeholder tf.{array.dtype}"
        )
    return new


def brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."
