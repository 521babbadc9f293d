"""A small convolutional network: LeCun et al., 1998, in the sizes of TensorFlow's tutorial."""

import torch

nn, F = torch.nn, torch.nn.functional


def model():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(7 * 7 * 64, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )


def loss(model, x, y):
    return F.cross_entropy(model(x), y)


def optimizer(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)
