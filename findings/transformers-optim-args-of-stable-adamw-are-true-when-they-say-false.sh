#!/usr/bin/env bash
# transformers 5.23.0: in `optim_args` of optim="stable_adamw" a word that says False is true: text goes through bool().
# Seen: kahan_sum=False and decouple_lr=False give True; left out, they are None and False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 torch-optimi==0.3.3
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
import transformers
from transformers import Trainer, TrainingArguments


def chosen(optim_args: str | None) -> dict:
    args = TrainingArguments("out", optim="stable_adamw", optim_args=optim_args, use_cpu=True, report_to=[])
    cls, keywords = Trainer.get_optimizer_cls_and_kwargs(args)
    group = cls([torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)], **keywords).param_groups[0]
    return {word: group[word] for word in ("kahan_sum", "decouple_lr")}


print(f"transformers {transformers.__version__}, torch-optimi {version('torch-optimi')}, torch {torch.__version__}")
left_out, false = chosen(None), chosen("kahan_sum=False,decouple_lr=False")
print(f"optim_args=None: {left_out}")
print(f"optim_args='kahan_sum=False,decouple_lr=False': {false}")
assert transformers.__version__ == "5.23.0"
assert not left_out["decouple_lr"]
assert false == {"kahan_sum": True, "decouple_lr": True}
print("as seen before: what says False is true")
PYTHON
