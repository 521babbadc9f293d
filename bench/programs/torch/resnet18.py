"""A residual network of 18 layers for images of 32 x 32: He et al., 2015."""

import torch

nn, F = torch.nn, torch.nn.functional


class Block(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, widths=(64, 128, 256, 512), classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        blocks, channels = [], widths[0]
        for level, width in enumerate(widths):
            blocks += [Block(channels, width, 1 if level == 0 else 2), Block(width, width, 1)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):  # (B, 3, 32, 32)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.blocks(x)  # (B, 512, 4, 4)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.fc(x)


def model():
    return ResNet()


def loss(model, x, y):
    return F.cross_entropy(model(x), y)


def optimizer(parameters):
    return torch.optim.SGD(parameters, lr=0.001, momentum=0.9)
