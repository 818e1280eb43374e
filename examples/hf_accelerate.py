"""Accelerate: a training loop of one's own with gradient accumulation, clipping, a schedule and a saved state.

The run saves its state in the middle; another one loads it and ends with the same bits. Run it with
`python examples/hf_accelerate.py`.
"""

import inspect
import json.decoder
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, get_cosine_schedule_with_warmup

from scirs2_adapters.torch import AdamW, param_groups

CONTEXT, EPOCHS = 64, 4


def data() -> DataLoader:
    """The bytes of a module of the standard library, in rows."""
    text = torch.tensor(list(inspect.getsource(json.decoder).encode()))
    rows = text[: len(text) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    return DataLoader([{"input_ids": row, "labels": row} for row in rows], batch_size=16)


def trained(folder: Path, resume: bool) -> tuple[torch.Tensor, list[float]]:
    """All parameters after a run, from its beginning or from its middle, and the losses."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=64, vocab_size=256, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    groups = param_groups(model, lr=3e-3, lr_by={"wte|wpe": 1e-3}, weight_decay_by={r"ln_|bias": 0.0})
    optimizer = AdamW(groups, lr=3e-3, weight_decay=0.1, state_dtype="int8")
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=2, num_training_steps=24)
    model, optimizer, schedule, batches = accelerator.prepare(model, optimizer, schedule, data())
    if resume:
        accelerator.load_state(folder)
    losses = []
    for epoch in range(EPOCHS // 2 if resume else 0, EPOCHS):
        for batch in batches:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        if epoch == EPOCHS // 2 - 1:
            accelerator.save_state(folder)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), losses


def main() -> tuple[list[float], int]:
    """The losses, and how many parameters of a resumed run differ in any bit."""
    with tempfile.TemporaryDirectory() as folder:
        whole, losses = trained(Path(folder, "middle"), resume=False)
        resumed, _ = trained(Path(folder, "middle"), resume=True)
    return losses, int((whole != resumed).sum())


if __name__ == "__main__":
    losses, differing = main()
    print(f"hf_accelerate: loss {losses[0]:.3f} -> {losses[-1]:.3f}, {differing} parameters differ")
