"""Layers: functions that make their own variables, kernel and bias, in a variable scope of their own.

y = tf.layers.dense(x, 10, activation=tf.nn.relu)        dense/kernel, dense/bias; dense_1/... the next time
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.core import expr
from tinyflow.graph.node import Node
from tinyflow.ops import movement as m
from tinyflow.symbolic import image, initializers, nn, products
from tinyflow.symbolic import math as tf_math
from tinyflow.symbolic.control import cond
from tinyflow.symbolic.graph import GraphKeys
from tinyflow.symbolic.scopes import get_variable, variable_scope
from tinyflow.symbolic.tensor import Tensor, convert, operation
from tinyflow.symbolic.variable import Variable, assign_sub

ZEROS, ONES = initializers.Zeros(), initializers.Ones()


def features(x: Tensor, axis: int = -1) -> int:
    """The size of the axis that weights are made for."""
    size = x.shape[axis].value if x.shape.ndims is not None else None
    if size is None:
        raise ValueError(
            f"the size of axis {axis} of {x.name!r} (shape {x.shape}) is not known, and weights are made for it; "
            "give the placeholder that size, or call set_shape on the tensor"
        )
    return size


def weight(name: str, shape: Sequence[int], x: Tensor, how: dict[str, Any], initializer: Any) -> Variable:
    """A kernel or a bias: `how` holds the layer's keyword arguments."""
    part = name.split("_")[-1]
    return get_variable(
        name, shape, x.dtype, initializer if how.get(f"{part}_initializer") is None else how[f"{part}_initializer"],
        how.get(f"{part}_regularizer"), how.get("trainable", True), constraint=how.get(f"{part}_constraint"),
    )  # fmt: skip


def finished(y: Tensor, activation: Any, regularizer: Any) -> Tensor:
    """The activation of a layer, and its regularizer's loss listed."""
    y = y if activation is None else activation(y)
    if regularizer is not None:
        y.graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, regularizer(y))
    return y


def dense(
    inputs: Any, units: int, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None,
    bias_initializer: Any = ZEROS, kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer:
    Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None =
    None, reuse: Any = None,
) -> Tensor:  # fmt: skip
    """activation(x kernel + bias), along the last axis: (..., n) -> (..., units)."""
    how = dict(locals())
    x = convert(inputs)
    with variable_scope(name, default_name="dense", reuse=reuse):
        kernel = weight("kernel", [features(x), int(units)], x, how, None)
        y = product(x, kernel)
        if use_bias:
            y = nn.bias_add(y, weight("bias", [int(units)], x, how, None))
        return finished(y, activation, activity_regularizer)


def product(x: Tensor, kernel: Any) -> Tensor:
    return products.matmul(x, kernel) if x.shape.ndims == 2 else products.tensordot(x, kernel, 1)


def conv(
    kind: str, rank: int, inputs: Any, filters: int, kernel_size: Any, padding: str, data_format: str, how: dict[str,
    Any], convolved: Callable[[Tensor, Any], Tensor],
) -> Tensor:  # fmt: skip
    """What convolution layers share: a kernel (*window, channels, filters), a bias, and the activation."""
    x = convert(inputs)
    window = image.spatial(kernel_size, "kernel_size", None, rank)
    with variable_scope(how["name"], default_name=kind, reuse=how["reuse"]):
        channels = features(x, 1 if image.is_first(data_format) else -1)
        shape = [*window, int(filters), channels] if kind.endswith("transpose") else [*window, channels, int(filters)]
        y = convolved(x, weight("kernel", shape, x, how, None))
        if how["use_bias"]:
            y = nn.bias_add(
                y, weight("bias", [int(filters)], x, how, None), "NCHW" if image.is_first(data_format) else None
            )
        return finished(y, how["activation"], how["activity_regularizer"])


