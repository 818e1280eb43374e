"""One of two processes over gloo: every optimizer through each way of training on several of them.

Started by `test_torch_distributed.py` as `torch_ranks.py RANK FOLDER NAMES...`; what it finds it writes as JSON for the
test to judge. All optimizers share one pair of processes, because importing torch takes longer than all the steps.
"""

import datetime
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.nn.parallel import DistributedDataParallel

from scirs2_adapters.adapters.torch.state.tensors import local
from tests.adapters.ranks import leave
from tests.adapters.torch_spread import (
    LAYOUTS,
    STEPS,
    Model,
    alone,
    gap,
    made,
    memory_gap,
    mesh_of,
    options,
    walk,
    whole,
)
from tests.adapters.torch_support import ours

WORLD = 2


def broadcast(name: str, folder: Path) -> float:
    """Gathered on one rank, and spread again from there over a fresh optimizer."""
    (model, optimizer), (other, fresh) = (made(name, "rows") for _ in range(2))
    walk(model, optimizer, "rows", range(2))
    gathered = StateDictOptions(full_state_dict=True, cpu_offload=True)
    memory = get_optimizer_state_dict(model, optimizer, options=gathered)
    held = [x for slots in optimizer.state.values() for x in slots.values()]
    if not any(x.dim() for x in held if isinstance(x, torch.Tensor)):
        return 0.0  # torch cannot spread what has no tensor with an axis
    spread = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_optimizer_state_dict(other, fresh, memory, options=spread)
    other.load_state_dict(model.state_dict())
    walk(other, fresh, "rows", range(2, STEPS))
    one = alone(name)
    return max(gap(other, one[0], Model(None, torch.float32)), memory_gap(other, fresh, *one))


def wanted(x: torch.Tensor, p: torch.Tensor) -> object:
    """How memory lies: as its parameter, or on every rank where it is a square of one side."""
    placements = getattr(p, "placements", None)
    return placements if x.shape == p.shape or placements is None else tuple(Replicate() for _ in placements)


def laid_out(name: str, folder: Path) -> dict[str, Any]:
    """Each layout against one process, and who has stepped."""
    one, report = alone(name), {}
    for layout in LAYOUTS:
        model, optimizer = made(name, layout)
        walk(model, optimizer, layout)
        placed = all(
            type(x) is (DTensor if isinstance(p, DTensor) and x.ndim else torch.Tensor)
            and (1 in x.shape or x.ndim == 0 or getattr(x, "placements", None) == wanted(x, p))
            for p, held in optimizer.state.items()
            for key, x in held.items()
            if key != "step"
        )
        gaps = gap(model, one[0], Model(None, torch.float32)), memory_gap(model, optimizer, *one)
        report[layout] = {"gap": max(gaps), "memory lies as its parameter": placed}
    return report


def replaced(name: str, folder: Path) -> float:
    """FSDP gives a parameter other memory between two steps; so do gradients that await their sum."""
    model, optimizer = made(name, "rows")
    walk(model, optimizer, "rows", range(2))
    for p in model.parameters():
        p._local_tensor = p._local_tensor.clone()
    walk(model, optimizer, "rows", range(2, STEPS - 1))
    generator = torch.Generator().manual_seed(STEPS - 1)
    for p in model.parameters():
        g = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        p.grad = DTensor.from_local(g if distributed.get_rank() else 0 * g, p.device_mesh, [Partial()])
    optimizer.step()
    return gap(model, alone(name)[0], Model(None, torch.float32))


def clipped(name: str, folder: Path) -> float:
    model, optimizer = made(name, "rows", max_grad_norm=0.5)
    walk(model, optimizer, "rows")
    return gap(model, alone(name, max_grad_norm=0.5)[0], Model(None, torch.float32))


def overflown(name: str, folder: Path) -> bool:
    """Whether both ranks leave out a step in which one of them has an infinite gradient, by either way to scale."""
    unmoved = []
    for fused in (None, True):
        model, optimizer = made(name, "rows", fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        start = [whole(p.detach()).clone() for p in model.parameters()]
        loss = sum(p.to_local().sum() for p in model.parameters())
        scaler.scale(loss).backward()
        if distributed.get_rank() == 0:
            next(model.parameters()).grad._local_tensor[0] = torch.inf
        scaler.step(optimizer)
        unmoved += map(torch.equal, start, (whole(p.detach()) for p in model.parameters()))
    return all(unmoved)


def left_out(name: str, folder: Path) -> dict[str, Any]:
    """Steps of which one rank alone sees that they are not to be made, between two that are; clipped or not."""
    report = {}
    for limit in (None, 0.5):
        for layout in LAYOUTS:
            model, optimizer = made(name, layout, skip_nonfinite=True, max_grad_norm=limit)
            walk(model, optimizer, layout, range(2))
            for rank, at in ((0, 0), (1, 0), (1, 2)):
                for p in model.parameters():
                    p.grad = torch.ones_like(p)
                part = local(list(model.parameters())[at].grad)
                part[:1] = torch.nan if distributed.get_rank() == rank else 1.0
                optimizer.step()
            walk(model, optimizer, layout, range(2, STEPS))
            one = alone(name, max_grad_norm=limit)
            count = optimizer.param_groups[0]["skipped_steps"]
            report[f"{layout}, {limit}"] = [gap(model, one[0], Model(None, torch.float32)), count]
    return report


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def batch(share: slice = slice(None)) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)[share]


