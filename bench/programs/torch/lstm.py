"""A recurrent network that predicts the next symbol: Hochreiter and Schmidhuber, 1997."""

import torch

nn, F = torch.nn, torch.nn.functional


class Model(nn.Module):
    def __init__(self, symbols=96, embedding=128, width=256, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.lstm = nn.LSTM(embedding, width, layers, batch_first=True)
        self.head = nn.Linear(width, symbols)

    def forward(self, x):  # (B, T)
        y, _ = self.lstm(self.embedding(x))  # (B, T, width)
        return self.head(y)  # (B, T, symbols)


def model(**settings):
    return Model(**settings)


def loss(model, x, y):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def optimizer(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)
