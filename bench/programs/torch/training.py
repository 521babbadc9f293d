"""The training step of the programs that have a model, a loss and an optimizer."""

import torch


def make(program, weights, settings):
    model = program.model(**settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
    loss_of, optimizer = program.loss, program.optimizer(model.parameters())

    def step(*batch):
        loss = loss_of(model, *[torch.from_numpy(a) for a in batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
