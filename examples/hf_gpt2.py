"""Hugging Face: a GPT-2 from scratch whose embeddings have a learning rate of their own, watched as it trains.

Run it with `python examples/hf_gpt2.py`.
"""

import inspect
import json.decoder
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from scirs2_adapters.hf import OptimizerMonitor, optim

CONTEXT = 64


def data() -> list[dict[str, torch.Tensor]]:
    """The bytes of a module of the standard library, in rows."""
    text = torch.tensor(list(inspect.getsource(json.decoder).encode()))
    rows = text[: len(text) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    return [{"input_ids": row, "labels": row} for row in rows]


def main(steps: int = 30) -> list[float]:
    """The losses."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=64, vocab_size=256, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, max_steps=steps, learning_rate=3e-3, weight_decay=0.1, per_device_train_batch_size=16,
            logging_steps=1, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        ours = optim("adamw", args, lr_by={"wte|wpe": 1e-3}, weight_decay_by={"wte|wpe": 0.0})
        trainer = Trainer(
            model, args, train_dataset=data(), optimizer_cls_and_kwargs=ours, callbacks=[OptimizerMonitor(every=10)]
        )
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    losses = main()
    print(f"hf_gpt2: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
