"""Recurrent cells, and what runs them over a sequence.

    output, state := cell(input, state)                    (batch, n), ... -> (batch, units), ...

A cell makes its variables at its first call and uses them from then on.
S. Hochreiter, J. Schmidhuber, "Long short-term memory"; K. Cho et al., "Learning phrase representations using RNN
encoder-decoder".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tinyflow.core import dtypes
from tinyflow.symbolic import array, filling, initializers, nest, nn, products
from tinyflow.symbolic import math as tf_math
from tinyflow.symbolic.layers import features
from tinyflow.symbolic.loops import repeated
from tinyflow.symbolic.math import TABLE
from tinyflow.symbolic.scopes import get_variable, variable_scope
from tinyflow.symbolic.tensor import Tensor, as_dtype, convert
from tinyflow.symbolic.variable import Variable

sigmoid, tanh = TABLE["sigmoid"], TABLE["tanh"]


class LSTMStateTuple(NamedTuple):
    c: Any  # what the cell remembers (batch, units)
    h: Any  # what it puts out (batch, units)


class RNNCell:
    """A cell: state_size and output_size, and call(inputs, state) -> (output, new state)."""

    kind = "rnn_cell"
    state_size: Any
    output_size: int

    def __init__(self, reuse: Any = None, name: str | None = None, dtype: Any = None) -> None:
        self._reuse, self._name, self._dtype = reuse, name, dtype
        self._made: dict[Any, Variable] = {}
        self._scope: Any = None

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        inputs = convert(inputs)
        if self._scope is not None and scope is None:
            return self.call(inputs, state)
        with variable_scope(scope or self._name, default_name=self.kind, reuse=self._reuse) as made:
            self._scope = made
            return self.call(inputs, state)

    def call(self, inputs: Tensor, state: Any) -> Any:
        raise NotImplementedError("a cell defines call(inputs, state) -> (output, new state)")

    def add(self, name: str, shape: Sequence[int], x: Tensor, initializer: Any = None) -> Variable:
        """A variable of the cell, made at its first use."""
        key = (x.graph, name)
        if key not in self._made:
            self._made[key] = get_variable(name, shape, x.dtype, initializer)
        return self._made[key]

    def affine(self, xs: Sequence[Any], units: int, scope: str = "", bias: Any = None) -> Tensor:
        """[xs] kernel + bias, the xs joined: (batch, n), (batch, k) -> (batch, units)."""
        joined = array.concat([convert(x) for x in xs], 1)
        prefix = f"{scope}/" if scope else ""
        kernel = self.add(
            f"{prefix}kernel", [features(joined), units], joined, getattr(self, "_kernel_initializer", None)
        )
        return nn.bias_add(
            products.matmul(joined, kernel), self.add(f"{prefix}bias", [units], joined, bias or initializers.Zeros())
        )

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """A state of zeros for a batch."""
        return zeros_of(self.state_size, batch_size, as_dtype(dtype))

    @property
    def variables(self) -> list[Variable]:
        return list(self._made.values())

    weights = trainable_variables = trainable_weights = variables


def zeros_of(sizes: Any, batch: Any, dtype: Any) -> Any:
    return nest.map_structure(lambda n: filling.zeros([batch, n], dtype), sizes)


class BasicRNNCell(RNNCell):
    """h := tanh(W [x, h] + b)"""

    kind = "basic_rnn_cell"

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(reuse, name, dtype)
        self.state_size = self.output_size = int(num_units)
        self._activation = activation or tanh

    def call(self, inputs: Tensor, state: Any) -> Any:
        h = self._activation(self.affine([inputs, state], self.output_size))
        return h, h


class GRUCell(RNNCell):
    """r, u := sigmoid(W [x, h] + b);  c := tanh(V [x, r h] + d);  h := u h + (1 - u) c"""

    kind = "gru_cell"

    def __init__(
        self, num_units: int, activation: Any = None, reuse: Any = None, kernel_initializer: Any = None,
        bias_initializer: Any = None, name: str | None = None, dtype: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        super().__init__(reuse, name, dtype)
        self.state_size = self.output_size = int(num_units)
        self._activation, self._kernel_initializer, self._bias = (
            activation or tanh,
            kernel_initializer,
            bias_initializer,
        )

    def call(self, inputs: Tensor, state: Any) -> Any:
        gates = sigmoid(self.affine([inputs, state], 2 * self.output_size, "gates", self._bias or initializers.Ones()))
        r, u = array.split(gates, 2, 1)
        c = self._activation(self.affine([inputs, r * state], self.output_size, "candidate", self._bias))
        h = u * state + (1 - u) * c
        return h, h


class LSTMCell(RNNCell):
    """i, j, f, o := W [x, h] + b;  c := sigmoid(f + forget_bias) c + sigmoid(i) tanh(j);  h := sigmoid(o) tanh(c)

    Peepholes let the gates see c; num_proj projects h to that many units.
    """

    kind = "lstm_cell"

    def __init__(
        self, num_units: int, use_peepholes: bool = False, cell_clip: float | None = None, initializer: Any = None,
        num_proj: int | None = None, proj_clip: float | None = None, num_unit_shards: Any = None, num_proj_shards: Any
        = None, forget_bias: float = 1.0, state_is_tuple: bool = True, activation: Any = None, reuse: Any = None,
        name: str | None = None, dtype: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        super().__init__(reuse, name, dtype)
        self._units, self._peepholes, self._clip, self._kernel_initializer = (
            int(num_units),
            use_peepholes,
            cell_clip,
            initializer,
        )
        self._proj, self._proj_clip, self._forget, self._tuple = num_proj, proj_clip, forget_bias, state_is_tuple
        self._activation = activation or tanh
        self.output_size = int(num_proj or num_units)
        self.state_size = (
            LSTMStateTuple(self._units, self.output_size) if state_is_tuple else self._units + self.output_size
        )

    def call(self, inputs: Tensor, state: Any) -> Any:
        c, h = state if self._tuple else array.split(state, [self._units, self.output_size], 1)
        i, j, f, o = array.split(self.affine([inputs, h], 4 * self._units), 4, 1)
        forget, enter = sigmoid(self._seen(f + self._forget, "w_f_diag", c)), sigmoid(self._seen(i, "w_i_diag", c))
        c = forget * c + enter * self._activation(j)
        if self._clip is not None:
            c = TABLE["clip_by_value"](c, -self._clip, self._clip)
        h = sigmoid(self._seen(o, "w_o_diag", c)) * self._activation(c)
        if self._proj is not None:
            h = products.matmul(
                h, self.add("projection/kernel", [self._units, self._proj], h, self._kernel_initializer)
            )
            h = h if self._proj_clip is None else TABLE["clip_by_value"](h, -self._proj_clip, self._proj_clip)
        return h, LSTMStateTuple(c, h) if self._tuple else array.concat([c, h], 1)

    def _seen(self, gate: Tensor, name: str, c: Any) -> Tensor:
        return gate + self.add(name, [self._units], gate, self._kernel_initializer) * c if self._peepholes else gate


class BasicLSTMCell(LSTMCell):
    """LSTMCell without peepholes and projection."""

    kind = "basic_lstm_cell"

    def __init__(
        self, num_units: int, forget_bias: float = 1.0, state_is_tuple: bool = True, activation: Any = None, reuse:
        Any = None, name: str | None = None, dtype: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            num_units,
            forget_bias=forget_bias,
            state_is_tuple=state_is_tuple,
            activation=activation,
            reuse=reuse,
            name=name,
            dtype=dtype,
        )


class MultiRNNCell(RNNCell):
    """Cells on top of each other: each takes what the one below puts out."""

    kind = "multi_rnn_cell"

    def __init__(self, cells: Sequence[Any], state_is_tuple: bool = True) -> None:
        super().__init__()
        self._cells = list(cells)
        if not state_is_tuple:
            raise AttributeError("MultiRNNCell(state_is_tuple=False) is not built; states are tuples, one entry a cell")
        self.state_size = tuple(c.state_size for c in self._cells)
        self.output_size = self._cells[-1].output_size

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        with variable_scope(scope or self._scope or self.kind) as made:
            self._scope = made
            new = []
            for k, (cell, s) in enumerate(zip(self._cells, state, strict=True)):
                with variable_scope(f"cell_{k}"):
                    inputs, s = cell(inputs, s)
                    new.append(s)
            return inputs, tuple(new)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        return tuple(c.zero_state(batch_size, dtype) for c in self._cells)

    @property
    def variables(self) -> list[Variable]:
        return [v for c in self._cells for v in c.variables]


class DropoutWrapper(RNNCell):
    """A cell with dropout on what goes in, on its state, and on what comes out."""

    def __init__(
        self, cell: Any, input_keep_prob: Any = 1.0, output_keep_prob: Any = 1.0, state_keep_prob: Any = 1.0,
        variational_recurrent: bool = False, input_size: Any = None, dtype: Any = None, seed: Any = None,
        dropout_state_filter_visitor: Any = None,
    ) -> None:  # fmt: skip
        if variational_recurrent:
            raise AttributeError("DropoutWrapper(variational_recurrent=True) is not built")
        super().__init__()
        self._cell, self._keep, self._seed = cell, (input_keep_prob, state_keep_prob, output_keep_prob), seed
        self.state_size, self.output_size = cell.state_size, cell.output_size

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        before, within, after = self._keep
        output, new = self._cell(nn.dropout(inputs, before, seed=self._seed), state, *([scope] if scope else []))
        if within != 1.0:
            new = nest.map_structure(lambda s: nn.dropout(s, within, seed=self._seed), new)
        return nn.dropout(output, after, seed=self._seed), new

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        return self._cell.zero_state(batch_size, dtype)

    @property
    def variables(self) -> list[Variable]:
        return self._cell.variables


class ResidualWrapper(DropoutWrapper):
    """A cell whose input is added to its output."""

    def __init__(self, cell: Any, residual_fn: Any = None) -> None:
        super().__init__(cell)
        self._join = residual_fn or (lambda x, y: x + y)

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        output, new = self._cell(inputs, state, *([scope] if scope else []))
        return nest.map_structure(self._join, inputs, output), new


# ------------------------------------------------------------------------------------------ over a sequence


def static_rnn(
    cell: Any, inputs: Sequence[Any], initial_state: Any = None, dtype: Any = None, sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:  # fmt: skip
    """(outputs, last state) of a cell over a list of inputs (batch, n).

    sequence_length  (batch,) how many inputs count for each example: from there on outputs are 0 and the state stays
    """
    if not inputs:
        raise ValueError("static_rnn of no inputs")
    x = array.stack([convert(x) for x in inputs])
    if initial_state is None and dtype is None:
        raise ValueError("a recurrent network wants an initial_state, or a dtype to make one of zeros")
    outputs, state = along(cell, x, initial_state, dtype, sequence_length, scope)
    return nest_unstacked(outputs, len(inputs)), state


def nest_unstacked(outputs: Any, count: int) -> list[Any]:
    parts = [array.unstack(y, count) for y in nest.flatten(outputs)]
    return [nest.pack(outputs, ys) for ys in zip(*parts, strict=True)]


def along(cell: Any, x: Tensor, initial_state: Any, dtype: Any, lengths: Any, scope: Any) -> tuple[Any, Any]:
    """A cell over inputs (time, batch, n): its outputs (time, batch, units) and its last state."""
    with variable_scope(scope or "rnn"):
        start = cell.zero_state(x.shape[1], dtype or x.dtype) if initial_state is None else initial_state
        sequences, form = [x], []
        if lengths is not None:
            lengths = tf_math.to_int32(lengths)
            sequences.append(filling.range_(array.shape(x)[0]))

        def step(states: list[Tensor], slices: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            state = nest.pack(start, states)
            output, new = cell(slices[0], state)
            if lengths is not None:
                on = TABLE["less"](slices[1], lengths)
                output = nest.map_structure(lambda y: array.where(on, y, filling.zeros_like(y)), output)
                new = nest.map_structure(lambda a, b: array.where(on, a, b), new, state)
            form.append(output)
            return nest.flatten(new), nest.flatten(output)

        last, outputs = repeated("RNN", [convert(s) for s in nest.flatten(start)], sequences, step)
    return nest.pack(form[0], outputs), nest.pack(start, last)


def dynamic_rnn(
    cell: Any, inputs: Any, sequence_length: Any = None, initial_state: Any = None, dtype: Any = None,
    parallel_iterations: Any = None, swap_memory: bool = False, time_major: bool = False, scope: Any = None,
) -> tuple[Tensor, Any]:  # fmt: skip
    """(outputs (batch, time, units), last state) of a cell over inputs (batch, time, n): a loop, whatever the number of steps.

    time_major puts the time before the batch. sequence_length as in static_rnn
    """
    x = convert(inputs)
    if x.shape.ndims is None:
        raise ValueError(f"dynamic_rnn: the number of axes of {x.name!r} must be known when the graph is written")
    outputs, state = along(cell, x if time_major else turned(x), initial_state, dtype, sequence_length, scope)
    return outputs if time_major else nest.map_structure(turned, outputs), state


def turned(x: Tensor) -> Tensor:
    """(batch, time, ...) from (time, batch, ...), and back."""
    return array.transpose(x, [1, 0, *range(2, x.shape.ndims)])


def static_bidirectional_rnn(
    cell_fw: Any, cell_bw: Any, inputs: Sequence[Any], initial_state_fw: Any = None, initial_state_bw: Any = None,
    dtype: Any = None, sequence_length: Any = None, scope: Any = None,
) -> tuple[list[Tensor], Any, Any]:  # fmt: skip
    """(outputs of both directions joined, last state forwards, last state backwards)."""
    with variable_scope(scope or "bidirectional_rnn"):
        forward, state_fw = static_rnn(cell_fw, inputs, initial_state_fw, dtype, sequence_length, "fw")
        turned = turn(list(inputs), sequence_length)
        backward, state_bw = static_rnn(cell_bw, turned, initial_state_bw, dtype, sequence_length, "bw")
        joined = [array.concat([a, b], 1) for a, b in zip(forward, turn(backward, sequence_length), strict=True)]
    return joined, state_fw, state_bw


def turn(xs: list[Any], lengths: Any) -> list[Any]:
    """A list of (batch, n) in reverse order; with lengths, each example's own part of it."""
    return (
        xs[::-1] if lengths is None else array.unstack(reverse_sequence(array.stack(xs, 1), lengths, 1, 0), len(xs), 1)
    )


