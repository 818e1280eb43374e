#!/usr/bin/env bash
# transformers 5.23.0: optim="sgd", "rmsprop" and "adagrad" read weight_decay in `optim_args`, and no parameter is decayed by it: both
# groups that the Trainer makes have `weight_decay` of TrainingArguments, 0.0 if that is not set, which comes before the keyword.
# Seen: with optim_args="weight_decay=0.1" the class gets weight_decay=0.1 and both groups have 0.0; there is no warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import torch
import transformers
from transformers import Trainer, TrainingArguments

print(f"transformers {transformers.__version__}, torch {torch.__version__}")
with warnings.catch_warnings():
    warnings.simplefilter("error")
    for optim in ("sgd", "rmsprop", "adagrad"):
        args = TrainingArguments("out", optim=optim, optim_args="weight_decay=0.1", use_cpu=True, report_to=[])
        read = Trainer.get_optimizer_cls_and_kwargs(args)[1]["weight_decay"]
        groups = Trainer(torch.nn.Linear(2, 2), args).create_optimizer().param_groups
        decays = [group["weight_decay"] for group in groups]
        print(f"optim={optim}, optim_args=weight_decay=0.1: read as {read}, in the groups {decays}")
        assert read == 0.1 and decays == [0.0, 0.0]
assert transformers.__version__ == "5.23.0"
print("as seen before: it is read, and decays nothing")
PYTHON
