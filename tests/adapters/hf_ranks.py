"""One rank of a run in two processes: trains twice, the second time from the checkpoint of the first, then shards.

Started by torchrun; every rank writes what it found as JSON for the test to judge.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from transformers import Trainer

from scirs2_adapters.core import get
from scirs2_adapters.hf import optim, with_optimizer
from tests.adapters.hf_support import arguments, gpt2, rows, trainer
from tests.adapters.ranks import leave


def flat(model: torch.nn.Module) -> torch.Tensor:
    full = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return torch.cat([p.detach().flatten() for p in full])


def train(folder: Path, name: str, resume: bool) -> torch.Tensor:
    args = arguments(folder, ddp_backend="gloo", save_strategy="steps", save_steps=2, weight_decay=0.1)
    made = trainer(gpt2(), args, with_optimizer(Trainer, name, lr_by={"wte|h.0": 2e-3}))
    made.train(resume_from_checkpoint=str(folder / "checkpoint-2") if resume else None)
    return flat(made.model)


def stepped(name: str, folder: Path, kind: str) -> torch.Tensor:
    """Three steps on the same batch on every rank, as a plain, a sharded model, or with sharded memory."""
    model = gpt2()
    cls, given = optim(name, arguments(folder, ddp_backend="gloo"))
    if kind == "sharded":
        fully_shard(model, mesh=distributed.device_mesh.init_device_mesh("cpu", (2,)))
    parameters = list(model.parameters())
    if kind == "divided":
        made = ZeroRedundancyOptimizer(parameters, optimizer_class=cls, **given)
    else:
        made = cls(parameters, **given)
    batch = {k: torch.stack([row[k] for row in rows(model, 4)]) for k in ("input_ids", "labels")}
    for _ in range(3):
        model(**batch).loss.backward()
        made.step()
        made.zero_grad()
    return flat(model)


def alike(vector: torch.Tensor) -> bool:
    """Whether both ranks hold the same bits."""
    gathered = [torch.empty_like(vector) for _ in range(2)]
    distributed.all_gather(gathered, vector)
    return torch.equal(*gathered)


def _of_the_model(name: str) -> bool:
    """Whether a formula sums over all parameters, of which each rank would have some; such optimizers refuse that."""
    return bool(get(name)().model_slots())


def report(folder: Path, name: str) -> dict[str, Any]:
    whole, resumed = train(folder, name, False), train(folder, name, True)
    plain = stepped(name, folder, "plain")
    path = (plain - flat(gpt2())).norm()
    return {
        "world": distributed.get_world_size(),
        "ranks agree": alike(whole),
        "resume is exact": torch.equal(whole, resumed),
        "sharded gap": float((stepped(name, folder, "sharded") - plain).norm() / path),
        "divided gap": None if _of_the_model(name) else float((stepped(name, folder, "divided") - plain).norm() / path),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    leave(target, {name: report(target / name, name) for name in sys.argv[2:]})
