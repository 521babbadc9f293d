"""Recurrent cells, and the layers that run them along a sequence. All weights are uniform in ±1/sqrt(hidden_size).

RNN    h' = tanh(W x + b + U h + c)
LSTM   i, f, g, o = W x + b + U h + c;  c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c')
GRU    r = sigmoid(..), z = sigmoid(..), n = tanh(W x + b + r (U h + c));  h' = (1 - z) n + z h
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.core import expr
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.movement import slice_
from tinyflow.ops.recurrence import Recurrence
from tinyflow.torch.creation import empty, zeros
from tinyflow.torch.functions import FUNCTIONS, lift
from tinyflow.torch.nn import functional as F
from tinyflow.torch.nn import init
from tinyflow.torch.nn.module import Module, Parameter
from tinyflow.torch.tensor import Tensor

State = tuple[Tensor, ...]
linear = FUNCTIONS["linear"]


def rnn_step(x: Tensor, state: State, w: tuple[Any, ...], squash: str) -> State:
    y: Any = linear(x, w[0], w[2]) + linear(state[0], w[1], w[3])
    return (y.tanh() if squash == "tanh" else y.relu(),)


def lstm_step(x: Tensor, state: State, w: tuple[Any, ...], _: str) -> State:
    h, c = state
    i, f, g, o = (linear(x, w[0], w[2]) + linear(h, w[1], w[3])).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(x: Tensor, state: State, w: tuple[Any, ...], _: str) -> State:
    h: Any = state[0]
    (xr, xz, xn), (hr, hz, hn) = linear(x, w[0], w[2]).chunk(3, -1), linear(h, w[1], w[3]).chunk(3, -1)
    r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
    n = (xn + r * hn).tanh()
    return (n + z * (h - n),)


# name -> (gates, how many tensors the state has, the step)
KINDS: dict[str, tuple[int, int, Callable[..., State]]] = {
    "RNN": (1, 1, rnn_step),
    "LSTM": (4, 2, lstm_step),
    "GRU": (3, 1, gru_step),
}


def weights(module: Module, sizes: list[tuple[str, tuple[int, ...]]], hidden: int, bias: bool, **kind: Any) -> None:
    bound = 1.0 / math.sqrt(hidden) if hidden else 0.0
    for name, shape in sizes:
        p = Parameter(empty(*shape, **kind)) if bias or "bias" not in name else None
        module.register_parameter(name, p)
        if p is not None:
            init.uniform_(p, -bound, bound)


def cell(kind: str) -> type[Module]:
    gates, states, step = KINDS[kind]

    def __init__(
        self: Any,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        Module.__init__(self)
        self.input_size, self.hidden_size, self.nonlinearity = input_size, hidden_size, nonlinearity
        n = gates * hidden_size
        weights(
            self,
            [("weight_ih", (n, input_size)), ("weight_hh", (n, hidden_size)), ("bias_ih", (n,)), ("bias_hh", (n,))],
            hidden_size,
            bias,
            device=device,
            dtype=dtype,
        )

    def forward(self: Any, input: Tensor, hx: Any = None) -> Any:
        state = hx if isinstance(hx, tuple) else (hx,) if hx is not None else None
        if state is None:
            state = (zeros(*input.shape[:-1], self.hidden_size, dtype=input.dtype),) * states
        new = step(input, state, (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh), self.nonlinearity)
        return new if states > 1 else new[0]

    def extra_repr(self: Any) -> str:
        return f"{self.input_size}, {self.hidden_size}"

    return type(
        f"{kind}Cell",
        (Module,),
        {"__init__": __init__, "forward": forward, "extra_repr": extra_repr, "__module__": __name__},
    )


RNNCell, LSTMCell, GRUCell = cell("RNN"), cell("LSTM"), cell("GRU")


class Recurrent(Module):
    """RNN, LSTM and GRU over a sequence (length, batch, in), or (batch, length, in) with batch_first."""

    kind: str

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, nonlinearity: str = "tanh",
                 device: Any = None, dtype: Any = None) -> None:  # fmt: skip
        super().__init__()
        if proj_size and (self.kind != "LSTM" or not 0 <= proj_size < hidden_size):
            raise ValueError("proj_size has to be smaller than hidden_size, and is for LSTM only")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.proj_size, self.bias = batch_first, proj_size, bias
        self.dropout, self.bidirectional, self.nonlinearity = dropout, bidirectional, nonlinearity
        self.ends = ("", "_reverse") if bidirectional else ("",)
        n, out = KINDS[self.kind][0] * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else out * len(self.ends)
            for end in self.ends:
                tail = f"l{layer}{end}"
                sizes = [(f"weight_ih_{tail}", (n, width)), (f"weight_hh_{tail}", (n, out)), (f"bias_ih_{tail}", (n,)), (f"bias_hh_{tail}", (n,))]  # fmt: skip
                sizes += [(f"weight_hr_{tail}", (out, hidden_size))] * bool(proj_size)
                weights(self, sizes, hidden_size, bias, device=device, dtype=dtype)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        x: Any = input
        alone = x.ndim == 2
        self._check(x)
        x = x.unsqueeze(1) if alone else x.transpose(0, 1) if self.batch_first else x
        start = self._start(x, hx, alone)
        last: list[State] = []
        for layer in range(self.num_layers):
            runs = [self._run(x, layer, end, [s[len(last) + k] for s in start]) for k, end in enumerate(self.ends)]
            last += [state for _, *state in runs]  # type: ignore[misc]
            x = FUNCTIONS["cat"]([y for y, *_ in runs], -1) if len(runs) > 1 else runs[0][0]
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        y = x.squeeze(1) if alone else x.transpose(0, 1) if self.batch_first else x
        final = tuple(FUNCTIONS["stack"](list(parts), 0) for parts in zip(*last, strict=True))
        final = tuple(h.squeeze(1) for h in final) if alone else final
        return y, final if len(final) > 1 else final[0]

    def _check(self, x: Tensor) -> None:
        if x.ndim not in (2, 3):
            raise ValueError(f"{self.kind}: Expected input to be 2D or 3D, got {x.ndim}D instead")
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}"
            )

    def _start(self, x: Tensor, hx: Any, alone: bool) -> State:
        """The states of all layers and directions before the first step, zeros if none are given."""
        rows, batch = self.num_layers * len(self.ends), x.shape[1]
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: KINDS[self.kind][1]]
        if hx is None:
            return tuple(zeros(rows, batch, n, dtype=x.dtype) for n in sizes)
        given = hx if isinstance(hx, tuple) else (hx,)
        for k, (h, n) in enumerate(zip(given, sizes, strict=True)):
            want = (rows, n) if alone else (rows, batch, n)
            if tuple(h.shape) != want:
                name = f"hidden[{k}]" if len(sizes) > 1 else "hidden"
                raise RuntimeError(f"Expected {name} size {want}, got {list(h.shape)}")
        return tuple(h.unsqueeze(1) if alone else h for h in given)

    def _run(self, x: Any, layer: int, end: str, state: list[Any]) -> Any:
        """One layer, in one direction: its outputs at all steps, and the states after the last."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        w = [getattr(self, f"{name}_l{layer}{end}", None) for name in names]
        return LAYERS[self.kind](x, state, w, end != "", self.nonlinearity)

    def flatten_parameters(self) -> None:
        pass

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        text += f", proj_size={self.proj_size}" if self.proj_size else ""
        text += f", num_layers={self.num_layers}" if self.num_layers != 1 else ""
        text += f", batch_first={self.batch_first}" if self.batch_first else ""
        text += f", dropout={self.dropout}" if self.dropout else ""
        return text + (f", bidirectional={self.bidirectional}" if self.bidirectional else "")


