"""A small transformer that learns the standard library's source character by character, timed part by part."""

from __future__ import annotations

import time
from importlib import import_module
from itertools import pairwise

import torch

from scirs2_adapters.demo.data import WINDOW, Settings, read_text
from scirs2_adapters.demo.processes import Emit

from . import memory

BATCH = 16


class Characters(torch.nn.Module):
    """Embeddings, transformer layers that see no later character, and a linear layer."""

    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, width)
        self.positions = torch.nn.Parameter(torch.zeros(WINDOW - 1, width))
        layer = torch.nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, vocabulary)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(WINDOW - 1)
        self.register_buffer("mask", mask)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """The loss of each next character."""
        x = self.embedding(windows[:, :-1]) + self.positions
        logits = self.head(self.layers(x, mask=self.mask, is_causal=True))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def train(emit: Emit, module: str, options: dict[str, str | bool], width: int, layers: int, steps: int) -> None:
    """In a worker: report the loss and the seconds of each part of each step, and at the end the growth of memory since
    the model and its data were there.
    """
    text = read_text(Settings(""))
    windows = torch.from_numpy(text.train[: BATCH * steps]).reshape(-1, BATCH, WINDOW)
    torch.manual_seed(0)
    model = Characters(text.vocabulary, width, layers)
    memory.count_peak_anew()
    start = memory.resident()
    optimizer = import_module(module).AdamW(model.parameters(), **options)
    emit("begin")
    for batch in windows:
        moments = [time.perf_counter()]
        loss = model(batch)
        moments.append(time.perf_counter())
        for act in (loss.backward, optimizer.step, optimizer.zero_grad):
            act()
            moments.append(time.perf_counter())
        emit("step", loss=loss.item(), seconds=[b - a for a, b in pairwise(moments)])
    emit("trained", growth=memory.growth(start), numbers=sum(p.numel() for p in model.parameters()))
