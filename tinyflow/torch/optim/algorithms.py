"""The rules by which parameters move. g: gradient, p: parameter, t: step, as in each docstring's formula."""

from __future__ import annotations

from typing import Any

from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.torch.optim.optimizer import Group, Optimizer, check
from tinyflow.torch.tensor import Tensor

Nodes = dict[str, Node]


def decayed(g: Node, p: Node, group: Group) -> Node:
    """The gradient to descend: turned round to maximize, with weight decay added."""
    g = -g if group["maximize"] else g
    return g + p * group["weight_decay"] if group["weight_decay"] else g


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

    counts = False

    def parts(self, group: Group) -> dict[str, float | None]:
        first = None if group["dampening"] else 0.0  # without dampening, b = g is momentum 0 + g
        return {"momentum_buffer": first} if group["momentum"] else {}

    @staticmethod
    def move(p: Node, g: Node, n: Nodes, state: Nodes, group: Group) -> Node:
        m, g = group["momentum"], decayed(g, p, group)
        if m:
            before = state.get("momentum_buffer")
            b = state["momentum_buffer"] = g if before is None else before * m + g * (1.0 - group["dampening"])
            g = g + b * m if group["nesterov"] else b
        return p - e.cast(n["lr"], p.dtype) * g


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

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        b1, b2 = group["betas"]
        return {"lr": group["lr"], "correction1": 1.0 - b1**step, "correction2": (1.0 - b2**step) ** 0.5}

    def parts(self, group: Group) -> dict[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0, **({"max_exp_avg_sq": 0.0} if group["amsgrad"] else {})}

    @staticmethod
    def move(p: Node, g: Node, n: Nodes, state: Nodes, group: Group) -> Node:
        (b1, b2), lr = group["betas"], n["lr"]
        if group["decoupled_weight_decay"]:
            g = -g if group["maximize"] else g
            p = p * (1.0 - lr * group["weight_decay"]) if group["weight_decay"] else p
        else:
            g = decayed(g, p, group)
        m = state["exp_avg"] = lerp(state["exp_avg"], g, 1 - b1)
        v = state["exp_avg_sq"] = state["exp_avg_sq"] * b2 + g * g * (1 - b2)
        if group["amsgrad"]:
            v = state["max_exp_avg_sq"] = e.maximum(state["max_exp_avg_sq"], v)
        size = e.cast(lr / n["correction1"], p.dtype)
        return p - size * (m / (e.sqrt(v) / e.cast(n["correction2"], p.dtype) + group["eps"]))


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
                 centered: bool = False, *, maximize: bool = False,
                 foreach: Any = None, capturable: bool = False, differentiable: bool = False) -> None:  # fmt: skip
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

    def parts(self, group: Group) -> dict[str, float | None]:
        more = {"momentum_buffer": group["momentum"], "grad_avg": group["centered"]}
        return {"square_avg": 0.0, **{name: 0.0 for name, wanted in more.items() if wanted}}

    @staticmethod
    def move(p: Node, g: Node, n: Nodes, state: Nodes, group: Group) -> Node:
        alpha, g = group["alpha"], decayed(g, p, group)
        v = state["square_avg"] = state["square_avg"] * alpha + g * g * (1 - alpha)
        if group["centered"]:
            mean = state["grad_avg"] = lerp(state["grad_avg"], g, 1 - alpha)
            v = v - mean * mean
        d = g / (e.sqrt(v) + group["eps"])
        if group["momentum"]:
            d = state["momentum_buffer"] = state["momentum_buffer"] * group["momentum"] + d
        return p - e.cast(n["lr"], p.dtype) * d


class Adagrad(Optimizer):
    """v = v + g^2;  p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(v) + eps)          Duchi et al., 2011"""

    def __init__(self, params: Any, lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0, initial_accumulator_value: float = 0,
                 eps: float = 1e-10, foreach: Any = None, *, maximize: bool = False, differentiable: bool = False, fused: Any = None) -> None:  # fmt: skip
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

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        return {"lr": group["lr"] / (1 + (step - 1) * group["lr_decay"])}

    def parts(self, group: Group) -> dict[str, float | None]:
        return {"sum": group["initial"]}

    @staticmethod
    def move(p: Node, g: Node, n: Nodes, state: Nodes, group: Group) -> Node:
        g = decayed(g, p, group)
        v = state["sum"] = state["sum"] + g * g
        return p - e.cast(n["lr"], p.dtype) * (g / (e.sqrt(v) + group["eps"]))


class Adadelta(Optimizer):
    """v = rho v + (1 - rho) g^2;  d = sqrt(u + eps) / sqrt(v + eps) g;  u = rho u + (1 - rho) d^2;  p = p - lr d          Zeiler, 2012"""

    def __init__(self, params: Any, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0, foreach: Any = None, *,
                 capturable: bool = False, maximize: bool = False, differentiable: bool = False) -> None:  # fmt: skip
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize))

    def parts(self, group: Group) -> dict[str, float | None]:
        return {"square_avg": 0.0, "acc_delta": 0.0}

    @staticmethod
    def move(p: Node, g: Node, n: Nodes, state: Nodes, group: Group) -> Node:
        rho, eps, u = group["rho"], group["eps"], state["acc_delta"]
        g = decayed(g, p, group)
        v = state["square_avg"] = state["square_avg"] * rho + g * g * (1 - rho)
        d = e.sqrt(u + eps) / e.sqrt(v + eps) * g
        state["acc_delta"] = u * rho + d * d * (1 - rho)
        return p - e.cast(n["lr"], p.dtype) * d
