"""What runs, and when: switch and merge, order, and assignment.

switch(x, p, side)   x if p is `side`, else dead: what depends on a dead tensor is not computed
merge(p, f, t)       whichever is alive: f if p is false, t if it is true
after(x, *others)    x, once the others have run
again(x, *others)    x, for what is computed of it a second time once the others have run: see passes/checkpoint.py
kept(x, given)       x, of which only what was given is kept for its gradient: see passes/gradient.py
group(*others)       nothing, once the others have run
assign(v, x)         x, which becomes the variable's value at the end of the run
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType, bool_, float32
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Expr, apply
from tinyflow.graph.evaluate import DEAD
from tinyflow.graph.node import Node, Shape, make, toposort
from tinyflow.graph.op import Sample, define
from tinyflow.ops.rules import matching, same


def switch_type(x: DType, p: DType, **_: Any) -> DType:
    if p is not bool_:
        raise ShapeError(f"the predicate is a bool scalar, not {p}; compare it with something")
    return x


def scalar_predicate(s: Shape) -> None:
    if s != ():
        raise ShapeError(f"the predicate is a scalar, not of shape {s}; reduce it with all or any")


def switch_shape(x: Shape, p: Shape, side: bool) -> Shape:
    scalar_predicate(p)
    return x


def merge_shape(p: Shape, f: Shape, t: Shape) -> Shape:
    scalar_predicate(p)
    return same(f, t)


def assign_shape(v: Shape, x: Shape) -> Shape:
    try:
        return same(v, x)
    except ShapeError:
        raise ShapeError(f"a variable of shape {v} takes no value of shape {x}") from None


def merge_at(i: Any, p: Any, f: Any, t: Any) -> Expr:
    """Both sides are buffers of this shape: the dead one holds no value, and is not chosen."""
    return apply("select", p(), t(*i), f(*i), dtype=f.dtype)


def merge_np(p: Any, f: Any, t: Any) -> Any:
    """Dead where the predicate is, and where the side that it picks is: that of a switch within."""
    picked = DEAD if p is DEAD else t if p else f
    return DEAD if picked is DEAD else np.asarray(picked)


P = ((), bool_, 0, 2)
X = ((3, 17), float32, -1, 1)
# fmt: off
#                  name      numpy meaning                                            shape rule             type                        value at one index
SWITCH = define("switch", numpy=lambda x, p, side: x if bool(p) == side else DEAD, shape=switch_shape,    dtype=switch_type,          at=lambda i, x, p, side: x(*i), kind="control",
                grad=lambda g, y, x, p, side: (merge(p, *((zeros_like(y, not side), g) if side else (g, zeros_like(y, not side)))), None))
MERGE  = define("merge",  numpy=merge_np,                                          shape=merge_shape,     dtype=lambda p, f, t: matching(f, t), at=merge_at, kind="control",
                grad=lambda g, y, p, f, t: (None, switch(g, p, False), switch(g, p, True)), samples=(Sample((P, X, X)),))
AFTER  = define("after",  numpy=lambda x, *others: x,                              shape=lambda x, *_: x, dtype=lambda x, *_: x,       at=lambda i, x, *_: x(*i), kind="control",
                grad=lambda g, y, x, *others: (g, *(None for _ in others)), samples=(Sample((X, X)),))
AGAIN  = define("again",  numpy=lambda x, *others: x,                              shape=lambda x, *_: x, dtype=lambda x, *_: x,       at=lambda i, x, *_: x(*i), kind="control",
                grad=lambda g, y, x, *others: (g, *(None for _ in others)), samples=(Sample((X, X)),))
KEPT   = define("kept",   numpy=lambda x, *of: x,                                  shape=lambda x, *_: x, dtype=lambda x, *_: x,       at=lambda i, x, *_: x(*i), kind="control",
                grad=lambda g, y, x, *of: (g, *(None for _ in of)), samples=(Sample((X, X)),))
GROUP  = define("group",  numpy=lambda *others: np.float32(0),                     shape=lambda *_: (),   dtype=lambda *_: float32,   at=None, grad=None, kind="control")
ASSIGN = define("assign", numpy=lambda v, x: x,                                    shape=assign_shape,    dtype=matching,             at=lambda i, v, x: x(*i), kind="control",
                grad=lambda g, y, v, x: (None, g), samples=())
# fmt: on


def switch(x: Node, p: Node, side: bool) -> Node:
    return make(SWITCH, x, p, side=side)


def merge(p: Node, f: Node, t: Node) -> Node:
    return make(MERGE, p, f, t)


def zeros_like(y: Node, side: bool) -> Node:
    """Zeros of y's shape, alive on the other side of y's own switch."""
    from tinyflow.ops.functions import zeros

    return switch(zeros(y.shape, y.dtype), y.inputs[1], side)


def after(x: Node, *others: Node) -> Node:
    return make(AFTER, x, *others) if others else x


def again(x: Node, *others: Node) -> Node:
    return make(AGAIN, x, *others)


def kept(x: Node, given: Sequence[Node]) -> Node:
    """x; of what it is made of, only what was given and leaves are kept for its gradient. The rest is computed again."""
    found = [n for n in toposort([x], stop=given.__contains__) if n in given or n.op.kind == "leaf"]
    return x if x in found else make(KEPT, x, *found)


def group(*others: Node) -> Node:
    return make(GROUP, *others)


def assign(v: Node, x: Node) -> Node:
    return make(ASSIGN, v, x)
