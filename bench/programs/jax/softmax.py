"""Softmax regression by gradient descent."""

import jax
import jax.numpy as jnp


def loss_of(W, x, y):
    return -(y * jax.nn.log_softmax(x @ W)).sum(1).mean()


@jax.jit
def update(W, x, y):
    loss, grad = jax.value_and_grad(loss_of)(W, x, y)
    return W - 0.5 * grad, loss


def make(weights):
    W = jnp.array(weights[0])

    def step(x, y):
        nonlocal W
        W, loss = update(W, x, y)
        return loss

    return step
