"""A recurrent network in PyTorch: it reads the eight rows of a digit one after the other."""

from __future__ import annotations

import torch

from scirs2_adapters.demo import torch_digits
from scirs2_adapters.demo.data import SIZES

WIDTH = 128
SIDE = 8


class Reader(torch.nn.Module):
    """Two layers of an LSTM, and a linear layer on what they say after the last row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(SIDE, WIDTH, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(WIDTH, SIZES[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        read, _ = self.lstm(x.view(-1, SIDE, SIDE))
        logits: torch.Tensor = self.head(read[:, -1])
        return logits


class Adapter(torch_digits.Adapter):
    """The same first weights for each optimizer."""

    def model(self) -> torch.nn.Module:
        torch.manual_seed(self.settings.seed)
        return Reader()
