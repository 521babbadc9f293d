"""Softmax regression by gradient descent."""

import torch


def make(weights):
    W = torch.tensor(weights[0], requires_grad=True)

    def step(x, y):
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        loss = -(y * torch.log_softmax(x @ W, 1)).sum(1).mean()
        loss.backward()
        with torch.no_grad():
            W.sub_(W.grad, alpha=0.5)
        W.grad = None
        return loss.detach()

    return step
