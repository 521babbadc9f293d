"""One matrix product of operands as they lie or turned, alone or many, its result looked at."""

import torch


def make(weights, turned=""):
    a, b = map(torch.from_numpy, weights)
    a, b = a.mT if "a" in turned else a, b.mT if "b" in turned else b

    def step():
        return torch.matmul(a, b).numpy()

    return step
