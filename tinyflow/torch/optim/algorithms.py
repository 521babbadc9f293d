"""The rules by which parameters move. g: gradient, p: parameter, t: step, as in each docstring's formula."""

from __future__ import annotations

from typing import Any

from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.torch.optim.optimizer import Group, Optimizer, check, node, remember, write
from tinyflow.torch.tensor import Tensor


def decayed(g: Node, p: Node, group: Group) -> Node:
    """The gradient to descend: turned round to maximize, with weight decay added."""
    g = -g if group["maximize"] else g
    return g + p * group["weight_decay"] if group["weight_decay"] else g


def zeros_of(p: Node) -> Node:
    return f.zeros(p.shape, p.dtype)


def held(state: dict[str, Any], name: str, p: Node) -> Node:
    """A part of the state, zeros at first."""
    return node(state[name]) if name in state else zeros_of(p)


def advance(states: list[dict[str, Any]]) -> int:
    """The number of this step; states count it as a tensor would be shown, though no graph reads it."""
    for s in states:
        s["step"] = s.get("step", 0) + 1
    return int(states[0]["step"])


class SGD(Optimizer):
    """b = momentum b + (1 - dampening) g;  p = p - lr b          nesterov: p = p - lr (g + momentum b)

    At the first step b = g.
    """

    def __init__(self, params: Any, lr: Any = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0, nesterov: bool = False,
                 *, maximize: bool = False, foreach: Any = None, differentiable: bool = False, fused: Any = None) -> None:  # fmt: skip
        check(lr=(lr, isinstance(lr, Tensor) or lr >= 0.0, "learning rate"), m=(momentum, momentum >= 0.0, "momentum value"),
              w=(weight_decay, weight_decay >= 0.0, "weight_decay value"))  # fmt: skip
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                dampening=dampening,
                weight_decay=weight_decay,
                nesterov=nesterov,
                maximize=maximize,
            ),
        )

    def update(self, number: int, group: Group, params: list[Tensor]) -> None:
        m = group["momentum"]
        lr = self.scalar(number, "lr", group["lr"], params[0])
        for t in params:
            p, g = node(t), node(t._grad)  # type: ignore[arg-type]
            g = decayed(g, p, group)
            if m:
                state = self.state[t]
                first = state.get("momentum_buffer") is None
                state = {} if first else state
                b = remember(
                    self.state[t],
                    "momentum_buffer",
                    g if first else node(state["momentum_buffer"]) * m + g * (1.0 - group["dampening"]),
                )
                g = g + b * m if group["nesterov"] else b
            write(t, p - e.cast(lr, p.dtype) * g)


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    p = p - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)          Kingma and Ba, 2014; amsgrad keeps the greatest v

    Weight decay is added to the gradient; with decoupled_weight_decay, p is first scaled by 1 - lr weight_decay.
    """

    decoupled = False

    def __init__(self, params: Any, lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
                 amsgrad: bool = False, *, foreach: Any = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False, fused: Any = None, decoupled_weight_decay: bool = False) -> None:  # fmt: skip
        check(lr=(lr, isinstance(lr, Tensor) or lr >= 0.0, "learning rate"), e=(eps, eps >= 0.0, "epsilon value"),
              a=(betas[0], 0.0 <= betas[0] < 1.0, "beta parameter at index 0"), b=(betas[1], 0.0 <= betas[1] < 1.0, "beta parameter at index 1"),
              w=(weight_decay, weight_decay >= 0.0, "weight_decay value"))  # fmt: skip
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize,
                                      decoupled_weight_decay=decoupled_weight_decay or self.decoupled))  # fmt: skip

    def update(self, number: int, group: Group, params: list[Tensor]) -> None:
        b1, b2 = group["betas"]
        by_step: dict[int, list[Tensor]] = {}
        for t in params:
            by_step.setdefault(advance([self.state[t]]), []).append(t)
        for k, (step, some) in enumerate(by_step.items()):
            lr: Any = self.scalar(number, f"lr{k}", group["lr"], some[0])
            c1: Any = self.scalar(number, f"correction1 {k}", 1.0 - b1**step, some[0])
            c2: Any = self.scalar(number, f"correction2 {k}", (1.0 - b2**step) ** 0.5, some[0])
            for t in some:
                self.move(t, group, e.cast(lr, t.dtype.core), lr / c1, c2)

    def move(self, t: Tensor, group: Group, lr: Any, size: Node, c2: Node) -> None:
        b1, b2 = group["betas"]
        p, g = node(t), node(t._grad)  # type: ignore[arg-type]
        if group["decoupled_weight_decay"]:
            g = -g if group["maximize"] else g
            p = p * (1.0 - lr * group["weight_decay"]) if group["weight_decay"] else p
        else:
            g = decayed(g, p, group)
        state = self.state[t]
        m = remember(state, "exp_avg", lerp(held(state, "exp_avg", p), g, 1 - b1))
        v = remember(state, "exp_avg_sq", held(state, "exp_avg_sq", p) * b2 + g * g * (1 - b2))
        if group["amsgrad"]:
            v = remember(state, "max_exp_avg_sq", e.maximum(held(state, "max_exp_avg_sq", p), v))
        write(t, p - e.cast(size, p.dtype) * (m / (e.sqrt(v) / e.cast(c2, p.dtype) + group["eps"])))


def lerp(a: Node, b: Node, weight: float) -> Node:
    """a + weight (b - a)"""
    return a + (b - a) * weight


class AdamW(Adam):
    """Adam whose weight decay scales the parameter instead of adding to the gradient: Loshchilov and Hutter, 2017"""

    decoupled = True

    def __init__(self, params: Any, lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2,
                 amsgrad: bool = False, **settings: Any) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **settings)


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2;  p = p - lr g / (sqrt(v) + eps)          centered: v less the square of the mean"""

    def __init__(self, params: Any, lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0, momentum: float = 0,
                 centered: bool = False, *, maximize: bool = False, foreach: Any = None, **_: Any) -> None:  # fmt: skip
        check(
            lr=(lr, isinstance(lr, Tensor) or lr >= 0.0, "learning rate"),
            e=(eps, eps >= 0.0, "epsilon value"),
            a=(alpha, alpha >= 0.0, "alpha value"),
        )
        super().__init__(
            params,
            dict(
                lr=lr,
                alpha=alpha,
                eps=eps,
                weight_decay=weight_decay,
                momentum=momentum,
                centered=centered,
                maximize=maximize,
            ),
        )

    def update(self, number: int, group: Group, params: list[Tensor]) -> None:
        lr, alpha = self.scalar(number, "lr", group["lr"], params[0]), group["alpha"]
        for t in params:
            p, state = node(t), self.state[t]
            advance([state])
            g = decayed(node(t._grad), p, group)  # type: ignore[arg-type]
            v = remember(state, "square_avg", held(state, "square_avg", p) * alpha + g * g * (1 - alpha))
            if group["centered"]:
                mean = remember(state, "grad_avg", lerp(held(state, "grad_avg", p), g, 1 - alpha))
                v = v - mean * mean
            d = g / (e.sqrt(v) + group["eps"])
            if group["momentum"]:
                d = remember(state, "momentum_buffer", held(state, "momentum_buffer", p) * group["momentum"] + d)
            write(t, p - e.cast(lr, p.dtype) * d)


