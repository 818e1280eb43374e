#!/usr/bin/env bash
# DeepSpeed 0.19.8: what a universal checkpoint holds depends on the ZeRO stage that it was made of.
# Seen: of stage 1 each file of a slot holds a dict with "param", of the parameter's shape, beside a step.pt; of stage 3 it
# holds the bare tensor, flat, and there is no step.pt. In both, zero/optimizer_state.pt cannot be loaded with weights_only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 wheel==0.45.1
DS_BUILD_OPS=0 "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation deepspeed==0.19.8
cd "$folder"
cat > train.py <<'PYTHON'
import os
import sys

os.environ |= {"DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29677"}
os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
import deepspeed
import torch

model = torch.nn.Linear(4, 3)
config = {"train_micro_batch_size_per_gpu": 2, "zero_optimization": {"stage": int(sys.argv[1])}}
config |= {"zero_allow_untested_optimizer": True, "bf16": {"enabled": True}}
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
engine.backward(engine(torch.ones(2, 4, dtype=torch.bfloat16)).sum())
engine.step()
engine.save_checkpoint(sys.argv[2])
PYTHON
for stage in 1 3; do
    "$folder/venv/bin/python" train.py $stage "stage$stage" >"log$stage" 2>&1 || { cat "log$stage"; exit 1; }
    DS_ACCELERATOR=cpu "$folder/venv/bin/python" -m deepspeed.checkpoint.ds_to_universal --inject_missing_state \
        --input_folder "stage$stage/global_step1" --output_folder "stage$stage/universal" >"log$stage" 2>&1 || { cat "log$stage"; exit 1; }
done
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version
from pathlib import Path

import torch

found = {}
for stage in (1, 3):
    zero = Path(f"stage{stage}/universal/zero")
    x = torch.load(zero / "weight/exp_avg.pt", weights_only=True)
    kind, shape = ("dict", x["param"].shape) if isinstance(x, dict) else ("tensor", x.shape)
    found[stage] = (kind, tuple(shape), (zero / "weight/step.pt").exists())
    print(f"stage {stage}: a {kind} with {tuple(shape)}, step.pt: {found[stage][2]}")
    try:
        torch.load(zero / "optimizer_state.pt", weights_only=True)
        raise AssertionError("it loads now")
    except Exception as error:
        refused = str(error)
    assert "Unsupported global: GLOBAL deepspeed" in refused, refused
print(f"deepspeed {version('deepspeed')}, torch {torch.__version__}")
assert version("deepspeed") == "0.19.8"
assert found == {1: ("dict", (3, 4), True), 3: ("tensor", (12,), False)}
print("as seen before: flat tensors without a count of stage 3, and pickled objects in both")
PYTHON
