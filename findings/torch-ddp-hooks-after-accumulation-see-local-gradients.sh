#!/usr/bin/env bash
# torch 2.13.0: under DistributedDataParallel a hook registered by `register_post_accumulate_grad_hook` sees the gradient of its own rank.
# Seen: two ranks, gradients 1 and 2. The hook sees 1 and 2; after backward `p.grad` is 1.5 on both. An optimizer that steps in such a
# hook, as torch's tutorial on fusing the step into backward does, lets the ranks drift apart. So it is with and without
# gradient_as_bucket_view.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/ranks.py" <<'PYTHON'
import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel


def run(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for views in (False, True):
        model = torch.nn.Linear(2, 1, bias=False)
        wrapped = DistributedDataParallel(model, gradient_as_bucket_view=views)
        seen = []
        model.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
        (wrapped(torch.ones(1, 2)).sum() * (rank + 1)).backward()
        print(f"rank {rank}, views {views}: the hook saw {seen[0].tolist()}, after backward {model.weight.grad.tolist()}", flush=True)
        assert torch.equal(seen[0], torch.full((1, 2), rank + 1.0))
        assert torch.equal(model.weight.grad, torch.full((1, 2), 1.5))
    dist.destroy_process_group()


if __name__ == "__main__":
    assert torch.__version__.startswith("2.13.0")
    mp.spawn(run, (sys.argv[1],), 2)
    print("as seen before: hooks after accumulation run before gradients are averaged")
PYTHON
"$folder/venv/bin/python" "$folder/ranks.py" "$folder"
