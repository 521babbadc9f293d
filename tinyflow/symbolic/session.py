"""Session: what runs a graph, and holds the values of its variables.

run(fetches, feed_dict) -> values        by a plan, made at the first run of its kind (plan.py)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinyflow.graph.node import Node, new_uid
from tinyflow.symbolic.graph import Graph, get_default_graph
from tinyflow.symbolic.plan import Plan, converted

GROWTH = 100  # runs that each found new operations of one line, before that line is warned about


class BaseSession:
    """What Session and InteractiveSession have in common."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph is a tf.Graph, not {graph!r}")
        self.graph = get_default_graph() if graph is None else graph
        self.store: dict[Node, np.ndarray] = {}  # the variables' values
        self.counts: dict[Node, int] = {}  # how often each random operation has run
        self.entropy = int.from_bytes(os.urandom(8), "little")  # of those without a seed
        self._plans: dict[Any, Plan] = {}
        self._operations = self.graph._operations
        self._seen = len(self._operations)
        self._grown: dict[tuple[str, int], int] = {}
        self._uid = new_uid()
        self._closed = False

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """The values of tensors, in the form in which they are asked for.

        fetches    a tensor, variable, operation (None is its value) or name, or a nesting of these in lists, tuples
                   and dicts
        feed_dict  {tensor: value}: placeholders' values; any other tensor is overridden by its value. A tuple of
                   tensors takes a tuple of values

        Raises InvalidArgumentError for an unfed placeholder, FailedPreconditionError for a variable without a value,
        ValueError for a value that does not fit its placeholder, TypeError for what is no tensor.
        """
        feed_dict = feed_dict or NOTHING
        try:
            key = (*fetches, None, *feed_dict) if type(fetches) is list else (fetches, *feed_dict)
            plan = self._plans[key]
        except (KeyError, TypeError):
            plan, feed_dict = self._plan(fetches, feed_dict)
        if len(self._operations) != self._seen:
            self._watch_growth()
        return plan(feed_dict.values())

    def _plan(self, fetches: Any, feed_dict: Any) -> tuple[Plan, Mapping[Any, Any]]:
        """The plan of a run, found by its structure or made; and the feeds, nested ones taken apart."""
        if self._closed:
            raise RuntimeError("the session is closed; make a new tf.Session()")
        if not isinstance(feed_dict, Mapping):
            raise TypeError(f"feed_dict is a dict of tensors and their values, not {feed_dict!r}")
        if any(isinstance(k, tuple) for k in feed_dict):
            pairs = [(k, v) for key, value in feed_dict.items() for k, v in flat_pairs(key, value)]
            feed_dict = dict(pairs)
        plan = Plan(self, fetches, feed_dict)
        plan = self._plans.setdefault(plan.key, plan)
        with suppress(TypeError):  # of a nesting of lists, which has no hash: it is found by plan.key
            self._plans[(*fetches, None, *feed_dict) if type(fetches) is list else (fetches, *feed_dict)] = plan
        return plan, feed_dict

    def _watch_growth(self) -> None:
        """Warn, once a line, of a loop that adds operations between its runs: each makes a new program."""
        new = self._operations[self._seen :]
        self._seen = len(self._operations)
        for op in new:
            if op.nodes is None or any(n is not None and n.uid > self._uid for n in op.nodes):
                line = (op.where.file, op.where.line)
                self._grown[line] = self._grown.get(line, 0) + 1
                if self._grown[line] == GROWTH:
                    warnings.warn(
                        f"the graph grows with every run: {op.where} has made new operations {GROWTH} times, and each is "
                        "compiled anew. Make them once, before the loop, and feed what changes through a placeholder",
                        stacklevel=3,
                    )
                break
        self._uid = new_uid()

    def make_callable(self, fetches: Any, feed_list: Any = None, accept_options: bool = False) -> Any:
        """A function of the fed values, in the order of feed_list, that runs the fetches."""
        keys = list(feed_list or ())
        return lambda *values: self.run(fetches, dict(zip(keys, values, strict=True)))

    def load(self, variable: Any, value: Any) -> None:
        """Give a variable a value at once."""
        if self._closed:
            raise RuntimeError("the session is closed; make a new tf.Session()")
        self.store[variable.node] = np.array(converted(variable._ref, value, "load"))

    def list_devices(self) -> list[Any]:
        return []

    def close(self) -> None:
        """Let go of the variables' values; it runs nothing any more."""
        self._closed = True
        self._plans = {}
        self.store = {}

    def __repr__(self) -> str:
        return f"<tf.{type(self).__name__} of {self.graph!r}{', closed' if self._closed else ''}>"


def flat_pairs(key: Any, value: Any) -> list[tuple[Any, Any]]:
    """A tuple of tensors is fed by a tuple of values."""
    if not isinstance(key, tuple):
        return [(key, value)]
    if not isinstance(value, list | tuple) or len(value) != len(key):
        raise ValueError(
            f"{key!r} is fed with {value!r}; give a tuple of {len(key)} values, as it has {len(key)} tensors"
        )
    return [pair for k, v in zip(key, value, strict=True) for pair in flat_pairs(k, v)]


class Session(BaseSession):
    """Runs a graph. `with tf.Session() as sess:` makes it the default one, and closes it at the end."""

    def as_default(self) -> Default:
        return Default(self, close=False)

    def __enter__(self) -> Session:
        self._entered = [*getattr(self, "_entered", []), Default(self, close=True)]
        self._entered[-1].__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._entered.pop().__exit__(*exception)


class InteractiveSession(BaseSession):
    """A session that is the default one from its making on, for t.eval() in a shell."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        super().__init__(target, graph, config)
        self._default = Default(self, close=False, with_graph=graph is not None)
        self._default.__enter__()

    def close(self) -> None:
        super().close()
        self._default.__exit__(None, None, None)

    def as_default(self) -> Default:
        return Default(self, close=False)

    def __enter__(self) -> InteractiveSession:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


class Default:
    """The block in which a session is the default one, and its graph the default graph."""

    def __init__(self, session: Any, close: bool, with_graph: bool = True) -> None:
        self.session, self.close = session, close
        self.graph = session.graph.as_default() if with_graph else nullcontext()

    def __enter__(self) -> Any:
        self.graph.__enter__()
        _stack.set((*_stack.get(), self.session))
        return self.session

    def __exit__(self, *exception: Any) -> None:
        stack = _stack.get()
        if self.session in stack:
            at = len(stack) - 1 - stack[::-1].index(self.session)
            _stack.set(stack[:at] + stack[at + 1 :])
            self.graph.__exit__(*exception)
        if self.close:
            self.session.close()


NOTHING: dict[Any, Any] = {}
_stack: ContextVar[tuple[Any, ...]] = ContextVar("sessions", default=())


def get_default_session() -> Any:
    """The session of the innermost `with` block, or None."""
    stack = _stack.get()
    return stack[-1] if stack else None
