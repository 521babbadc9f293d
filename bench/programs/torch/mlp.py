"""A multilayer perceptron."""

import torch

nn, F = torch.nn, torch.nn.functional


def model():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def loss(model, x, y):
    return F.cross_entropy(model(x), y)


def optimizer(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)
