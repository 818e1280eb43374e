#!/usr/bin/env bash
# transformers 5.23.0: `warmup_steps=0.05` is a share of the run, as documented, and optim="schedule_free_adamw" or "schedule_free_sgd"
# gets it as a number of steps. The package schedulefree multiplies the rate by (step + 1) / warmup_steps while step < warmup_steps.
# Seen: in the first step the learning rate is 20 times the one in TrainingArguments; with the same warm-up as a number, 2 of
# 40 steps, it is half of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 schedulefree==1.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile
from importlib.metadata import version

import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * x).sum()}


class Watch(TrainerCallback):
    def __init__(self) -> None:
        self.rates = []

    def on_optimizer_step(self, args, state, control, optimizer=None, **_: object) -> None:
        self.rates.append(optimizer.param_groups[0]["scheduled_lr"])


def rates(optim: str, warmup_steps: float) -> list[float]:
    watch, data = Watch(), [{"x": torch.ones(1), "labels": torch.ones(1)}] * 40
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, optim=optim, learning_rate=0.1, lr_scheduler_type="constant", warmup_steps=warmup_steps, max_steps=40,
            per_device_train_batch_size=1, use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no",
            save_strategy="no",
        )
        assert args.get_warmup_steps(40) == 2
        Trainer(Model(), args, train_dataset=data, callbacks=[watch]).train()
    return [round(float(rate), 6) for rate in watch.rates]


print(f"transformers {transformers.__version__}, schedulefree {version('schedulefree')}, torch {torch.__version__}")
for optim in ("schedule_free_adamw", "schedule_free_sgd"):
    share, number = rates(optim, 0.05), rates(optim, 2)
    print(f"{optim}, learning_rate=0.1: first rates with warmup_steps=0.05 {share[:3]}, with warmup_steps=2 {number[:3]}")
    assert share[:2] == [2.0, 0.1] and number[:2] == [0.05, 0.1]
assert transformers.__version__ == "5.23.0"
print("as seen before: a share is taken for a number of steps, and the first step is 20 times too long")
PYTHON