RNN, LSTM, GRU = (type(kind, (Recurrent,), {"kind": kind, "__module__": __name__}) for kind in KINDS)


# ------------------------------------------------------------------------------------------ layers as loops


def along(step: Callable[..., Sequence[Node]]) -> Callable[..., list[Node]]:
    """A layer, by its step: of what the input adds to the gates, the states and the product of h with its weights."""

    def layer(x: Node, start: Sequence[Node], w: Sequence[Any], reverse: bool, squash: str) -> list[Node]:
        w_ih, w_hh, b_ih, b_hh, w_hr = w
        loop = Recurrence(x.shape[0], reverse)
        states, now = [loop.state(s) for s in start], loop.slice(x)
        by_x, by_h = matmul(now, w_ih, transpose_b=True), matmul(states[0], w_hh, transpose_b=True)
        if b_ih is not None:
            by_x, by_h = by_x + b_ih, by_h + b_hh
        new = list(step(by_x, states, by_h, squash))
        if w_hr is not None:
            new[0] = matmul(new[0], w_hr, transpose_b=True)
        loop.close(new)
        return loop.results([loop.each(loop.new[0]), *(loop.final(k) for k in range(len(new)))])

    return layer


def parts(gates: Node, count: int) -> list[Node]:
    batch, n = gates.shape[0], expr.floordiv(gates.shape[1], count)
    return [slice_(gates, (0, expr.mul(n, k)), (batch, n)) for k in range(count)]


def rnn_gates(x: Node, states: Sequence[Node], by_h: Node, squash: str) -> Sequence[Node]:
    return ((e.tanh if squash == "tanh" else e.relu)(x + by_h),)


def lstm_gates(x: Node, states: Sequence[Node], by_h: Node, _: str) -> Sequence[Node]:
    i, f, g, o = parts(x + by_h, 4)
    c = e.sigmoid(f) * states[1] + e.sigmoid(i) * e.tanh(g)
    return e.sigmoid(o) * e.tanh(c), c


def gru_gates(x: Node, states: Sequence[Node], by_h: Node, _: str) -> Sequence[Node]:
    (xr, xz, xn), (hr, hz, hn) = parts(x, 3), parts(by_h, 3)
    z, n = e.sigmoid(xz + hz), e.tanh(xn + e.sigmoid(xr + hr) * hn)
    return (n + z * (states[0] - n),)


LAYERS = {
    kind: lift(kind.lower(), along(step))
    for kind, step in (("RNN", rnn_gates), ("LSTM", lstm_gates), ("GRU", gru_gates))
}