def trained(model: nn.Module, optimizer: Any, x: torch.Tensor) -> nn.Module:
    for _ in range(STEPS):
        model(x).square().mean().backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
    return model


def single(name: str) -> nn.Module:
    model = network()
    return trained(model, ours(name)(model.parameters(), **options(name)), batch())


def mine() -> slice:
    rank = distributed.get_rank()
    return slice(4 * rank, 4 * rank + 4)


def data_parallel(name: str, folder: Path) -> float:
    model = network()
    parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
    trained(parallel, ours(name)(model.parameters(), **options(name)), batch(mine()))
    return gap(model, single(name), network())


def fully_sharded(name: str, folder: Path) -> float:
    model = fully_shard(network(), mesh=mesh_of((WORLD,)))
    trained(model, ours(name)(model.parameters(), **options(name)), batch(mine()))
    return gap(model, single(name), network())


def in_backward(name: str, folder: Path) -> float:
    """An optimizer for each parameter, stepped as soon as its gradient is there."""
    one, model = network(), fully_shard(network(), mesh=mesh_of((WORLD,)))
    for each in (one, model):
        for p in each.parameters():
            optimizer = ours(name)([p], **options(name))

            def step(p: torch.Tensor, optimizer: Any = optimizer) -> None:
                optimizer.step()
                optimizer.zero_grad()

            p.register_post_accumulate_grad_hook(step)
    trained(model, None, batch(mine()))
    return gap(model, trained(one, None, batch()), network())


def flat(name: str, folder: Path) -> float | str:
    """The older FullyShardedDataParallel, whose parameters are pieces without a shape."""
    model = FullyShardedDataParallel(network(), device_id=torch.device("cpu"), use_orig_params=True)
    try:
        trained(model, ours(name)(model.parameters(), **options(name)), batch(mine()))
    except RuntimeError as error:
        return str(error)
    with FullyShardedDataParallel.summon_full_params(model):
        return gap(model, single(name), network())


def divided(name: str, folder: Path) -> dict[str, Any] | str:
    """ZeroRedundancyOptimizer: each rank remembers its own parameters; gathered, the memory is that of one process."""
    from torch.distributed.optim import ZeroRedundancyOptimizer  # warns, and the tests import this file

    model = Model(None, torch.float32)
    try:
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=ours(name), **options(name))
    except ValueError as error:
        return str(error)
    walk(model, optimizer, None)
    one = Model(None, torch.float32)
    plain = ours(name)(one.parameters(), **options(name))
    walk(one, plain, None)
    gaps = {"gap": gap(model, one, Model(None, torch.float32))}
    optimizer.consolidate_state_dict(to=0)
    if distributed.get_rank() == 0:
        fresh = ours(name)(model.parameters())
        fresh.load_state_dict(optimizer.state_dict())
        gaps["memory gap"] = memory_gap(model, fresh, one, plain)
    return gaps


def saved(model: Model, optimizer: Any, to: Path, no_dist: bool) -> None:
    state = {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(model, optimizer)}
    checkpoint.save(state, checkpoint_id=to, no_dist=no_dist)


def loaded(name: str, layout: str | None, at: Path, no_dist: bool) -> tuple[Model, Any]:
    model, optimizer = made(name, layout, torch.bfloat16, state_dtype="float32")
    state = {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(model, optimizer)}
    checkpoint.load(state, checkpoint_id=at, no_dist=no_dist)
    set_optimizer_state_dict(model, optimizer, state["optimizer"])
    return model, optimizer


def resharded(name: str, folder: Path) -> dict[str, float]:
    """Saved by two processes and loaded by one, and the other way; float32 memory of bfloat16 parameters."""
    one = alone(name, torch.bfloat16, state_dtype="float32")
    gaps, start, rank = {}, Model(None, torch.bfloat16), distributed.get_rank()
    for before, after in ((None, "rows"), ("rows", None), ("rows", "columns")):
        to = folder / f"{before} {after}"
        model, optimizer = made(name, before, torch.bfloat16, state_dtype="float32")
        walk(model, optimizer, before, range(2))
        if before is not None or rank == 0:
            saved(model, optimizer, to, no_dist=before is None)
        distributed.barrier()
        model, optimizer = loaded(name, after, to, no_dist=after is None)
        walk(model, optimizer, after, range(2, STEPS))
        gaps[f"{before} to {after}"] = max(gap(model, one[0], start), memory_gap(model, optimizer, *one))
        distributed.barrier()
    return gaps


CHECKS = (
    laid_out,
    replaced,
    clipped,
    overflown,
    left_out,
    data_parallel,
    fully_sharded,
    in_backward,
    flat,
    divided,
    resharded,
    broadcast,
)


def main(rank: int, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=60)
    distributed.init_process_group("gloo", f"file://{folder}/store", wait, WORLD, rank)
    report: dict[str, dict[str, Any]] = {name: {} for name in names}
    for check in CHECKS:
        for name in names:
            subfolder = folder / name
            subfolder.mkdir(exist_ok=True)
            report[name][check.__name__] = check(name, subfolder)
    leave(folder, report)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
