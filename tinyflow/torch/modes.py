"""Whether ops are recorded for gradients: no_grad, enable_grad, inference_mode, set_grad_enabled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tinyflow.core.threads import Local


class Mode(Local):
    """The state that the context managers below change, of each thread its own."""

    grad, inference = True, False


MODE = Mode()


class GradMode:
    """A value of the grad mode, for a `with` block or for a whole function as a decorator."""

    wanted = True

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self.function, self.before = function, []  # type: tuple[Any, list[bool]]
        if function is not None:
            functools.update_wrapper(self, function)

    def __enter__(self) -> None:
        self.before.append(MODE.grad)
        MODE.grad = self.wanted

    def __exit__(self, *_: Any) -> None:
        MODE.grad = self.before.pop()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:  # @no_grad(): args[0] is the function to wrap
            return decorate(args[0], type(self), self.wanted)
        return decorate(self.function, type(self), self.wanted)(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def decorate(function: Callable[..., Any], kind: type[GradMode], wanted: bool) -> Callable[..., Any]:
    """The function, run in a grad mode of its own at each call."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        before, MODE.grad = MODE.grad, wanted
        try:
            return function(*args, **kwargs)
        finally:
            MODE.grad = before

    return run


class no_grad(GradMode):
    """Ops inside are not recorded for gradients: their results have requires_grad=False."""

    wanted = False


class enable_grad(GradMode):
    """Ops inside are recorded for gradients, also within no_grad."""

    wanted = True


class inference_mode(GradMode):
    """As no_grad."""

    def __init__(self, mode: Any = True) -> None:
        super().__init__(mode if callable(mode) else None)
        self.wanted = not mode if isinstance(mode, bool) else False


class set_grad_enabled(GradMode):
    """Sets the mode at once; as a context manager it is set back at the end."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.wanted = bool(mode)
        self.before.append(MODE.grad)
        MODE.grad = self.wanted

    def __enter__(self) -> None:
        pass


def is_grad_enabled() -> bool:
    return MODE.grad


def is_inference_mode_enabled() -> bool:
    return MODE.inference
