"""A network that names what each pixel belongs to, down through four levels and up again: Ronneberger et al., 2015."""

import torch

nn, F = torch.nn, torch.nn.functional


def double(channels, out):
    """Two convolutions, each with batch norm and relu."""
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, channels=3, classes=4, widths=(32, 64, 128, 256)):
        super().__init__()
        self.down = nn.ModuleList([double(a, b) for a, b in zip((channels, *widths), widths)])
        pairs = list(zip(widths[:0:-1], widths[-2::-1]))  # (256, 128), (128, 64), (64, 32)
        self.up = nn.ModuleList([nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs])
        self.merge = nn.ModuleList([double(2 * b, b) for _, b in pairs])
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x):  # (B, 3, H, W)
        kept = []
        for k, down in enumerate(self.down):
            x = down(x if k == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        for up, merge, left in zip(self.up, self.merge, kept[-2::-1]):
            x = merge(torch.cat([left, up(x)], 1))
        return self.head(x)  # (B, classes, H, W)


def model():
    return UNet()


def loss(model, x, y):
    return F.cross_entropy(model(x), y)


def optimizer(parameters):
    return torch.optim.Adam(parameters, lr=1e-4)
