"""Hugging Face: the Trainer trains a small bfloat16 GPT-2 with 8-bit state; the line that asks for it is marked.

Run it with `python examples/int8_hf_trainer.py`.
"""

import sysconfig
import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from scirs2_adapters.hf import optim

CONTEXT = 64


def data() -> list[dict[str, torch.Tensor]]:
    """The bytes of a file of the standard library, in rows."""
    text = torch.tensor(list(Path(sysconfig.get_path("stdlib"), "argparse.py").read_bytes()))
    rows = text[: len(text) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    return [{"input_ids": row, "labels": row} for row in rows]


def main(steps: int = 30) -> list[float]:
    """The losses."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=128, vocab_size=256, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config).to(torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, max_steps=steps, learning_rate=2e-3, per_device_train_batch_size=16, logging_steps=1,
            use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        ours = optim("adamw", args, state_dtype="int8", rounding="compensated")  # <- this one
        trainer = Trainer(model, args, train_dataset=data(), optimizer_cls_and_kwargs=ours)
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    losses = main()
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
