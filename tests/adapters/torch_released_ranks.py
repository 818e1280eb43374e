"""One of two processes over gloo that release gradients: sharded parameters are stepped, data parallel is refused.

Started by `test_torch_released_ranks.py` as `torch_released_ranks.py RANK FOLDER NAMES...`.
"""

import datetime
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from scirs2_adapters.adapters.torch.optimizer import released
from scirs2_adapters.adapters.torch.state.tensors import local
from tests.adapters.ranks import leave
from tests.adapters.torch_ranks import WORLD, batch, mine, network
from tests.adapters.torch_spread import STEPS, gap, mesh_of, options
from tests.adapters.torch_support import ours


def trained(model: nn.Module, optimizer: Any, x: torch.Tensor, release: bool) -> bool:
    """Whether no gradient was left after any backward pass."""
    handle, left = optimizer.release_gradients() if release else None, False
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        left |= any(p.grad is not None for p in model.parameters())
        optimizer.step()
    if handle is not None:
        handle.remove()
    return not left


def sharded() -> nn.Module:
    """A network of which the first layer is sharded by itself, and the rest together."""
    model = network()
    fully_shard(model[0], mesh=mesh_of((WORLD,)))
    return fully_shard(model, mesh=mesh_of((WORLD,)))


def parts(model: nn.Module) -> list[torch.Tensor]:
    return [local(p.detach()) for p in model.parameters()]


def fully_sharded(name: str) -> dict[str, Any]:
    """Against one process without sharding, and against usual steps of sharded parameters."""
    one, usual = network(), sharded()
    trained(one, ours(name)(one.parameters(), **options(name)), batch(), release=False)
    trained(usual, ours(name)(usual.parameters(), **options(name)), batch(mine()), release=False)
    cases: dict[str, Any] = {}
    for together in (1, 30, 1 << 20):
        released.TOGETHER = together
        model = sharded()
        freed = trained(model, ours(name)(model.parameters(), **options(name)), batch(mine()), release=True)
        cases[str(together)] = [freed, gap(model, one, network()), all(map(torch.equal, parts(model), parts(usual)))]
    return cases


def refused(wrap: Any, when: str) -> str:
    """What is said of a model that is wrapped before or after the handle is made, with nothing changed."""
    model = network()
    if when == "before":
        model = wrap(model)
    optimizer = ours("AdamW")(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    try:
        handle = optimizer.release_gradients()
        wrapped = wrap(model)
        wrapped(batch(mine())).sum().backward()
    except RuntimeError as error:
        assert all(map(torch.equal, before, model.parameters()))
        return str(error)
    handle.remove()
    return "not refused"


def main(rank: int, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=60)
    distributed.init_process_group("gloo", f"file://{folder}/store", wait, WORLD, rank)
    report: dict[str, dict[str, Any]] = {name: {"fully_sharded": fully_sharded(name)} for name in names}

    class Subclass(DistributedDataParallel):
        pass

    report["refused"] = {
        "DistributedDataParallel": refused(DistributedDataParallel, "before"),
        "a subclass": refused(Subclass, "before"),
        "later": refused(DistributedDataParallel, "after"),
        "FullyShardedDataParallel": refused(
            lambda m: FullyShardedDataParallel(m, device_id=torch.device("cpu"), use_orig_params=True), "before"
        ),
    }
    leave(folder, report)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
