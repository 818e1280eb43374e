#!/usr/bin/env bash
# transformers 5.23.0: the parameters of a module given as `compute_loss_func` get gradients and are never stepped.
# Seen: after three steps the model's weight has moved, the temperature of the loss has a gradient and stands where it was; there
# is no warning.
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
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.weight * x}


class Loss(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = torch.nn.Parameter(torch.ones(1))

    def forward(self, outputs: dict, labels: torch.Tensor, **_: object) -> torch.Tensor:
        return (self.temperature * outputs["logits"] - labels).square().mean()


model, loss = Model(), Loss()
data = [{"x": torch.ones(1), "labels": torch.zeros(1)}] * 3
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        folder, per_device_train_batch_size=1, num_train_epochs=1, report_to=[], use_cpu=True, learning_rate=0.1,
        disable_tqdm=True, save_strategy="no", logging_strategy="no", remove_unused_columns=False, label_names=["labels"],
    )
    Trainer(model, args, train_dataset=data, compute_loss_func=loss).train()
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"after 3 steps: the model's weight {float(model.weight):.4f}, the loss's temperature {float(loss.temperature):.4f}")
print(f"the temperature has a gradient: {loss.temperature.grad is not None}")
assert transformers.__version__ == "5.23.0"
assert float(model.weight) != 1.0
assert float(loss.temperature) == 1.0 and loss.temperature.grad is not None
print("as seen before: parameters of a module given as compute_loss_func get gradients and are never stepped")
PYTHON
