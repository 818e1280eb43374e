"""torch, end to end: whole training steps of five known models, AdamW from here in place of torch's.

Three optimizers train one model in turn, so that memory, data and gradients are the same for all; their learning rate
is too small to matter. A step is the forward and backward pass, the optimizer's step and `zero_grad()`. The largest
model takes 4 GB: its weights, its gradients and three memories.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedModel

from scirs2_adapters import torch as ours

from .row import Row, measure
from .torch_subjects import Subject, subjects

PARTS = ("gradients", "optimizer step", "the rest")


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
    model, data = subject.begin()
    params = list(model.parameters())
    mine = Training(model, data, ours.AdamW(params, lr=1e-7))
    baselines = {
        "torch.optim.AdamW()": Training(model, data, torch.optim.AdamW(params, lr=1e-7)),
        "torch.optim.AdamW(fused=True)": Training(model, data, torch.optim.AdamW(params, lr=1e-7, fused=True)),
    }
    for row in measure("models", subject.words(model), mine, dict(baselines), (subject.rounds, 1)):
        yield broken_down(row, mine.parts(subject.rounds), baselines[row.baseline].parts(subject.rounds))


def broken_down(row: Row, mine: list[float], its: list[float]) -> Row:
    """The row with its parts, and the ratio that no optimizer can pass: that of one whose step takes no time."""
    pairs = dict(zip(PARTS, zip(mine, its, strict=True), strict=True))
    return replace(row, parts=pairs, least=1 - pairs["optimizer step"][1] / sum(its))
