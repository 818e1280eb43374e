#!/usr/bin/env bash
# accelerate 1.15.0, transformers 5.23.0: `TrainingArguments(fsdp=True)` shards nothing where processes train on the CPU.
# Seen: two processes over gloo train copies of the whole model under DDP, without a warning. `AcceleratorState` turns to FSDP for
# processes on accelerators alone, although torch's `fully_shard` works over gloo.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
cat > "$folder/rank.py" <<'PYTHON'
import sys

import accelerate
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

model = GPT2LMHeadModel(
    GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=1)
)
ids = torch.arange(8)
args = TrainingArguments(
    sys.argv[1], max_steps=1, fsdp=True, fsdp_config={"transformer_layer_cls_to_wrap": ["GPT2Block"]}, use_cpu=True,
    ddp_backend="gloo", report_to=[], save_strategy="no", disable_tqdm=True, per_device_train_batch_size=2,
)
trainer = Trainer(model, args, train_dataset=[{"input_ids": ids, "labels": ids}] * 8)
trainer.train()
kind = trainer.accelerator.distributed_type
params = {type(p).__name__ for group in trainer.optimizer.param_groups for p in group["params"]}
print(f"accelerate {accelerate.__version__}: {kind}, model {type(trainer.model_wrapped).__name__}, parameters {params}")
assert accelerate.__version__ == "1.15.0"
assert str(kind) == "DistributedType.MULTI_CPU"
assert params == {"Parameter"}  # of FSDP they would be DTensors
assert torch.distributed.get_world_size() == 2
print("as seen before: fsdp=True is ignored on the CPU")
PYTHON
ACCELERATE_USE_CPU=true OMP_NUM_THREADS=1 "$folder/venv/bin/python" -m torch.distributed.run --nproc_per_node=2 --standalone \
  "$folder/rank.py" "$folder/out"
