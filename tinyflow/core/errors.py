"""Errors that say what was asked, what is wrong, and what to write instead, on the user's line."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import FrameType

from tinyflow.core.threads import Local

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class ShapeError(ValueError):
    """Shapes or element types that do not fit an op."""


class GraphError(ValueError):
    """A graph that cannot be run as asked: an unfed placeholder, a foreign tensor, a broken path."""


class IndexOutOfRange(IndexError):
    """An index found out of range while a program ran."""


class DeadTensorError(GraphError):
    """A tensor was fetched that lies on the side of a Switch that was not taken."""


class OutOfMemory(MemoryError):
    """A run that takes more memory than there is: found before anything is computed."""


class CompileError(RuntimeError):
    """A kernel that the compiler has no machine code for."""


class FallbackWarning(RuntimeWarning):
    """A program is run by numpy, for a kernel of it does not compile."""


class Where:
    """A line of user code: file, number, text and function. Its text is read when it is looked at."""

    __slots__ = ("file", "function", "line")

    def __init__(self, file: str, line: int, function: str) -> None:
        self.file, self.line, self.function = file, line, function

    @property
    def text(self) -> str:
        import linecache

        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        text = self.text
        return f"{self.file}:{self.line}" + (f": {text}" if text else "")

    __repr__ = __str__


_inside: dict[str, bool] = {}
NOT_THE_USERS = (PACKAGE, "<frozen", contextlib.__file__)  # its `with` blocks run through the last
UNKNOWN = Where("<unknown>", 0, "")


class Line(Local):
    """The line that what is made now stands on, while it is known: looking for it takes longer than making a node."""

    held: Where | None = None


LINE = Line()


def user_frame() -> FrameType | None:
    """The innermost frame outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        inside = _inside.get(file)
        if inside is None:
            inside = _inside[file] = file.startswith(NOT_THE_USERS)
        if not inside:
            return frame
        frame = frame.f_back
    return None


@contextlib.contextmanager
def line_kept() -> Iterator[None]:
    """LINE.held may be set inside; afterwards it is what it was."""
    before = LINE.held
    try:
        yield
    finally:
        LINE.held = before


def user_line() -> Where:
    """The line that a user wrote."""
    if LINE.held is not None:
        return LINE.held
    frame = user_frame()
    return UNKNOWN if frame is None else Where(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
