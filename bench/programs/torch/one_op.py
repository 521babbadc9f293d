"""One operation on one number, looked at."""

import torch


def make(weights):
    def step(value):
        return torch.from_numpy(value) + 1.0

    return step
