"""Hugging Face: a run with 8-bit state, and another one that goes on from its middle to the same bits.

Run it with `python examples/hf_resume.py`.
"""

import inspect
import json.decoder
import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from scirs2_adapters.hf import with_optimizer

CONTEXT, STEPS = 64, 12


def data() -> list[dict[str, torch.Tensor]]:
    """The bytes of a module of the standard library, in rows."""
    text = torch.tensor(list(inspect.getsource(json.decoder).encode()))
    rows = text[: len(text) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    return [{"input_ids": row, "labels": row} for row in rows]


def trained(folder: str, checkpoint: Path | None = None) -> torch.Tensor:
    """All parameters after a run, from its beginning or from a checkpoint."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=64, vocab_size=256, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0
    )
    args = TrainingArguments(
        folder, max_steps=STEPS, learning_rate=3e-3, weight_decay=0.1, per_device_train_batch_size=16,
        save_steps=STEPS // 2, use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    Eight = with_optimizer(Trainer, "lion_8bit", lr_by={"wte|wpe": 1e-3})
    trainer = Eight(GPT2LMHeadModel(config), args, train_dataset=data())
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def main() -> int:
    """How many parameters differ in any bit."""
    with tempfile.TemporaryDirectory() as folder:
        whole = trained(folder)
        resumed = trained(folder, Path(folder, f"checkpoint-{STEPS // 2}"))
    return int((whole != resumed).sum())


if __name__ == "__main__":
    print(f"hf_resume: {main()} parameters differ")
