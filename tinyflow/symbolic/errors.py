"""The errors of the symbolic face: TensorFlow 1's class names, each also the built-in or the core error that it is.

OpError := (node_def, op, message)             a message alone will do
"""

from __future__ import annotations

from typing import Any

from tinyflow.core import errors as core


class OpError(Exception):
    """Something went wrong while a graph ran. `op` is the Operation, where one is to blame."""

    def __init__(self, node_def: Any = None, op: Any = None, message: str | None = None) -> None:
        text = message if message is not None else str(node_def if node_def is not None else "")
        super().__init__(text)
        self.node_def, self.op, self.message = node_def, op, text

    def __str__(self) -> str:
        return self.message


class InvalidArgumentError(OpError, core.GraphError):
    """A run was asked for that the graph does not allow: an unfed placeholder, an index out of range."""


class DeadTensorError(InvalidArgumentError, core.DeadTensorError):
    """A tensor was fetched that lies on the side of a Switch that was not taken."""


class IndexOutOfRange(InvalidArgumentError, core.IndexOutOfRange):
    """An index found out of range while a graph ran."""


class FailedPreconditionError(OpError, core.GraphError):
    """A variable was read that has no value yet."""


class NotFoundError(OpError, LookupError):
    """Something asked for by name is not there."""


class OutOfRangeError(OpError, IndexError):
    """Data came to its end."""


class ResourceExhaustedError(OpError, MemoryError):
    """There is not enough memory."""


class UnimplementedError(OpError, NotImplementedError):
    """Known, but not built."""


class PermissionDeniedError(OpError, PermissionError):
    """The system forbids it."""


class DeadlineExceededError(OpError, TimeoutError):
    """It took too long."""


class AlreadyExistsError(OpError):
    """What was to be made is there already."""


class AbortedError(OpError):
    """Given up half-way."""


class CancelledError(OpError):
    """Called off."""


class DataLossError(OpError):
    """Stored data is damaged."""


class InternalError(OpError):
    """A fault of tinyflow itself."""


class UnauthenticatedError(OpError):
    """The caller is not known."""


class UnavailableError(OpError):
    """Not to be reached now."""


class UnknownError(OpError):
    """None of the other kinds."""
