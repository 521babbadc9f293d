"""One convolution and, where it is trained, both its gradients, all looked at."""

import torch


def make(weights, trained=False, **options):
    x, w, dy = map(torch.from_numpy, weights)  # (B, C, ...), (K, C / groups, ...), (B, K, ...)
    conv = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
    if not trained:
        return lambda: (conv(x, w, **options).numpy(),)
    x.requires_grad_(True)
    w.requires_grad_(True)

    def step():
        y = conv(x, w, **options)
        dx, dw = torch.autograd.grad(y, (x, w), dy)
        return y.detach().numpy(), dx.numpy(), dw.numpy()

    return step
