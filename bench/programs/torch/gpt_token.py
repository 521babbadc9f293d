"""The transformer of gpt.py that goes on one symbol at a time: it keeps the keys and the values of those before.

They stand in arrays as long as the context, each symbol's written at its place; a mask hides what is not yet there. So
the shapes are the same at every place, and one program serves all.
"""

import torch

nn, F = torch.nn, torch.nn.functional


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x, at, seen, keys, values):
        B, _, C = x.shape
        q, k, v = self.qkv(x).view(B, 1, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)  # (B, H, 1, C / H)
        keys, values = keys.index_copy_(2, at, k), values.index_copy_(2, at, v)  # (B, H, context, C / H)
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=seen)
        return self.proj(y.transpose(1, 2).reshape(B, 1, C)), keys, values


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.ln2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x, *kept):
        y, keys, values = self.attention(self.ln1(x), *kept)
        x = x + y
        return x + self.down(F.gelu(self.up(self.ln2(x)))), keys, values


class GPT(nn.Module):
    def __init__(self, layers, width, heads, context, symbols):
        super().__init__()
        self.tokens = nn.Embedding(symbols, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols, bias=False)

    def forward(self, x, at, *kept):
        """The scores of what follows x (B, 1) at its place (1,), and the keys and values of each block with its own."""
        places = torch.arange(self.positions.weight.shape[0])
        seen = (places <= at)[None]  # (1, context)
        x = self.tokens(x) + self.positions(at)
        after = []
        for k, block in enumerate(self.blocks):
            x, *both = block(x, at, seen, *kept[2 * k : 2 * k + 2])
            after += both
        return (self.head(self.ln(x)), *after)


def model(**settings):
    return GPT(**settings)


def state(layers, width, heads, context, symbols):
    """What the first call is given besides the symbol: its place, and no keys and values yet."""
    return [torch.zeros(1, heads, context, width // heads) for _ in range(2 * layers)]
