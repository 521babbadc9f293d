"""Module: a function with parameters. It holds tensors and other modules by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tinyflow.torch.creation import core_of, zeros
from tinyflow.torch.modes import no_grad
from tinyflow.torch.tensor import Tensor, alias, over, require_grad


class Parameter(Tensor):
    """A tensor that a module counts among its parameters: a leaf that requires gradients."""

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Any:
        data = zeros(0) if data is None else data
        whole = data._view is None and not data._detached and not data._storage.attached
        source = data if whole else alias(data, detached=True)
        p = over(source._storage, source._shape, None, cls)
        p._view, p._detached = source._view, source._detached and not whole
        if whole:  # the tensor it was made of shares the memory, not the gradients
            data._detached = True
        if requires_grad:
            require_grad(p, True)
        return p

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        pass


class Buffer(Tensor):
    """A tensor that belongs to a module's state without being a parameter."""

    def __new__(cls, data: Tensor, *, persistent: bool = True) -> Any:
        t = over(data._storage, data._shape, None, cls)
        t._view, t._detached, t.persistent = data._view, data._detached, persistent
        return t

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        pass


class IncompatibleKeys(NamedTuple):
    """What load_state_dict found missing, and what it could not place."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class RemovableHandle:
    """Takes a hook away again."""

    def __init__(self, hooks: dict[int, Any], hook: Any, prepend: bool = False) -> None:
        self.hooks, self.number = hooks, max(hooks, default=-1) + 1
        before = {} if not prepend else dict(hooks)
        for number in before:
            del hooks[number]
        hooks[self.number] = hook
        hooks.update(before)

    def remove(self) -> None:
        self.hooks.pop(self.number, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


KINDS = ("_parameters", "_buffers", "_modules")


class Module:
    """The base of all layers: subclasses write __init__ and forward."""

    training: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for kind in KINDS:
            object.__setattr__(self, kind, {})
        object.__setattr__(self, "_non_persistent", set())
        object.__setattr__(self, "_forward_hooks", {})
        object.__setattr__(self, "_forward_pre_hooks", {})
        object.__setattr__(self, "training", True)

    def forward(self, *input: Any) -> Any:
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for hook in list(self._forward_pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        y = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            changed = hook(self, args, y)
            y = y if changed is None else changed
        return y

    # -------------------------------------------------------------------------------- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        kinds = self.__dict__
        if "_parameters" not in kinds:
            if isinstance(value, Parameter | Module):
                raise AttributeError(
                    f"cannot assign {'parameters' if isinstance(value, Parameter) else 'module'} before Module.__init__() call"
                )
            object.__setattr__(self, name, value)
            return
        kind = "_parameters" if isinstance(value, Parameter) else "_modules" if isinstance(value, Module) else "_buffers" if isinstance(value, Buffer) else None  # fmt: skip
        held = next((k for k in KINDS if name in kinds[k]), None)
        if kind is None and held is not None and (value is None or (held == "_buffers" and isinstance(value, Tensor))):
            kinds[held][name] = value
            return
        if kind is None and held == "_parameters":
            raise TypeError(
                f"cannot assign '{type(value).__name__}' as parameter '{name}' (torch.nn.Parameter or None expected)"
            )
        for k in KINDS:
            if k != kind:  # what is set again keeps its place
                kinds[k].pop(name, None)
        if kind is None:
            object.__setattr__(self, name, value)
        else:
            kinds.pop(name, None)
            kinds[kind][name] = value
            if kind == "_buffers" and not value.persistent:
                self._non_persistent.add(name)

    def __getattr__(self, name: str) -> Any:
        kinds = self.__dict__
        for kind in KINDS:
            if kind in kinds and name in kinds[kind]:
                return kinds[kind][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        for kind in KINDS:
            if name in self.__dict__[kind]:
                del self.__dict__[kind][name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(n for k in KINDS for n in self.__dict__[k])})

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        if "." in name or not name:
            raise KeyError('parameter name can\'t contain "."' if name else 'parameter name can\'t be empty string ""')
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        if hasattr(self, name) and name not in self._buffers:
            raise KeyError(f"attribute '{name}' already exists")
        self._buffers[name] = tensor
        (self._non_persistent.discard if persistent else self._non_persistent.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        self._modules[name] = module

    add_module = register_module

    # -------------------------------------------------------------------------------- what it holds

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        memo = set() if memo is None else memo
        if remove_duplicate and self in memo:
            return
        memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        return (m for _, m in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        once: dict[Module, str] = {}
        for name, module in self._modules.items():
            if module is not None:
                once.setdefault(module, name)
        return ((name, module) for module, name in once.items())

    def children(self) -> Iterator[Module]:
        return (m for _, m in self.named_children())

    def _named(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        ):
            for name, value in module.__dict__[kind].items():
                if value is not None and not (remove_duplicate and id(value) in seen):
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        module = self
        for name in target.split(".") if target else []:
            if name not in module._modules:
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = module._modules[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        path, _, name = target.rpartition(".")
        return self.get_submodule(path)._parameters[name]

    # -------------------------------------------------------------------------------- state

    def state_dict(
        self, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> OrderedDict[str, Tensor]:
        """Every parameter and persistent buffer by its path; they share memory with the module's own."""
        out: OrderedDict[str, Tensor] = OrderedDict() if destination is None else destination
        for path, module in self.named_modules(prefix=prefix.rstrip("."), remove_duplicate=False):
            held = [
                *module._parameters.items(),
                *((n, b) for n, b in module._buffers.items() if n not in module._non_persistent),
            ]
            for name, value in held:
                if value is not None:
                    out[f"{path}.{name}" if path else name] = value if keep_vars else value.detach()
        return out

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies values by path into parameters and buffers; with strict, all paths must match."""
        own = self.state_dict(keep_vars=True)
        missing = [k for k in own if k not in state_dict]
        unexpected = [k for k in state_dict if k not in own]
        errors = []
        if strict and unexpected:
            errors.append(f"Unexpected key(s) in state_dict: {', '.join(map(repr, unexpected))}. ")
        if strict and missing:
            errors.append(f"Missing key(s) in state_dict: {', '.join(map(repr, missing))}. ")
        for key, value in state_dict.items():
            if key in own and tuple(own[key].shape) != tuple(value.shape):
                errors.append(f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, the shape in current model is {own[key].shape}.")  # fmt: skip
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        with no_grad():
            for key, value in state_dict.items():
                if key in own:
                    own[key].copy_(value)
        return IncompatibleKeys(missing, unexpected)

    # -------------------------------------------------------------------------------- changing it

    def train(self, mode: bool = True) -> Any:
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Any:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        zero_grads(self.parameters(), set_to_none)

    def apply(self, fn: Callable[[Module], Any]) -> Any:
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Any:
        with no_grad():
            for module in self.modules():
                for p in module._parameters.values():
                    if p is not None:
                        p.data = fn(p.data)
                for name, b in module._buffers.items():
                    if b is not None:
                        module._buffers[name] = fn(b)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Parameters and floating-point buffers as another type."""

        def change(t: Tensor) -> Tensor:
            wanted = kwargs.get("dtype") or next((a for a in args if type(a).__name__ in ("dtype", "DType")), None)
            if wanted is not None and not t.is_floating_point():
                return t
            return t.to(*args, **kwargs)

        return self._apply(change)

    def float(self) -> Any:
        return self.to(dtype=core_of("float32"))

    def double(self) -> Any:
        return self.to(dtype=core_of("float64"))

    def half(self) -> Any:
        return self.to(dtype=core_of("float16"))

    def bfloat16(self) -> Any:
        return self.to(dtype=core_of("bfloat16"))

    def cpu(self) -> Any:
        return self

    def cuda(self, device: Any = None) -> Any:
        return self.to("cuda")

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """hook(module, args, output) after each call; what it returns takes the output's place."""
        if with_kwargs or always_call:
            raise NotImplementedError("hooks with_kwargs or always_call; wrap the module's forward instead")
        return RemovableHandle(self._forward_hooks, hook, prepend)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """hook(module, args) before each call; what it returns takes the arguments' place."""
        if with_kwargs:
            raise NotImplementedError("hooks with_kwargs; wrap the module's forward instead")
        return RemovableHandle(self._forward_pre_hooks, hook, prepend)

    # -------------------------------------------------------------------------------- printing

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        head = extra.split("\n") if extra else []
        children = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        name = self._get_name()
        if not children:
            return f"{name}({extra})" if len(head) <= 1 else f"{name}(\n  " + "\n  ".join(head) + "\n)"
        return f"{name}(\n  " + "\n  ".join(head + children) + "\n)"


def zero_grads(parameters: Any, set_to_none: bool) -> None:
    """Forget the gradients, or make them zeros."""
    for p in parameters:
        if set_to_none:
            p._grad = None
        elif p._grad is not None:
            with no_grad():
                p._grad.detach_().zero_()
