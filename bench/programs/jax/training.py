"""The training step of the programs that have a loss and an optimizer: one function, its state donated at each step."""

from functools import partial

import jax
import jax.numpy as jnp

KEPT = 0.9  # of running statistics at each step


def sgd(lr, momentum):
    def move(t, p, g, b):
        b = momentum * b + g
        return p - lr * b, b

    return move, 1


def adam(lr, b1=0.9, b2=0.999, eps=1e-8, decay=0.0):
    """Kingma and Ba, 2014; decay scales the parameter: Loshchilov and Hutter, 2017"""

    def move(t, p, g, m, v):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        return p * (1 - lr * decay) - lr * (m / (1 - b1**t)) / (jnp.sqrt(v / (1 - b2**t)) + eps), m, v

    return move, 2


def make(program, weights, settings):
    """A program's loss gives the statistics of the batch, too, where it keeps running ones."""
    move, slots = program.optimizer

    def loss_of(p, *batch):
        result = program.loss(p, *batch, **settings)
        return result if isinstance(result, tuple) else (result, {})

    @partial(jax.jit, donate_argnums=0)
    def update(state, *batch):
        p, moments, running, t = state
        (loss, seen), grads = jax.value_and_grad(loss_of, has_aux=True)(p, *batch)
        moved = {name: move(t + 1, p[name], grads[name], *(m[name] for m in moments)) for name in p}
        p, *moments = ({name: values[k] for name, values in moved.items()} for k in range(slots + 1))
        running = jax.tree.map(lambda old, new: KEPT * old + (1 - KEPT) * new, running, seen)
        return (p, moments, running, t + 1), loss

    p = {name: jnp.array(w) for name, w in weights.items()}
    state = None

    def step(*batch):
        nonlocal state
        batch = [a.astype("int32") if a.dtype == "int64" else a for a in batch]
        if state is None:
            running = jax.tree.map(lambda s: jnp.zeros(s.shape), jax.eval_shape(loss_of, p, *batch)[1])
            state = (
                p,
                [{name: jnp.zeros_like(w) for name, w in p.items()} for _ in range(slots)],
                running,
                jnp.float32(0),
            )
        state, loss = update(state, *batch)
        return loss

    return step
