"""Programs on disk, so that the second time a script is started it compiles nothing: what was made of a graph, by its structure.

    key    := sha256(text of the graph's structure, the compiler's own source, all else that it depends on)
    entry  := MAGIC  sha256(key, body)  body                 as in objects.py; the body is packed

The text is made of plain values alone. A graph with anything else in it (a function of the user's, a graph within) is not kept.
"""

from __future__ import annotations

import hashlib
import pickle
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from tinyflow.core import expr
from tinyflow.core.dtypes import DType
from tinyflow.core.expr import Expr
from tinyflow.runtime import objects

MAGIC = b"tinyflow program 1\n"
PLAIN = (int, float, bool, str, bytes, type(None), DType, np.dtype)


class NotPlain(Exception):
    """Something that another process could not know again."""


def text_of(x: Any, named: type) -> str:
    """A text that is the same in every process, and differs where values differ; what is `named` has a name that says all."""
    kind = type(x)
    if kind is int or kind is str:  # as most are
        return repr(x)
    if isinstance(x, tuple | list):
        return f"{kind.__name__}({','.join([text_of(y, named) for y in x])})"
    if isinstance(x, (*PLAIN, named)):
        return repr(x)
    raise NotPlain(type(x).__name__)


def key_of(*parts: Any, named: type) -> str | None:
    """The name of what is made of these values; None where they are not plain."""
    try:
        return objects.key_of(source(), *(text_of(p, named) for p in parts))
    except NotPlain:
        return None


@cache
def source() -> str:
    """The sha256 of the whole package: what any of it makes of a graph may have changed."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Writer(pickle.Pickler):
    def reducer_override(self, x: Any) -> Any:
        if isinstance(x, Expr):  # equal ones are one object, in the process that reads them too
            if (parts := expr.parts(x)) is None:
                raise pickle.PicklingError("indices are equal only to themselves")
            return parts
        return NotImplemented


def keep(key: str, made: Any) -> None:
    path = objects.path_of(key, "programs")
    if path is None:
        return
    body = BytesIO()
    try:
        Writer(body, pickle.HIGHEST_PROTOCOL).dump(made)
    except (pickle.PicklingError, TypeError, AttributeError):
        return
    packed = zlib.compress(body.getvalue(), 1)
    objects.write(path, MAGIC + objects.checksum(key, packed) + packed)


def recall(key: str) -> Any:
    """What was kept by that name; None if there is nothing sound."""
    path = objects.path_of(key, "programs")
    try:
        entry = path.read_bytes() if path is not None else b""
    except OSError:
        return None
    start = len(MAGIC) + objects.DIGEST
    if entry[:start] != MAGIC + objects.checksum(key, entry[start:]):
        return None
    objects.log("program found on disk")
    return pickle.loads(zlib.decompress(entry[start:]))
