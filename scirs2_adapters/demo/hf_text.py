"""Hugging Face: the Trainer, a small GPT-2 with random weights, and the standard library's source as text.

No other framework trains this model. So the same batches are stepped once more in a plain torch loop with our torch
optimizer, and the gap is the distance of the Trainer's parameters from those.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.hf import optim
from scirs2_adapters.torch import AdamW, Lion

from .adapter import Adapter as Base
from .adapter import Step, Watch
from .data import WINDOW, Settings, read_text

BATCH = 16


class Adapter(Base):
    """A GPT-2 of two layers that reads characters."""

    COUNTERPARTS = {"adamw": 'optim="adamw_torch"'}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.text = read_text(settings)
        rows = self.text.train[: settings.text_steps * BATCH]
        self._data = [{"input_ids": row, "labels": row} for row in torch.from_numpy(np.resize(rows, rows.shape))]

    def kinds(self, optimizer: str) -> list[str]:
        """The reference of the gap, and then as in every adapter."""
        return ["reference", *super().kinds(optimizer)]

    def train(self, optimizer: str, kind: str, watch: Watch) -> tuple[float, float]:
        return self._score(self.walk(optimizer, kind, watch))

    def walk(self, optimizer: str, kind: str, watch: Watch) -> GPT2LMHeadModel:
        model = self._model()
        watch.keep(_arrays(model))
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(model, optimizer, kind, folder)
            if kind == "reference":
                self._loop(trainer, optimizer, watch)
            else:
                trainer.watch = watch
                trainer.train()
        watch.keep(_arrays(model))
        return model

    def stepper(self, optimizer: str, kind: str) -> Step:
        model = self._model()
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        with tempfile.TemporaryDirectory() as folder:
            return self._trainer(model, optimizer, kind, folder).create_optimizer().step

    def _model(self) -> GPT2LMHeadModel:
        torch.manual_seed(self.settings.seed)
        silent = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        size = {"n_layer": 2, "n_head": 2, "n_embd": 64, "n_positions": WINDOW, "vocab_size": self.text.vocabulary}
        return GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **size, **silent))

    def _trainer(self, model: GPT2LMHeadModel, optimizer: str, kind: str, folder: str) -> _InOrder:
        h = self.settings.hyper[optimizer]
        args = TrainingArguments(
            folder, max_steps=self.settings.text_steps, per_device_train_batch_size=BATCH, optim="adamw_torch",
            learning_rate=h["learning_rate"], weight_decay=h["weight_decay"], lr_scheduler_type="constant",
            max_grad_norm=0.0, logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        changed = {} if kind == "own" else {"optimizer_cls_and_kwargs": optim(optimizer, args)}
        trainer = _InOrder(model, args, train_dataset=self._data, **changed)
        trainer.model_accepts_loss_kwargs = False  # the mean over the batch, as everywhere; not a sum by a count
        return trainer

    def _loop(self, trainer: Trainer, optimizer: str, watch: Watch) -> None:
        words, decayed = self.settings.words(optimizer, TORCH), set(trainer.get_decay_parameter_names(trainer.model))
        groups: list[dict[str, Any]] = [{"params": [], "weight_decay": wd} for wd in (words["weight_decay"], 0.0)]
        for name, p in trainer.model.named_parameters():
            groups[name not in decayed]["params"].append(p)
        stepper = {"adamw": AdamW, "lion": Lion}[optimizer](groups, **words)
        trainer.model.train()
        for batch in trainer.get_train_dataloader():
            loss = trainer.model(**batch).loss
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            watch(loss.item(), lambda: _arrays(trainer.model))

    @torch.no_grad()
    def _score(self, model: GPT2LMHeadModel) -> tuple[float, float]:
        model.eval()
        windows = torch.from_numpy(self.text.test)
        out = model(input_ids=windows, labels=windows)
        hits = out.logits[:, :-1].argmax(-1) == windows[:, 1:]
        return float(out.loss), float(hits.float().mean())


class _InOrder(Trainer):
    """Takes the windows in their order, as the other loop does, and reports to `watch` alone."""

    watch: Watch

    def log(self, logs: dict[str, float], *rest: object) -> None:
        del rest
        if "loss" in logs:
            self.watch(float(logs["loss"]), lambda: _arrays(self.model))

    def _get_train_sampler(self, *args: object, **kwargs: object) -> torch.utils.data.Sampler:
        del args, kwargs
        return torch.utils.data.SequentialSampler(self.train_dataset)


def _arrays(model: GPT2LMHeadModel) -> list[np.ndarray]:
    return [p.detach().numpy() for p in model.parameters()]


def step_once(kernel: str) -> None:
    """One step of our AdamW on this path."""
    with tempfile.TemporaryDirectory() as folder:
        cls, words = optim("adamw", TrainingArguments(folder, use_cpu=True, report_to=[]), kernel=kernel)
    p = torch.nn.Parameter(torch.ones(8))
    p.grad = torch.ones(8)
    cls([p], **words).step()
