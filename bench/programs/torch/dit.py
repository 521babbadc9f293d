"""A transformer that predicts the noise of a picture, told the time and the class: Peebles and Xie, 2022."""

import math

import torch

nn, F = torch.nn, torch.nn.functional
STEPS = 1000


def modulate(x, shift, scale):
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def frequencies(t, width):
    """Sines and cosines of the time: (B,) -> (B, width)"""
    half = width // 2
    f = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
    angles = t[:, None].float() * f[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], -1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def attention(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, C))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift2, scale2))


class DiT(nn.Module):
    def __init__(self, size=32, channels=4, patch=2, layers=6, width=256, heads=4, classes=10):
        super().__init__()
        self.patch, self.width, self.channels = patch, width, channels
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.classes = nn.Embedding(classes, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.head = nn.Linear(width, patch * patch * channels)

    def forward(self, x, t, y):
        B, C, H, W = x.shape
        h, w, p = H // self.patch, W // self.patch, self.patch
        x = self.embed(x).flatten(2).transpose(1, 2) + self.positions  # (B, T, width)
        c = self.time(frequencies(t, self.width)) + self.classes(y)
        for block in self.blocks:
            x = block(x, c)
        x = self.head(modulate(self.norm(x), *self.modulation(c).chunk(2, dim=1)))
        return torch.einsum("bhwpqc->bchpwq", x.reshape(B, h, w, p, p, C)).reshape(B, C, H, W)


def model():
    return DiT()


def loss(model, x, noise, t, y):
    """The mean square of what is wrong in the noise; of the picture less and less is left as t grows."""
    kept = torch.cos(t.float() / STEPS * (math.pi / 2)).view(-1, 1, 1, 1)
    noisy = kept * x + torch.sqrt(1 - kept * kept) * noise
    return F.mse_loss(model(noisy, t, y), noise)


def optimizer(parameters):
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
