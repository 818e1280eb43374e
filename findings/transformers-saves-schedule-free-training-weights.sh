#!/usr/bin/env bash
# transformers 5.23.0: with optim="schedule_free_adamw" the Trainer saves the weights that are trained, unless it has just evaluated.
# Seen: a run that saves at step 2 without evaluating writes other weights than the same run with an evaluation at step 2; after
# training the model holds the weights of training too. The Trainer calls `optimizer.eval()` in its evaluation loop only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 schedulefree==1.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments


class Model(PreTrainedModel):
    config_class = PretrainedConfig

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.linear = torch.nn.Linear(2, 1, bias=False)
        self.post_init()

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.linear(x) - labels).square().mean()}


def run(**changes: object) -> tuple[torch.Tensor, Trainer]:
    torch.manual_seed(0)
    model = Model(PretrainedConfig())
    data = [{"x": torch.tensor([1.0, i]), "labels": torch.tensor([2.0 * i])} for i in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, optim="schedule_free_adamw", learning_rate=0.1, lr_scheduler_type="constant", max_steps=2, save_steps=2,
            use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no", **changes,
        )
        trainer = Trainer(model, args, train_dataset=data, eval_dataset=data)
        trainer.train()
        return load_file(Path(folder, "checkpoint-2", "model.safetensors"))["linear.weight"], trainer


saved, trainer = run()
evaluated, _ = run(eval_strategy="steps", eval_steps=2)
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"saved without an evaluation in this step: {saved.tolist()}")
print(f"saved after an evaluation in this step:   {evaluated.tolist()}")
left = trainer.model.linear.weight.detach().clone()
trainer.optimizer.eval()
print(f"left in the model after training: {left.tolist()}; to be evaluated: {trainer.model.linear.weight.tolist()}")
assert transformers.__version__ == "5.23.0"
assert not torch.equal(saved, evaluated)
assert torch.equal(left, saved) and torch.equal(trainer.model.linear.weight.detach(), evaluated)
print("as seen before: what is saved depends on whether the Trainer has evaluated in the same step")
PYTHON
