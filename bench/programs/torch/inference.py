"""The step of the programs that have a model and are asked, not trained. What a model keeps comes back to it."""

import torch


def asked(program, weights, settings):
    """The model with these weights, and what it is given besides the input when it begins."""
    model = program.model(**settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
    return model, program.state(**settings) if hasattr(program, "state") else []


def make(program, weights, settings):
    model, kept = asked(program, weights, settings)
    place, context = 0, settings.get("context", 1)

    def step(x):
        nonlocal kept, place
        with torch.no_grad():
            if not kept:
                return model(torch.from_numpy(x)).numpy()
            scores, *kept = model(torch.from_numpy(x), torch.tensor([place]), *kept)
            place = (place + 1) % context
            return scores.numpy()

    return step
