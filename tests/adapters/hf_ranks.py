"""One rank of a run in two processes: trains twice, the second time from the checkpoint of the first, then shards.

Started by torchrun; every rank writes what it found as JSON for the test to judge.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
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
    cls, keywords = optim(name, arguments(folder, ddp_backend="gloo"))
    if kind == "sharded":
        fully_shard(model, mesh=distributed.device_mesh.init_device_mesh("cpu", (2,)))
    parameters = list(model.parameters())
    if kind == "divided":
        made = ZeroRedundancyOptimizer(parameters, optimizer_class=cls, **keywords)
    else:
        made = cls(parameters, **keywords)
    batch = {k: torch.stack([row[k] for row in rows(model, 4)]) for k in ("input_ids", "labels")}
    for _ in range(3):
        model(**batch).loss.backward()
        made.step()
        made.zero_grad()
    return flat(model)


def train_under_fsdp(folder: Path, name: str) -> dict[str, Any]:
    """What the Trainer's `fsdp=True` gives, from the beginning and from the middle.

    Accelerate 1.15 takes no notice of it where processes are on the CPU, so it is told here. Its state is that of a
    process, and starts anew with the next Trainer.
    """
    AcceleratorState._reset_state()
    layers = {"transformer_layer_cls_to_wrap": ["GPT2Block"], "state_dict_type": "SHARDED_STATE_DICT"}
    args = arguments(folder, ddp_backend="gloo", fsdp=True, fsdp_config=layers, save_strategy="steps", save_steps=2)
    ends, kinds = [], set()
    with patch.object(AcceleratorState, "__init__", _with_fsdp(AcceleratorState.__init__)):
        for checkpoint in (None, str(folder / "checkpoint-2")):
            made = trainer(gpt2(), args, with_optimizer(Trainer, name))
            made.train(resume_from_checkpoint=checkpoint)
            kinds |= {type(p).__name__ for group in made.optimizer.param_groups for p in group["params"]}
            ends.append(flat(made.model))
    AcceleratorState._reset_state()
    plain = trainer(gpt2(), arguments(folder, ddp_backend="gloo"), with_optimizer(Trainer, name))
    plain.train()
    gap = (ends[0] - flat(plain.model)).norm() / (flat(plain.model) - flat(gpt2())).norm()
    return {"kinds": sorted(kinds), "gap": float(gap), "resume is exact": torch.equal(*ends)}


def _with_fsdp(original: Callable[..., None]) -> Callable[..., None]:
    def init(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **keywords: Any) -> None:
        original(self, *args, fsdp_plugin=fsdp_plugin, **keywords)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    return init


def alike(vector: torch.Tensor) -> bool:
    """Whether both ranks hold the same bits."""
    gathered = [torch.empty_like(vector) for _ in range(2)]
    distributed.all_gather(gathered, vector)
    return torch.equal(*gathered)


def _of_the_model(name: str) -> bool:
    """Whether a formula sums over all parameters, of which each rank would have some; such optimizers refuse that."""
    return bool(get(name)().model_slots()) or get(name)().numbered


def report(folder: Path, name: str) -> dict[str, Any]:
    whole, resumed = train(folder, name, False), train(folder, name, True)
    plain = stepped(name, folder, "plain")
    path = float((plain - flat(gpt2())).norm())

    def gap(kind: str) -> float:
        """By the length of the path; as it is where the first steps move nothing."""
        return float((stepped(name, folder, kind) - plain).norm()) / (path or 1.0)

    return {
        "world": distributed.get_world_size(),
        "ranks agree": alike(whole),
        "resume is exact": torch.equal(whole, resumed),
        "sharded gap": gap("sharded"),
        "divided gap": None if _of_the_model(name) else gap("divided"),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    reports = {name: report(target / name, name) for name in sys.argv[2:]}
    leave(target, reports | {"fsdp": train_under_fsdp(target / "fsdp", "adamw")})
