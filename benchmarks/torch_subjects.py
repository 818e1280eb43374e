"""Five known models of random weights, made from their configuration, and a batch for each: nothing is downloaded.

The images are 224 x 224, the texts 64 tokens; each batch has two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)


@dataclass(frozen=True)
class Subject:
    """A model to train: how to make it, whether it reads images or words, how many rounds a minute or so allows."""

    name: str
    make: Callable[[], PreTrainedModel]
    sees: bool
    size: int
    rounds: int

    def begin(self) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The model, and the batch that it is trained by."""
        torch.manual_seed(0)
        model = self.make().train()
        if self.sees:
            return model, {"pixel_values": torch.randn(2, 3, self.size, self.size), "labels": torch.tensor([0, 1])}
        words = torch.randint(0, model.config.vocab_size, (2, self.size))
        return model, {"input_ids": words, "labels": words}

    def words(self, model: PreTrainedModel) -> str:
        """What the table says of it."""
        sizes = [p.numel() for p in model.parameters()]
        unit = "pixels" if self.sees else "tokens"
        return f"{self.name}, {sum(sizes) / 1e6:.3g} M, {len(sizes)} tensors, {self.size} {unit}"


def subjects(quick: bool) -> list[Subject]:
    """The five models, or one with pictures and one with words that a test has the time for."""
    if quick:
        small = GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64)
        narrow = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        return [
            Subject("a small ResNet", lambda: ResNetForImageClassification(narrow), True, 32, 3),
            Subject("a small GPT-2", lambda: GPT2LMHeadModel(small), False, 8, 3),
        ]
    short = ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], num_labels=1000)
    return [
        Subject("ResNet-18", lambda: ResNetForImageClassification(short), True, 224, 30),
        Subject("ResNet-50", lambda: ResNetForImageClassification(ResNetConfig(num_labels=1000)), True, 224, 15),
        Subject("BERT-Base", lambda: BertForMaskedLM(BertConfig()), False, 64, 12),
        Subject("GPT-2", lambda: GPT2LMHeadModel(GPT2Config()), False, 64, 12),
        Subject("ViT-B", lambda: ViTForImageClassification(ViTConfig(num_labels=1000)), True, 224, 9),
    ]
