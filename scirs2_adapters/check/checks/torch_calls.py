"""What code around a torch optimizer relies on: closures, hooks, autograd, mixed precision."""

from __future__ import annotations

import numpy as np
import torch

from ..drivers.torch import TorchDriver
from ..outcome import expect
from ..problem import MOVES, same_bits


def closure(driver: TorchDriver) -> None:
    """`step(closure)` evaluates the closure once, with gradients, and returns what it returns."""
    driver.dense()
    p = torch.nn.Parameter(torch.ones(3))
    run, seen = driver.over([p]), list[bool]()

    def evaluated() -> torch.Tensor:
        seen.append(torch.is_grad_enabled())
        run.optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = run.optimizer.step(evaluated)  # type: ignore[arg-type]
    expect(
        seen == [True],
        "one evaluation with gradients",
        f"{len(seen) or 'none'}{', without gradients' * (False in seen)}",
    )
    expect(loss is not None and float(loss) == 3.0, "the closure's loss", repr(loss))


def hooks(driver: TorchDriver) -> None:
    """Hooks before and after a step are called once each."""
    run, seen = driver.start(), list[str]()
    run.optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    run.optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    run.advance(1)
    expect(seen == ["before", "after"], "before and after, once each", ", ".join(seen) or "no call")


def zero_grad(driver: TorchDriver) -> None:
    """`zero_grad` sets gradients to None, and to zeros with set_to_none=False."""
    driver.dense()
    run = driver.start()
    run.advance(1)
    run.optimizer.zero_grad(set_to_none=False)
    left = [float(p.grad.abs().sum()) if p.grad is not None else 0.0 for p in run.tensors]
    expect(not any(left), "gradients of zero", "others")
    run.optimizer.zero_grad()
    expect(all(p.grad is None for p in run.tensors), "no gradients", "some are left")


def seen_by_autograd(driver: TorchDriver) -> None:
    """A step between a model's forward and backward is an error of autograd, and not a wrong gradient."""
    driver.dense()
    p = torch.nn.Parameter(torch.ones(3))
    run = driver.over([p])
    loss = (p * p).sum()
    run.apply([torch.ones(3)])
    try:
        loss.backward()
    except RuntimeError:
        return
    expect(False, "RuntimeError: modified by an inplace operation", "a gradient at other parameters")


def stays_a_leaf(driver: TorchDriver) -> None:
    """Parameters and state are part of no graph after a step."""
    run = driver.start()
    run.advance(2)
    kept = [x for slots in run.optimizer.state.values() for x in slots.values() if isinstance(x, torch.Tensor)]
    graphs = sum(x.grad_fn is not None for x in (*kept, *run.tensors))
    expect(graphs == 0 and all(p.requires_grad for p in run.tensors), "no graph", f"{graphs} tensors in one")


def overflow(driver: TorchDriver) -> None:
    """GradScaler leaves out a step whose gradients overflow, and takes the next one."""
    driver.dense()
    run, scaler = driver.start(), torch.amp.GradScaler("cpu", init_scale=2.0**4)
    run.advance(MOVES)
    for factor, moves in ((float("inf"), False), (1.0, True)):
        before = run.params()
        run.optimizer.zero_grad()
        loss = torch.stack([(p * p + p).sum() for p in run.tensors]).sum()
        scaler.scale(loss * factor).backward()
        scaler.step(run.optimizer)
        scaler.update()
        moved = not same_bits(run.params(), before)
        expect(moved is moves, "a step" if moves else "no step", "a step" if moved else "no step")


def mixed(driver: TorchDriver) -> None:
    """A model under autocast in bfloat16, with GradScaler, walks near to one in float32."""
    driver.dense()
    ends = []
    for enabled in (False, True):
        run, scaler = driver.start(), torch.amp.GradScaler("cpu", enabled=enabled, init_scale=2.0**10)
        first, bias, second, offset = run.tensors
        for x, y in run.problem.batches:
            run.optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                hidden = torch.tanh(torch.tensor(x, dtype=torch.float32) @ first + bias)
                error = hidden @ second + offset - torch.tensor(y, dtype=torch.float32)
                loss = error.float().square().mean()
            scaler.scale(loss).backward()
            scaler.unscale_(run.optimizer)
            scaler.step(run.optimizer)
            scaler.update()
        ends.append(np.concatenate([p.ravel() for p in run.params()]))
    start = np.concatenate([p.ravel() for p in driver.problem.params])
    way, gap = (float(np.linalg.norm(ends[i] - other)) for i, other in ((0, start), (1, ends[0])))
    expect(way > 0 and gap < way, "less between them than either has walked", "more")


CHECKS = (closure, hooks, zero_grad, seen_by_autograd, stays_a_leaf, overflow, mixed)
