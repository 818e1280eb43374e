"""`skip_nonfinite=True`: a step at which any gradient is not finite changes nothing at all, of no parameter, and is
counted.
"""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.paths import scaling

from .sparse_support import rows
from .torch_compile import compile_step, forgotten
from .torch_scaling import OVERFLOWS, STEPS, Run, backward, scaler_of
from .torch_support import (
    ALL,
    EVERY,
    distance,
    each_optimizer,
    each_path,
    each_peer,
    ours,
    params_of,
    plain,
    plain_for,
    same,
    theirs,
)

__all__ = ["forgotten"]
pytestmark = [pytest.mark.usefixtures("one_thread", "checked")]
BAD = [float("inf"), -float("inf"), float("nan")]
each_name = pytest.mark.parametrize("name", EVERY)
each_bad = pytest.mark.parametrize("bad", BAD, ids=str)


def give(optimizer: Any, seed: int, bad: float | None = None, at: int = 0) -> None:
    """Gradients, of which one element may be not finite: the last of the parameter `at`."""
    generator = torch.Generator().manual_seed(seed)
    for i, p in enumerate(params_of(optimizer)):
        g = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        if bad is not None and i == at and g.numel():
            g.view(-1)[-1] = bad
        p.grad = g if type(optimizer).__name__ in ALL else g.to_sparse()


def made(name: str, params: Any = None, **options: Any) -> Any:
    return ours(name)(plain_for(name) if params is None else params, skip_nonfinite=True, **options)


def bits(optimizer: Any) -> str:
    """All that a step may change but the count: parameters, memory and groups, to the bit."""
    groups = [{k: v for k, v in g.items() if k not in ("params", "skipped_steps")} for g in optimizer.param_groups]
    held = [{k: numbers(x) for k, x in optimizer.state.get(p, {}).items()} for p in params_of(optimizer)]
    return str((len(optimizer.state), [numbers(p) for p in params_of(optimizer)], held, groups))


def numbers(x: Any) -> Any:
    return (x.dtype, x.detach().clone().reshape(-1).view(torch.uint8).tolist()) if isinstance(x, torch.Tensor) else x


@each_path
@each_name
def test_a_bad_step_changes_nothing_and_the_run_goes_on_as_if_it_had_not_been(name: str, kernel: str) -> None:
    a, b = made(name, kernel=kernel), ours(name)(plain_for(name), kernel=kernel)
    for step in range(6):
        if step in (0, 3, 4):
            before = bits(a)
            give(a, 90 + step, BAD[step % 3], at=step % 3)
            a.step()
            assert bits(a) == before
        for optimizer in (a, b):
            give(optimizer, step)
            optimizer.step()
    assert same(a, b)
    assert [type(group["skipped_steps"]) for group in a.param_groups] == [int]
    assert a.param_groups[0]["skipped_steps"] == 3
    assert b.param_groups[0]["skipped_steps"] == 0


@each_bad
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_every_dtype_is_looked_at_wherever_the_bad_element_is(dtype: torch.dtype, bad: float) -> None:
    for size, place in ((1, 0), (17, 16), (1000, 500), (40_000, 39_999)):
        p = torch.nn.Parameter(torch.ones(size, dtype=dtype))
        optimizer = ours("SGD")([p], skip_nonfinite=True)
        p.grad = torch.ones_like(p)
        (torch.view_as_real(p.grad)[..., 1] if dtype.is_complex else p.grad)[place] = bad
        optimizer.step()
        assert optimizer.param_groups[0]["skipped_steps"] == 1
        assert torch.equal(p, torch.ones_like(p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.complex64])
def test_large_gradients_are_finite_though_their_squares_are_not(dtype: torch.dtype) -> None:
    p = torch.nn.Parameter(torch.zeros(5, dtype=dtype))
    optimizer = ours("SGD")([p], lr=1e-4, skip_nonfinite=True)
    largest = torch.finfo(dtype).max
    p.grad = torch.full_like(p, complex(largest, largest) if dtype.is_complex else largest)
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == 0
    assert bool((p != 0).all())


