#!/usr/bin/env bash
# transformers 5.23.0: optim="lion_8bit" and "lion_32bit" give Lion the betas of Adam, 0.9 and 0.999, and not Lion's 0.9 and 0.99;
# `optim_args` cannot change that, as it is not read for them (`adam_beta2` can).
# Seen: betas=(0.9, 0.999) with and without optim_args="beta2=0.99".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 bitsandbytes==0.50.2
"$folder/venv/bin/python" - <<'PYTHON'
import inspect

import bitsandbytes
import transformers
from transformers import Trainer, TrainingArguments


def chosen(**words: str) -> tuple[type, dict]:
    return Trainer.get_optimizer_cls_and_kwargs(TrainingArguments("out", use_cpu=True, report_to=[], **words))


own = inspect.signature(bitsandbytes.optim.Lion).parameters["betas"].default
print(f"transformers {transformers.__version__}, bitsandbytes {bitsandbytes.__version__}; Lion's own betas: {own}")
found = {}
for name in ("lion_8bit", "lion_32bit"):
    for text in (None, "beta2=0.99"):
        found[name, text] = chosen(optim=name, optim_args=text)[1]["betas"]
        print(f"optim={name}, optim_args={text}: betas={found[name, text]}")
assert transformers.__version__ == "5.23.0"
assert own == (0.9, 0.99)
assert set(found.values()) == {(0.9, 0.999)}
print("as seen before: Lion has Adam's betas")
PYTHON
