"""A multilayer perceptron under Adam."""

from functools import partial

import jax
import jax.numpy as jnp


def loss_of(p, x, y):
    h = jax.nn.relu(x @ p[0].T + p[1])
    h = jax.nn.relu(h @ p[2].T + p[3])
    scores = jax.nn.log_softmax(h @ p[4].T + p[5])
    return -jnp.take_along_axis(scores, y[:, None], 1).mean()


def adam(p, g, m, v, t, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    return p - lr * (m / (1 - b1**t)) / (jnp.sqrt(v / (1 - b2**t)) + eps), m, v


@partial(jax.jit, donate_argnums=0)
def update(state, x, y):
    p, m, v, t = state
    loss, grads = jax.value_and_grad(loss_of)(p, x, y)
    new = [adam(*args, t + 1) for args in zip(p, grads, m, v)]
    return (*map(list, zip(*new)), t + 1), loss


def make(weights):
    p = [jnp.array(w) for w in weights]
    state = (p, [jnp.zeros_like(w) for w in p], [jnp.zeros_like(w) for w in p], jnp.float32(0))

    def step(x, y):
        nonlocal state
        state, loss = update(state, x, y.astype("int32"))
        return loss

    return step
