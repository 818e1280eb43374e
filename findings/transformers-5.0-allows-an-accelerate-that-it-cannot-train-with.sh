#!/usr/bin/env bash
# transformers 5.0.0 with accelerate 1.2.0, which it allows (`accelerate>=1.1.0`): a Trainer is made, and `train()` raises.
# Seen: its metadata says accelerate>=1.1.0; `trainer.train()` ends in a TypeError, as `Accelerator.unwrap_model` has had
# the argument `keep_torch_compile` since 1.3.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.0.0 accelerate==1.2.0
cat > "$folder/train.py" <<'PYTHON'
import sys
from importlib.metadata import requires

import accelerate
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

model = GPT2LMHeadModel(
    GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=1)
)
ids = torch.arange(8)
rows = [{"input_ids": ids, "labels": ids}] * 8
args = TrainingArguments(sys.argv[1], max_steps=1, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True)
trainer = Trainer(model, args, train_dataset=rows)
asked = [line for line in requires("transformers") if line.startswith("accelerate") and "torch" in line]
print(f"transformers {transformers.__version__} asks for {asked[0]}; accelerate {accelerate.__version__}")
assert transformers.__version__ == "5.0.0"
assert accelerate.__version__ == "1.2.0"
assert ">=1.1.0" in asked[0]
try:
    trainer.train()
except TypeError as error:
    print(f"as seen before: train() raises {error}")
    assert "keep_torch_compile" in str(error)
else:
    sys.exit("train() works now")
PYTHON
"$folder/venv/bin/python" "$folder/train.py" "$folder/out"
