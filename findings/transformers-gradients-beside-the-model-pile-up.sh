#!/usr/bin/env bash
# transformers 5.23.0: the Trainer clears the gradients of its model, not of its optimizer.
# Seen: a parameter that a Trainer's `get_optimizer_cls_and_kwargs` adds to the optimizer (a learnable loss weight) is stepped by
# gradients 1, 2, 3 where each batch gives 1: they pile up, one step after the other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile

import torch
import transformers
from transformers import Trainer, TrainingArguments


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * x + SCALE).sum()}


SCALE = torch.nn.Parameter(torch.zeros(1))
SEEN: list[tuple[float, float]] = []


class Recording(torch.optim.SGD):
    def step(self, closure: object = None) -> None:
        SEEN.append((float(self.param_groups[0]["params"][0].grad), float(SCALE.grad)))
        super().step()


class WithScale(Trainer):
    @staticmethod
    def get_optimizer_cls_and_kwargs(args: TrainingArguments, model: object = None) -> tuple[type, dict]:
        return Recording, {"lr": 0.0, "params": [{"params": [model.weight]}, {"params": [SCALE]}]}


data = [{"x": torch.ones(1), "labels": torch.ones(1)}] * 3
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        folder, per_device_train_batch_size=1, num_train_epochs=1, report_to=[], use_cpu=True, max_grad_norm=0.0,
        disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )
    WithScale(Model(), args, train_dataset=data).train()
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
for step, (inside, outside) in enumerate(SEEN, 1):
    print(f"step {step}: gradient of a parameter of the model {inside}, of one beside the model {outside}")
assert transformers.__version__ == "5.23.0"
assert [inside for inside, _ in SEEN] == [1.0, 1.0, 1.0]
assert [outside for _, outside in SEEN] == [1.0, 2.0, 3.0]
print("as seen before: gradients of parameters that only the optimizer knows pile up")
PYTHON
