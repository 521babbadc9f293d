"""A transformer whose perceptrons are experts; a router sends each token to two of them: Shazeer et al., 2017."""

import torch

nn, F = torch.nn, torch.nn.functional


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)  # (B, H, T, C / H)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class Experts(nn.Module):
    """The sum of the top experts' answers to each token, weighted by the router."""

    def __init__(self, width, experts, top):
        super().__init__()
        self.top = top
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) for _ in range(experts)]
        )

    def forward(self, x):
        tokens = x.flatten(0, 1)  # (N, C)
        weights, chosen = torch.topk(self.router(tokens), self.top)  # (N, top)
        weights = F.softmax(weights, dim=-1)
        y = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, rank = torch.where(chosen == number)
            y.index_add_(0, token, weights[token, rank, None] * expert(tokens[token]))
        return y.view_as(x)


class Block(nn.Module):
    def __init__(self, width, heads, experts, top):
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.ln2 = nn.LayerNorm(width)
        self.experts = Experts(width, experts, top)

    def forward(self, x):
        x = x + self.attention(self.ln1(x))
        return x + self.experts(self.ln2(x))


class Model(nn.Module):
    def __init__(self, symbols=65, layers=4, width=256, heads=4, context=128, experts=8, top=2):
        super().__init__()
        self.tokens = nn.Embedding(symbols, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads, experts, top) for _ in range(layers)])
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols, bias=False)

    def forward(self, x):  # (B, T)
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))  # (B, T, symbols)


def model(**settings):
    return Model(**settings)


def loss(model, x, y):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def optimizer(parameters):
    return torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