def conv2d(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid", data_format: str =
    "channels_last", dilation_rate: Any = (1, 1), activation: Any = None, use_bias: bool = True, kernel_initializer:
    Any = None, bias_initializer: Any = ZEROS, kernel_regularizer: Any = None, bias_regularizer: Any = None,
    activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool =
    True, name: str | None = None, reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A convolution of images (n, height, width, c) with filters of kernel_size: (n, h, w, filters)."""
    how = dict(locals())
    form = "NCHW" if image.is_first(data_format) else "NHWC"
    return conv(
        "conv2d",
        2,
        inputs,
        filters,
        kernel_size,
        padding,
        data_format,
        how,
        lambda x, k: image.conv2d(x, k, strides, padding, data_format=form, dilations=dilation_rate),
    )


def conv1d(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str =
    "channels_last", dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any =
    None, bias_initializer: Any = ZEROS, kernel_regularizer: Any = None, bias_regularizer: Any = None,
    activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool =
    True, name: str | None = None, reuse: Any = None,
) -> Tensor:  # fmt: skip
    """A convolution of sequences (n, width, c) with filters of kernel_size: (n, w, filters)."""
    how = dict(locals())
    return conv(
        "conv1d",
        1,
        inputs,
        filters,
        kernel_size,
        padding,
        data_format,
        how,
        lambda x, k: image.conv1d(x, k, strides, padding, dilations=dilation_rate),
    )


def conv2d_transpose(
    inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid", data_format: str =
    "channels_last", activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None, bias_initializer:
    Any = ZEROS, kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
    kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
    reuse: Any = None,
) -> Tensor:  # fmt: skip
    """The transpose of a convolution: images grow by the strides. (n, h, w, c) -> (n, H, W, filters)"""
    how = dict(locals())
    form = "NCHW" if image.is_first(data_format) else "NHWC"
    step = image.spatial(strides, "strides", None)

    def convolved(x: Tensor, kernel: Any) -> Tensor:
        def meaning(g: Node, w: Node) -> Node:
            g = image.last(g, form)
            grown = tuple(
                n * s + (max(int(k) - s, 0) if padding.lower() == "valid" else 0)
                for n, s, k in zip(g.shape[1:-1], step, w.shape, strict=False)
            )
            return image.back(image.transposed(g, w, (g.shape[0], *grown, w.shape[-2]), step, padding, (1, 1)), form)

        return operation("Conv2DBackpropInput", meaning, [x, convert(kernel)], "conv2d_transpose").outputs[0]

    return conv("conv2d_transpose", 2, inputs, filters, kernel_size, padding, data_format, how, convolved)


def pooled(
    fn: Callable[..., Tensor],
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str,
    data_format: str,
    name: str | None,
) -> Tensor:
    form = "NCHW" if image.is_first(data_format) else "NHWC"
    return fn(
        inputs,
        image.spatial(pool_size, "pool_size", None),
        image.spatial(strides, "strides", None),
        padding.upper(),
        form,
        name,
    )


def max_pooling2d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last", name: str |
    None = None,
) -> Tensor:  # fmt: skip
    """The greatest element of each window."""
    return pooled(image.max_pool, inputs, pool_size, strides, padding, data_format, name or "max_pooling2d")


def average_pooling2d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last", name: str |
    None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window."""
    return pooled(image.avg_pool, inputs, pool_size, strides, padding, data_format, name or "average_pooling2d")


def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Tensor:
    """All axes but the first joined: (n, ...) -> (n, product)."""
    x = convert(inputs)
    return operation(
        "Reshape", lambda n: m.reshape(n, (n.shape[0], expr.product(n.shape[1:]))), [x], name or "flatten"
    ).outputs[0]


def chosen(training: Any, yes: Callable[[], Tensor], no: Callable[[], Tensor]) -> Tensor:
    """By a Python bool now, by a tensor in the run."""
    if isinstance(training, Tensor | Variable):
        return cond(training, yes, no)
    return yes() if training else no()


def dropout(
    inputs: Any,
    rate: Any = 0.5,
    noise_shape: Any = None,
    seed: Any = None,
    training: Any = False,
    name: str | None = None,
) -> Tensor:
    """In training, a share `rate` of the elements is 0 and the others are scaled by 1 / (1 - rate); else nothing."""
    x = convert(inputs)
    return chosen(
        training,
        lambda: nn.dropout(x, rate=rate, noise_shape=noise_shape, seed=seed, name=name),
        lambda: tf_math.TABLE["identity"](x),
    )


def batch_normalization(
    inputs: Any, axis: Any = -1, momentum: float = 0.99, epsilon: float = 0.001, center: bool = True, scale: bool =
    True, beta_initializer: Any = ZEROS, gamma_initializer: Any = ONES, moving_mean_initializer: Any = ZEROS,
    moving_variance_initializer: Any = ONES, beta_regularizer: Any = None, gamma_regularizer: Any = None,
    beta_constraint: Any = None, gamma_constraint: Any = None, training: Any = False, trainable: bool = True, name:
    str | None = None, reuse: Any = None, renorm: bool = False, renorm_clipping: Any = None, renorm_momentum: float =
    0.99, fused: Any = None, virtual_batch_size: Any = None, adjustment: Any = None,
) -> Tensor:  # fmt: skip
    """gamma (x - mean) / sqrt(variance + epsilon) + beta: over the batch in training, by running means else.

    The updates of the running means are in the collection UPDATE_OPS: run them with the training step.
    """
    if renorm or virtual_batch_size is not None or adjustment is not None:
        raise AttributeError("batch_normalization with renorm, virtual_batch_size or adjustment is not built")
    how = dict(locals())
    x = convert(inputs)
    d = (axis[0] if isinstance(axis, list | tuple) else int(axis)) % len(x.shape)
    others = [k for k in range(len(x.shape)) if k != d]
    with variable_scope(name, default_name="batch_normalization", reuse=reuse):
        size = [features(x, d)]
        gamma = weight("gamma", size, x, how, None) if scale else None
        beta = weight("beta", size, x, how, None) if center else None
        fixed = {**how, "trainable": False}
        mean = weight("moving_mean", size, x, {**fixed, "mean_initializer": moving_mean_initializer}, None)
        variance = weight(
            "moving_variance", size, x, {**fixed, "variance_initializer": moving_variance_initializer}, None
        )
        now = nn.moments(x, others)
        by_batch = (
            chosen(training, lambda: now[0], lambda: mean.value()),
            chosen(training, lambda: now[1], lambda: variance.value()),
        )
        if training is not False:
            for average, value in zip((mean, variance), by_batch, strict=True):
                step = assign_sub(average, (average.value() - value) * (1.0 - momentum), name="AssignMovingAvg")
                x.graph.add_to_collection(GraphKeys.UPDATE_OPS, step.op)
        wide = [size[0] if k == d else 1 for k in range(len(x.shape))]
        parts = [None if p is None else reshaped(p, wide) for p in (*by_batch, beta, gamma)]
        return nn.batch_normalization(x, *parts, variance_epsilon=epsilon, name="batchnorm")


def reshaped(p: Any, shape: Sequence[int]) -> Tensor:
    from tinyflow.symbolic.array import reshape

    return reshape(p, shape)


class Layer:
    """A layer as an object: its function, with its variables shared by all its calls."""

    def __init__(self, fn: Callable[..., Tensor], kind: str, settings: dict[str, Any]) -> None:
        self._fn, self._kind, self._settings = fn, kind, settings
        self._scope: Any = None

    def __call__(self, inputs: Any, **how: Any) -> Tensor:
        if self._scope is None:
            with variable_scope(self._settings.get("name"), default_name=self._kind) as scope:
                self._scope = scope
            made = False
        else:
            made = True
        settings = {**self._settings, **how, "name": self._scope, **({"reuse": True} if made else {})}
        return self._fn(inputs, **settings)

    apply = __call__

    @property
    def variables(self) -> list[Variable]:
        return [] if self._scope is None else self._scope.global_variables()

    weights = variables

    @property
    def trainable_variables(self) -> list[Variable]:
        return [] if self._scope is None else self._scope.trainable_variables()

    trainable_weights = trainable_variables

    @property
    def kernel(self) -> Variable:
        return self._named("kernel")

    @property
    def bias(self) -> Variable:
        return self._named("bias")

    def _named(self, part: str) -> Variable:
        found = [v for v in self.variables if v.op.name == f"{self._scope.name}/{part}"]
        if not found:
            raise AttributeError(f"the layer has no {part} yet; call it first")
        return found[0]


def as_class(fn: Callable[..., Tensor], kind: str) -> Callable[..., Layer]:
    """The class of a layer's function: its arguments without the inputs."""
    import inspect

    names = list(inspect.signature(fn).parameters)[1:]

    def build(*given: Any, **named: Any) -> Layer:
        return Layer(fn, kind, {**dict(zip(names, given, strict=False)), **named})

    build.__name__, build.__doc__ = fn.__name__, fn.__doc__
    return build


Dense = as_class(dense, "dense")
Conv2D = as_class(conv2d, "conv2d")
Conv1D = as_class(conv1d, "conv1d")
Conv2DTranspose = as_class(conv2d_transpose, "conv2d_transpose")
BatchNormalization = as_class(batch_normalization, "batch_normalization")


# ------------------------------------------------------------------------------------------ of tf.contrib.layers


def l2_regularizer(scale: float, scope: str | None = None) -> Callable[[Any], Tensor | None]:
    """weights -> scale sum(weights²) / 2"""
    return lambda weights: None if scale == 0 else nn.TABLE["l2_loss"](weights) * scale


def l1_regularizer(scale: float, scope: str | None = None) -> Callable[[Any], Tensor | None]:
    """weights -> scale sum |weights|"""
    return lambda weights: None if scale == 0 else tf_math.TABLE["reduce_sum"](tf_math.TABLE["abs"](weights)) * scale


def fully_connected(
    inputs: Any, num_outputs: int, activation_fn: Any = nn.TABLE["relu"], normalizer_fn: Any = None,
    normalizer_params: Any = None, weights_initializer: Any = None, weights_regularizer: Any = None,
    biases_initializer: Any = ZEROS, biases_regularizer: Any = None, reuse: Any = None, variables_collections: Any =
    None, outputs_collections: Any = None, trainable: bool = True, scope: Any = None,
) -> Tensor:  # fmt: skip
    """activation_fn(x weights + biases); a normalizer takes the place of the biases."""
    x = convert(inputs)
    with variable_scope(scope, default_name="fully_connected", reuse=reuse):
        first = initializers.xavier_initializer() if weights_initializer is None else weights_initializer
        y = product(
            x, get_variable("weights", [features(x), int(num_outputs)], x.dtype, first, weights_regularizer, trainable)
        )
        if normalizer_fn is not None:
            y = normalizer_fn(y, **(normalizer_params or {}))
        elif biases_initializer is not None:
            y = nn.bias_add(
                y,
                get_variable("biases", [int(num_outputs)], x.dtype, biases_initializer, biases_regularizer, trainable),
            )
        return finished(y, activation_fn, None)
