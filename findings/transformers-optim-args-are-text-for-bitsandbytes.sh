#!/usr/bin/env bash
# transformers 5.23.0: `optim_args` reaches bitsandbytes' RMSprop as text, which it cannot use; and a tuple in `optim_args` is an
# error of unpacking, whatever the optimizer.
# Seen: a TypeError for optim="rmsprop_bnb", optim_args="alpha=0.9"; a ValueError for optim_args="betas=(0.9,0.99)".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 bitsandbytes==0.50.2
"$folder/venv/bin/python" - <<'PYTHON'
import bitsandbytes
import torch
import transformers
from transformers import Trainer, TrainingArguments


def chosen(**words: str) -> tuple[type, dict]:
    return Trainer.get_optimizer_cls_and_kwargs(TrainingArguments("out", use_cpu=True, report_to=[], **words))


print(f"transformers {transformers.__version__}, bitsandbytes {bitsandbytes.__version__}")
errors = {}
try:
    cls, keywords = chosen(optim="rmsprop_bnb", optim_args="alpha=0.9")
    print(f"optim=rmsprop_bnb, optim_args=alpha=0.9: {keywords}")
    cls([torch.zeros(2, requires_grad=True)], **keywords)
except Exception as error:
    errors["rmsprop"] = error
try:
    chosen(optim="adamw_torch", optim_args="betas=(0.9,0.99)")
except Exception as error:
    errors["tuple"] = error
for word, error in errors.items():
    print(f"{word}: {type(error).__name__}: {error}")
assert transformers.__version__ == "5.23.0"
assert isinstance(errors["rmsprop"], TypeError)
assert isinstance(errors["tuple"], ValueError) and "unpack" in str(errors["tuple"])
print("as seen before: rmsprop_bnb gets text, and a tuple cannot be unpacked")
PYTHON
