"""Around a step that `skip_nonfinite=True` leaves out: scalers, checkpoints, compilers, hooks, and what is refused."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import distributed

from scirs2_adapters.adapters.torch.dispatch import scaling

from .torch_compile import compile_step, forgotten
from .torch_scaling import OVERFLOWS, Run, backward, moving, scaler_of
from .torch_skipping import bits, each_name, give, made
from .torch_support import distance, each_optimizer, each_peer, ours, params_of, plain, plain_for, same, theirs

__all__ = ["forgotten"]
pytestmark = [pytest.mark.usefixtures("one_thread", "checked")]


@each_optimizer
@pytest.mark.parametrize("fused", [None, True])
def test_a_scaler_and_the_option_agree(name: str, fused: bool | None) -> None:
    run = Run(made(name, fused=fused), scaler_of())
    assert run.seen() == Run(ours(name)(plain_for(name), fused=fused), scaler_of()).seen()
    # without `fused` the scaler does not call the step at all
    assert run.optimizer.param_groups[0]["skipped_steps"] == (len(OVERFLOWS) if fused else 0)
    assert sum(run.moved) == len(moving(name))


def test_gradients_that_are_spoilt_after_unscaling_are_found_too() -> None:
    optimizer, scaler = made("AdamW", fused=True), scaler_of()
    backward(params_of(optimizer), 1, scaler)
    scaler.unscale_(optimizer)
    params_of(optimizer)[0].grad[0, 0] = float("nan")
    before = bits(optimizer)
    scaler.step(optimizer)
    assert bits(optimizer) == before
    assert optimizer.param_groups[0]["skipped_steps"] == 1


@each_name
def test_the_count_survives_every_way_to_keep_an_optimizer(name: str) -> None:
    a = made(name)
    give(a, 0)
    a.step()
    give(a, 1, float("inf"))
    a.step()
    file = io.BytesIO()
    torch.save(a.state_dict(), file)
    file.seek(0)
    b = made(name)
    b.load_state_dict(torch.load(file, weights_only=True))
    for each in (a, b, copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert each.param_groups[0]["skipped_steps"] == 1
        give(each, 2, float("nan"))
        each.step()
        assert each.param_groups[0]["skipped_steps"] == 2


def test_a_checkpoint_does_not_decide_whether_this_run_skips() -> None:
    without, asked = ours("AdamW")(plain_for("AdamW")), made("AdamW")
    asked.load_state_dict(without.state_dict())
    without.load_state_dict(asked.state_dict())
    for optimizer, kept in ((asked, True), (without, False)):
        give(optimizer, 0, float("nan"))
        before = bits(optimizer)
        optimizer.step()
        assert (bits(optimizer) == before) is kept


@each_peer
def test_torchs_class_takes_such_a_dict_and_its_dicts_are_taken(name: str, options: dict[str, Any]) -> None:
    mine = ours(name)(plain_for(name), **options, skip_nonfinite=True)
    give(mine, 0)
    mine.step()
    give(mine, 0, float("nan"))
    mine.step()
    other = theirs(name)(plain_for(name), **options)
    other.load_state_dict(copy.deepcopy(mine.state_dict()))
    for p, q in zip(params_of(other), params_of(mine), strict=True):
        p.data.copy_(q)
    for optimizer in (mine, other):
        give(optimizer, 1)
        optimizer.step()
    assert distance(mine, other) < 1e-3 if name != "Muon" else True
    mine.load_state_dict(theirs(name)(plain_for(name), **options).state_dict())
    assert mine.param_groups[0]["skipped_steps"] == 1  # torch's dict says nothing of it
    assert mine.param_groups[0]["skip_nonfinite"] is True


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@each_optimizer
def test_a_compiled_step_skips_and_counts_without_a_new_program(name: str) -> None:
    torch._dynamo.reset()
    a, b = made(name), made(name)
    step, count = compile_step(a, "aot_eager")
    for i in range(4):
        for optimizer, run in ((a, step), (b, b.step)):
            give(optimizer, i, float("inf") if i in (0, 2) else None)
            run()
    assert same(a, b)
    assert a.param_groups[0]["skipped_steps"] == b.param_groups[0]["skipped_steps"] == 2
    assert count.frame_count == 1


def test_a_differentiable_step_is_skipped_too() -> None:
    start = torch.ones(3, dtype=torch.float64, requires_grad=True)
    p = start.clone()
    optimizer = ours("SGD")([p], lr=0.1, differentiable=True, skip_nonfinite=True)
    p.grad = torch.tensor([1.0, float("nan"), 1.0], dtype=torch.float64, requires_grad=True)
    optimizer.step()
    assert torch.equal(p, start)


def test_hooks_and_closures_are_called_around_a_skipped_step() -> None:
    optimizer, seen = made("AdamW"), []
    optimizer.register_step_pre_hook(lambda *a: seen.append("pre"))
    optimizer.register_step_post_hook(lambda *a: seen.append("post"))

    def closure() -> float:
        give(optimizer, 0, float("nan"))
        return 2.5

    assert optimizer.step(closure) == 2.5
    assert seen == ["pre", "post"]


@each_name
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"skip_nonfinite": "yes"}, TypeError, r"skip_nonfinite=...\)` must be True or False"),
        ({"skip_nonfinite": 1}, TypeError, r"skip_nonfinite=...\)` must be True or False"),
        ({"skip_nonfinite": True, "capturable": True}, ValueError, "must be False where capturable=True"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_refused_at_the_door(name: str, options: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        ours(name)(plain_for(name), **options)


def test_pieces_of_fsdp_are_refused() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    p._fsdp_flattened = True
    with pytest.raises(ValueError, match=r"FullyShardedDataParallel has cut into pieces.*Use torch.distributed.fsdp"):
        ours("AdamW")([p], skip_nonfinite=True)


def test_no_pass_is_made_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_finite", lambda *a: pytest.fail("looked"))
    optimizer = ours("AdamW")(plain())
    give(optimizer, 0)
    optimizer.step()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_an_optimizer_that_sees_some_of_the_parameters_is_refused() -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer  # warns when it is imported

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="skip_nonfinite is of all gradients"):
            ZeroRedundancyOptimizer(plain(), optimizer_class=ours("AdamW"), skip_nonfinite=True)
    finally:
        distributed.destroy_process_group()
