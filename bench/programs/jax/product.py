"""One matrix product of operands as they lie or turned, alone or many, its result looked at."""

import jax
import numpy as np


def make(weights, turned=""):
    a, b = map(jax.numpy.array, weights)
    product = jax.jit(lambda a, b: (a.mT if "a" in turned else a) @ (b.mT if "b" in turned else b))

    def step():
        return np.asarray(product(a, b))

    return step
