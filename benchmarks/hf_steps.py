"""Hugging Face: whole steps of the Trainer with our AdamW, against its own `optim="adamw_torch_fused"`.

A step is all that the Trainer does from the end of one to the end of the next: the batch, the model, clipping, the
optimizer, the schedule, `zero_grad`. Two Trainers take turns, ten steps each. Two of the same optimizer differ by up to
2 %, in favor of the one that was made second, so that each is made first once, and the ratio is the mean of both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from statistics import geometric_mean, median

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from scirs2_adapters.demo.timing import Paired, compare
from scirs2_adapters.hf import optim

from .row import Row

WORDS, LENGTH, BATCH, STEPS = 1000, 32, 8, 10


class Ends(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_end(self, args: object, state: object, control: object, **objects: object) -> None:
        """Note the time."""
        self.seconds.append(time.perf_counter())


def rows(quick: bool) -> Iterator[Row]:
    """A GPT-2 and a BERT of two sizes."""
    logging.set_verbosity_error()
    for layers, width in [(1, 32)] if quick else [(2, 64), (4, 256)]:
        for kind in ("GPT-2", "BERT"):
            yield _compare(kind, layers, width, 2 if quick else 12)


def _model(kind: str, layers: int, width: int) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "GPT-2":
        small = {"n_layer": layers, "n_embd": width, "n_head": 4, "n_positions": LENGTH, "vocab_size": WORDS}
        return GPT2LMHeadModel(GPT2Config(**small, bos_token_id=0, eos_token_id=0))
    small = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 4 * width, "vocab_size": WORDS}
    return BertForMaskedLM(BertConfig(**small, num_attention_heads=4, max_position_embeddings=LENGTH))


def _compare(kind: str, layers: int, width: int, rounds: int) -> Row:
    pairs = [_in_turn(lambda: _model(kind, layers, width), rounds, first) for first in ("ours", "theirs")]
    ours, theirs, ratio = (geometric_mean(numbers) for numbers in zip(*pairs, strict=True))
    numbers = sum(p.numel() for p in _model(kind, layers, width).parameters())
    case = f"AdamW, {kind}, {layers} layers of {width}, {numbers / 1e6:.2g} M"
    return Row("hf", case, "adamw_torch_fused", ours * 1e3, theirs * 1e3, ratio)


def _in_turn(model: Callable[[], PreTrainedModel], rounds: int, first: str) -> Paired:
    """A Trainer of each optimizer, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        order = ("ours", "theirs") if first == "ours" else ("theirs", "ours")
        trainers = {whose: _trainer(model(), folder, whose == "ours") for whose in order}
        times: dict[str, list[float]] = {whose: [] for whose in order}
        for i in range(rounds + 1):
            for whose in order if i % 2 else order[::-1]:
                times[whose].append(_step(*trainers[whose]))
    return compare(times["ours"][1:], times["theirs"][1:])  # the first turn compiles and allocates


def _trainer(model: PreTrainedModel, folder: str, ours: bool) -> tuple[Trainer, Ends]:
    ends, ids = Ends(), torch.randint(0, WORDS, (BATCH * STEPS, LENGTH))
    args = TrainingArguments(
        folder, max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=1e-6, weight_decay=0.1,
        lr_scheduler_type="constant", optim="adamw_torch_fused", use_cpu=True, logging_strategy="no",
        save_strategy="no", report_to=[], disable_tqdm=True,
    )  # fmt: skip
    pair = optim("adamw", args) if ours else None
    data = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in ids]
    trainer = Trainer(model, args, train_dataset=data, optimizer_cls_and_kwargs=pair, callbacks=[ends])
    trainer.pop_callback(PrinterCallback)
    return trainer, ends


def _step(trainer: Trainer, ends: Ends) -> float:
    """The median of the steps of one turn, in seconds."""
    ends.seconds.clear()
    trainer.train()
    return median(b - a for a, b in zip(ends.seconds, ends.seconds[1:], strict=False))
