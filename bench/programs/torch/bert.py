"""A transformer that fills in what is masked, in sentences of different lengths: Devlin et al., 2018."""

import torch

nn, F = torch.nn, torch.nn.functional
PADDING = 0


class Bert(nn.Module):
    def __init__(self, symbols=1024, layers=4, width=256, heads=4, context=128):
        super().__init__()
        self.tokens = nn.Embedding(symbols, width)
        self.positions = nn.Embedding(context, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.dense = nn.Linear(width, width)
        self.dense_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols)

    def forward(self, x):  # (B, T)
        h = self.norm(self.tokens(x) + self.positions(torch.arange(x.shape[1])))
        h = self.encoder(h, src_key_padding_mask=x == PADDING)
        return self.head(self.dense_norm(F.gelu(self.dense(h))))  # (B, T, symbols)


def model():
    return Bert()


def loss(model, x, y):
    """y is -100 where nothing was masked."""
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100)


def optimizer(parameters):
    return torch.optim.AdamW(parameters, lr=1e-4)
