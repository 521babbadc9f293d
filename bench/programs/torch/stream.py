"""One operation that touches much memory and computes little, its result looked at."""

import torch

F = torch.nn.functional
FUNCTIONS = {
    "copy": lambda x: x + 1.0,
    "softmax": lambda x: torch.softmax(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "gelu": F.gelu,
}


def make(weights, function):
    x, *rest = map(torch.from_numpy, weights)
    if function in FUNCTIONS:
        return lambda: FUNCTIONS[function](x).numpy()
    p = torch.nn.Parameter(x)
    p.grad = rest[0]
    optimizer = torch.optim.Adam([p])

    def step():
        optimizer.step()
        return p.detach().numpy()

    return step