def test_a_norm_that_overflows_is_skipped_where_gradients_are_clipped_by_it() -> None:
    p = torch.nn.Parameter(torch.zeros(5))
    optimizer = ours("SGD")([p], skip_nonfinite=True, max_grad_norm=1.0)
    p.grad = torch.full_like(p, torch.finfo(torch.float32).max)
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == 1
    assert bool((p == 0).all())


@each_bad
def test_without_the_option_a_clipped_step_spoils_the_parameter_as_torch_does(bad: float) -> None:
    (mine,), (other,) = plain_for("SGD")[:1], plain_for("SGD")[:1]
    for p in (mine, other):
        p.grad = torch.ones_like(p)
        p.grad[0, 0] = bad
    ours("SGD")([mine], lr=0.1, max_grad_norm=1.0).step()
    torch.nn.utils.clip_grad_norm_([other], 1.0)
    theirs("SGD")([other], lr=0.1).step()
    assert torch.equal(mine.isnan(), other.isnan())
    assert bool(mine.isnan().any())


@each_bad
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}], ids=str)
def test_one_pass_is_made_over_finite_gradients(bad: float, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    foreach = torch._foreach_norm

    def counted(tensors: Any, order: float = 2, *given: Any, **more: Any) -> Any:
        calls.append(order)
        return foreach(tensors, order, *given, **more)

    monkeypatch.setattr(torch, "_foreach_norm", counted)
    optimizer = made("AdamW", **options)
    give(optimizer, 1)
    optimizer.step()
    assert calls == [2]
    give(optimizer, 1, bad)
    optimizer.step()
    assert len(calls) <= 3
    assert optimizer.param_groups[0]["skipped_steps"] == 1


def test_one_group_that_asks_speaks_for_all_and_values_are_read_at_each_step() -> None:
    first, *rest = plain()
    optimizer = ours("AdamW")([{"params": [first]}, {"params": rest, "skip_nonfinite": True}])
    give(optimizer, 0, float("nan"))
    before = bits(optimizer)
    optimizer.step()
    assert bits(optimizer) == before
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    give(optimizer, 0, float("nan"))
    optimizer.step()
    assert [group["skipped_steps"] for group in optimizer.param_groups] == [2, 2, 2]
    optimizer.param_groups[1]["skip_nonfinite"] = False
    optimizer.step()
    assert bool(first.isnan().any())
    assert optimizer.param_groups[0]["skipped_steps"] == 2


@each_path
@pytest.mark.parametrize("name", [name for name in EVERY if ours(name).rule_class.sparse])
@pytest.mark.parametrize("twice", [False, True])
def test_sparse_gradients_are_looked_at(name: str, kernel: str, twice: bool) -> None:
    p = torch.nn.Parameter(torch.ones(6, 2))
    optimizer = made(name, [p], kernel=kernel)
    where = [[1, 4, 1] if twice else [1, 4, 0]]
    values = torch.full((3, 2), 3e38)
    values[1] = 1.0
    p.grad = torch.sparse_coo_tensor(torch.tensor(where), values, (6, 2))
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == int(twice)  # twice 3e38 in one place is infinite
    assert torch.equal(p, torch.ones(6, 2)) is twice
    p.grad = rows(1, p)
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == int(twice)


@each_optimizer
@pytest.mark.parametrize("fused", [None, True])
def test_a_scaler_and_the_option_agree(name: str, fused: bool | None) -> None:
    run = Run(made(name, fused=fused), scaler_of())
    assert run.seen() == Run(ours(name)(plain_for(name), fused=fused), scaler_of()).seen()
    # without `fused` the scaler does not call the step at all
    assert run.optimizer.param_groups[0]["skipped_steps"] == (len(OVERFLOWS) if fused else 0)
    assert sum(run.moved) == STEPS - len(OVERFLOWS)


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
