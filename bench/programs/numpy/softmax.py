"""Softmax regression by gradient descent, its gradient written by hand."""

import numpy as np


def make(weights):
    W = weights[0].copy()

    def step(x, y):
        z = x @ W
        z -= z.max(1, keepdims=True)
        p = np.exp(z)
        total = p.sum(1, keepdims=True)
        loss = (np.log(total[:, 0]) - (y * z).sum(1)).mean()
        p /= total
        p -= y
        p *= 0.5 / len(x)
        W[...] -= x.T @ p
        return loss

    return step