class Adagrad(Optimizer):
    """v = v + g^2;  p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(v) + eps)          Duchi et al., 2011"""

    def __init__(self, params: Any, lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0, initial_accumulator_value: float = 0,
                 eps: float = 1e-10, *, maximize: bool = False, **_: Any) -> None:  # fmt: skip
        check(lr=(lr, isinstance(lr, Tensor) or lr >= 0.0, "learning rate"), e=(eps, eps >= 0.0, "epsilon value"))
        super().__init__(
            params,
            dict(
                lr=lr,
                lr_decay=lr_decay,
                eps=eps,
                weight_decay=weight_decay,
                initial=initial_accumulator_value,
                maximize=maximize,
            ),
        )

    def update(self, number: int, group: Group, params: list[Tensor]) -> None:
        step = advance([self.state[t] for t in params])
        lr = self.scalar(number, "lr", group["lr"] / (1 + (step - 1) * group["lr_decay"]), params[0])
        for t in params:
            p, state = node(t), self.state[t]
            g = decayed(node(t._grad), p, group)  # type: ignore[arg-type]
            before = node(state["sum"]) if "sum" in state else f.full(p.shape, group["initial"], p.dtype)
            v = remember(state, "sum", before + g * g)
            write(t, p - e.cast(lr, p.dtype) * (g / (e.sqrt(v) + group["eps"])))


class Adadelta(Optimizer):
    """v = rho v + (1 - rho) g^2;  d = sqrt(u + eps) / sqrt(v + eps) g;  u = rho u + (1 - rho) d^2;  p = p - lr d          Zeiler, 2012"""

    def __init__(self, params: Any, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0, *, maximize: bool = False, **_: Any) -> None:  # fmt: skip
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize))

    def update(self, number: int, group: Group, params: list[Tensor]) -> None:
        lr, rho, eps = self.scalar(number, "lr", group["lr"], params[0]), group["rho"], group["eps"]
        for t in params:
            p, state = node(t), self.state[t]
            advance([state])
            g = decayed(node(t._grad), p, group)  # type: ignore[arg-type]
            v = remember(state, "square_avg", held(state, "square_avg", p) * rho + g * g * (1 - rho))
            u = held(state, "acc_delta", p)
            d = e.sqrt(u + eps) / e.sqrt(v + eps) * g
            remember(state, "acc_delta", u * rho + d * d * (1 - rho))
            write(t, p - e.cast(lr, p.dtype) * d)
