"""A thousand operations on sixteen numbers, one after the other."""

import torch


def make(weights):
    a = torch.from_numpy(weights[0])

    def step(x):
        x = torch.from_numpy(x)
        for _ in range(499):
            x = x * a
            x = x + a
        return x.mean()

    return step
