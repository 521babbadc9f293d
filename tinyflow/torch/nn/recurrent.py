"""Recurrent cells, and the layers that run them along a sequence. All weights are uniform in ±1/sqrt(hidden_size).

RNN    h' = tanh(W x + b + U h + c)
LSTM   i, f, g, o = W x + b + U h + c;  c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c')
GRU    r = sigmoid(..), z = sigmoid(..), n = tanh(W x + b + r (U h + c));  h' = (1 - z) n + z h
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tinyflow.torch.creation import empty, zeros
from tinyflow.torch.functions import FUNCTIONS
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


def weights(module: Module, sizes: list[tuple[str, tuple[int, ...]]], hidden: int, bias: bool) -> None:
    bound = 1.0 / math.sqrt(hidden) if hidden else 0.0
    for name, shape in sizes:
        p = Parameter(empty(*shape)) if bias or "bias" not in name else None
        module.register_parameter(name, p)
        if p is not None:
            init.uniform_(p, -bound, bound)


def cell(kind: str) -> type[Module]:
    gates, states, step = KINDS[kind]

    def __init__(
        self: Any, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", **_: Any
    ) -> None:
        Module.__init__(self)
        self.input_size, self.hidden_size, self.nonlinearity = input_size, hidden_size, nonlinearity
        n = gates * hidden_size
        weights(
            self,
            [("weight_ih", (n, input_size)), ("weight_hh", (n, hidden_size)), ("bias_ih", (n,)), ("bias_hh", (n,))],
            hidden_size,
            bias,
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
                 dropout: float = 0.0, bidirectional: bool = False, nonlinearity: str = "tanh", **_: Any) -> None:  # fmt: skip
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers, self.batch_first = (
            input_size,
            hidden_size,
            num_layers,
            batch_first,
        )
        self.dropout, self.bidirectional, self.nonlinearity = dropout, bidirectional, nonlinearity
        self.ends = ("", "_reverse") if bidirectional else ("",)
        n = KINDS[self.kind][0] * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * len(self.ends)
            for end in self.ends:
                tail = f"l{layer}{end}"
                weights(self, [(f"weight_ih_{tail}", (n, width)), (f"weight_hh_{tail}", (n, hidden_size)), (f"bias_ih_{tail}", (n,)), (f"bias_hh_{tail}", (n,))], hidden_size, bias)  # fmt: skip

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        x: Any = input
        alone = x.ndim == 2
        x = x.unsqueeze(1) if alone else x.transpose(0, 1) if self.batch_first else x
        count = KINDS[self.kind][1]
        rows = self.num_layers * len(self.ends)
        if hx is None:
            start = (zeros(rows, x.shape[1], self.hidden_size, dtype=x.dtype),) * count
        else:
            start = tuple(h.unsqueeze(1) if alone else h for h in (hx if isinstance(hx, tuple) else (hx,)))
        steps = x.unbind(0)
        last: list[State] = []
        for layer in range(self.num_layers):
            runs = [
                self._run(steps, layer, end, tuple(s[len(last) + k] for s in start)) for k, end in enumerate(self.ends)
            ]
            last += [state for _, state in runs]
            steps = (
                [FUNCTIONS["cat"](parts, -1) for parts in zip(*(ys for ys, _ in runs), strict=True)]
                if len(runs) > 1
                else runs[0][0]
            )
            if self.dropout and layer < self.num_layers - 1:
                steps = [F.dropout(y, self.dropout, self.training) for y in steps]
        y = FUNCTIONS["stack"](list(steps), 0)
        y = y.squeeze(1) if alone else y.transpose(0, 1) if self.batch_first else y
        final = tuple(FUNCTIONS["stack"]([s[k] for s in last], 0) for k in range(count))
        final = tuple(h.squeeze(1) for h in final) if alone else final
        return y, final if count > 1 else final[0]

    def _run(self, steps: Any, layer: int, end: str, state: State) -> tuple[list[Tensor], State]:
        """One layer, in one direction."""
        w = tuple(getattr(self, f"{name}_l{layer}{end}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        step = KINDS[self.kind][2]
        out: list[Tensor] = []
        for x in reversed(steps) if end else steps:
            state = step(x, state, w, self.nonlinearity)
            out.append(state[0])
        return (out[::-1] if end else out), state

    def flatten_parameters(self) -> None:
        pass

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        text += f", num_layers={self.num_layers}" if self.num_layers != 1 else ""
        text += f", batch_first={self.batch_first}" if self.batch_first else ""
        text += f", dropout={self.dropout}" if self.dropout else ""
        return text + (f", bidirectional={self.bidirectional}" if self.bidirectional else "")


RNN, LSTM, GRU = (type(kind, (Recurrent,), {"kind": kind, "__module__": __name__}) for kind in KINDS)
