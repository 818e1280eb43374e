"""torch, end to end: whole training steps of five known models, AdamW from here in place of torch's.

A model of random weights is made from its configuration, nothing is downloaded, and three optimizers train that one
model in turn, so that memory, data and gradients are the same for all; their learning rate is too small to matter. A
step is the forward and backward pass, the optimizer's step and `zero_grad()`. The images are 224 x 224, the texts 64
tokens; each batch has two of them. The largest model takes 4 GB: its weights, its gradients and three memories.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
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

from scirs2_adapters import torch as ours

from .row import Row, measure

PARTS = ("gradients", "optimizer step", "the rest")


@dataclass(frozen=True)
class Subject:
    """A model to train: how to make it, whether it reads images or words, how many rounds a minute or so allows."""

    name: str
    make: Callable[[], PreTrainedModel]
    sees: bool
    size: int
    rounds: int


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


class Training:
    """One optimizer at work on a model; it notes where the time of each step goes."""

    def __init__(self, model: PreTrainedModel, data: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        self.model, self.data, self.optimizer = model, data, optimizer
        self.seconds: list[tuple[float, ...]] = []

    def __call__(self) -> None:
        start = time.perf_counter()
        self.model(**self.data).loss.backward()
        graded = time.perf_counter()
        self.optimizer.step()
        stepped = time.perf_counter()
        self.optimizer.zero_grad()
        self.seconds.append((graded - start, stepped - graded, time.perf_counter() - stepped))

    def parts(self, rounds: int) -> list[float]:
        """Median milliseconds of each part, over the steps that were measured, which are the last ones."""
        return [median(part) * 1e3 for part in zip(*self.seconds[-rounds:], strict=True)]


def rows(quick: bool) -> Iterator[Row]:
    """Each model, AdamW against torch's as it comes and against `fused=True`."""
    for subject in subjects(quick):
        yield from _train(subject)


def _train(subject: Subject) -> Iterator[Row]:
    torch.manual_seed(0)
    model = subject.make().train()
    data, params = _data(model, subject), list(model.parameters())
    mine = Training(model, data, ours.AdamW(params, lr=1e-7))
    baselines = {
        "torch.optim.AdamW()": Training(model, data, torch.optim.AdamW(params, lr=1e-7)),
        "torch.optim.AdamW(fused=True)": Training(model, data, torch.optim.AdamW(params, lr=1e-7, fused=True)),
    }
    unit = "pixels" if subject.sees else "tokens"
    case = f"{subject.name}, {sum(p.numel() for p in params) / 1e6:.3g} M, {len(params)} tensors, {subject.size} {unit}"
    for row in measure("models", case, mine, dict(baselines), (subject.rounds, 1)):
        yield broken_down(row, mine.parts(subject.rounds), baselines[row.baseline].parts(subject.rounds))


def broken_down(row: Row, mine: list[float], its: list[float]) -> Row:
    """The row with its parts, and the ratio that no optimizer can pass: that of one whose step takes no time."""
    pairs = dict(zip(PARTS, zip(mine, its, strict=True), strict=True))
    return replace(row, parts=pairs, least=1 - pairs["optimizer step"][1] / sum(its))


def _data(model: PreTrainedModel, subject: Subject) -> dict[str, Any]:
    if subject.sees:
        return {"pixel_values": torch.randn(2, 3, subject.size, subject.size), "labels": torch.tensor([0, 1])}
    words = torch.randint(0, model.config.vocab_size, (2, subject.size))
    return {"input_ids": words, "labels": words}