def reverse_sequence(
    input: Any, seq_lengths: Any, seq_axis: int | None = None, batch_axis: int | None = None, name: str | None = None,
    seq_dim: int | None = None, batch_dim: int | None = None,
) -> Tensor:  # fmt: skip
    """The first `length` elements along an axis in reverse order, for each example; the others stay."""
    from tinyflow.graph.node import Node
    from tinyflow.ops import elementwise as e
    from tinyflow.ops import functions as f
    from tinyflow.ops import indexing
    from tinyflow.ops import movement as m
    from tinyflow.symbolic.tensor import tensor

    axis, batch = (
        int(seq_dim if seq_axis is None else seq_axis),
        int(batch_dim if batch_axis is None else (batch_axis or 0)),
    )

    def reverse(x: Node, n: Node) -> Node:
        order = (batch, axis, *(d for d in range(x.ndim) if d not in (batch, axis)))
        y = m.permute(x, order)
        at = f.position(y.shape[:2], 1, dtypes.int32)
        length = m.expand(m.expand_dims(e.cast(n, dtypes.int32), 1), y.shape[:2])
        z = indexing.gather(y, e.where(e.less(at, length), length - at - 1, at), batch=1)
        return m.permute(z, m.inverse(order))

    return tensor("ReverseSequence", reverse, [convert(input), convert(seq_lengths)], name or "ReverseSequence")


def bidirectional_dynamic_rnn(
    cell_fw: Any, cell_bw: Any, inputs: Any, sequence_length: Any = None, initial_state_fw: Any = None,
    initial_state_bw: Any = None, dtype: Any = None, parallel_iterations: Any = None, swap_memory: bool = False,
    time_major: bool = False, scope: Any = None,
) -> tuple[tuple[Tensor, Tensor], tuple[Any, Any]]:  # fmt: skip
    """((outputs forwards, outputs backwards), (last states)) over inputs (batch, time, n)."""
    x = convert(inputs)
    axis = 0 if time_major else 1

    def reversed_(t: Tensor) -> Tensor:
        return (
            array.reverse(t, [axis])
            if sequence_length is None
            else reverse_sequence(t, sequence_length, axis, 1 - axis)
        )

    with variable_scope(scope or "bidirectional_rnn"):
        forward, state_fw = dynamic_rnn(
            cell_fw, x, sequence_length, initial_state_fw, dtype, time_major=time_major, scope="fw"
        )
        backward, state_bw = dynamic_rnn(
            cell_bw, reversed_(x), sequence_length, initial_state_bw, dtype, time_major=time_major, scope="bw"
        )
    return (forward, reversed_(backward)), (state_fw, state_bw)
