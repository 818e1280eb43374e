"""Loss scaling is what it is with torch's class of the same name: `GradScaler` hands its scale to those alone who wrote
`fused=True`, and everyone else has gradients that are divided already, and a step that is not called at an overflow.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from scirs2_adapters.core import with_closure
from tests.conformance.options import still_steps

from .torch_scaling import OVERFLOWS, STEPS, Run, backward, moving, peer, scaler_of, unscaled
from .torch_support import (
    ALL,
    CLOSE,
    EVERY,
    PEERED,
    distance,
    each_optimizer,
    learned,
    ours,
    params_of,
    plain_for,
    same,
    theirs,
)

pytestmark = pytest.mark.usefixtures("one_thread", "exact_muon")
PROTOCOL = "_step_supports_amp_scaling"
#: torch's classes that have a fused step.
FUSED = ["SGD", "Adam", "AdamW", "Adagrad"]
CLOSURES = {"sam": "SAM", "lbfgs": "LBFGS"}

each_peered = pytest.mark.parametrize("name", PEERED)
each_fused = pytest.mark.parametrize("name", FUSED)


@pytest.mark.parametrize("fused", [None, False, True])
@pytest.mark.parametrize("name", EVERY)
def test_the_protocol_is_there_where_fused_was_asked_for_and_nowhere_else(name: str, fused: bool | None) -> None:
    optimizer = ours(name)(plain_for(name), fused=fused)
    for each in (optimizer, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert hasattr(each, PROTOCOL) is bool(fused)
        assert getattr(each, PROTOCOL, False) is bool(fused)
    assert not hasattr(type(optimizer), PROTOCOL)


@each_fused
@pytest.mark.parametrize("fused", [None, False, True])
def test_torchs_own_classes_have_it_in_the_same_places(name: str, fused: bool | None) -> None:
    assert hasattr(theirs(name)(plain_for(name), fused=fused), PROTOCOL) is bool(fused)
    assert hasattr(ours(name)(plain_for(name), fused=fused), PROTOCOL) is bool(fused)


@pytest.mark.parametrize("name", [CLOSURES[name] for name in with_closure()])
def test_optimizers_that_call_the_model_never_have_it(name: str) -> None:
    options = {"fused": True} if name == "SAM" else {}
    assert not hasattr(ours(name)([torch.nn.Parameter(torch.ones(2))], **options), PROTOCOL)


@each_optimizer
def test_neither_a_checkpoint_nor_a_group_brings_or_takes_it(name: str) -> None:
    asked, other = ours(name)(plain_for(name), fused=True), ours(name)(plain_for(name))
    other.load_state_dict(asked.state_dict())
    asked.load_state_dict(ours(name)(plain_for(name)).state_dict())
    assert [hasattr(optimizer, PROTOCOL) for optimizer in (asked, other)] == [True, False]
    assert not hasattr(ours(name)([{"params": plain_for(name), "fused": True}]), PROTOCOL)


@each_peered
@pytest.mark.parametrize("options", [{}, {"fused": None}, {"fused": False}], ids=str)
def test_a_run_is_that_of_torchs_default_class(name: str, options: dict[str, Any]) -> None:
    arguments = {k: v for k, v in options.items() if name in FUSED}
    mine = Run(ours(name)(plain_for(name), **options), scaler_of())
    other = Run(theirs(name)(plain_for(name), **arguments), scaler_of())
    assert mine.seen() == other.seen()
    assert distance(mine.optimizer, other.optimizer) < 10 * CLOSE[torch.float32]


@each_optimizer
@pytest.mark.parametrize("fused", [None, True])
def test_a_run_is_that_of_one_without_a_scaler_that_leaves_out_what_overflows(name: str, fused: bool | None) -> None:
    run = Run(ours(name)(plain_for(name), fused=fused), scaler_of())
    assert run.moved == [step in moving(name) for step in range(STEPS)]
    # To multiply while reading is another program, in which sums over the model end with other last bits.
    assert distance(run.optimizer, unscaled(name)) <= (CLOSE[torch.float32] if fused else 0.0)


@each_peered
@pytest.mark.parametrize("fused", [None, True])
def test_gradients_clipped_between_unscaling_and_the_step_are_torchs(name: str, fused: bool | None) -> None:
    norms: dict[type, list[float]] = {}

    def clip(optimizer: Any, scaler: Any) -> None:
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(params_of(optimizer), 0.5)
        norms.setdefault(type(optimizer), []).append(float(norm))

    arguments = {"fused": fused} if name in FUSED else {}
    mine = Run(ours(name)(plain_for(name), fused=fused), scaler_of(), clip)
    other = Run(theirs(name)(plain_for(name), **arguments), scaler_of(), clip)
    assert str(norms[ours(name)]) == str(norms[theirs(name)])
    assert mine.seen() == other.seen()
    assert distance(mine.optimizer, other.optimizer) < 10 * CLOSE[torch.float32]


@each_optimizer
@pytest.mark.parametrize("fused", [None, True])
def test_max_grad_norm_is_of_unscaled_gradients(name: str, fused: bool | None) -> None:
    run = Run(ours(name)(plain_for(name), fused=fused, max_grad_norm=0.5), scaler_of())
    assert distance(run.optimizer, unscaled(name, max_grad_norm=0.5)) < CLOSE[torch.float32]


@each_optimizer
def test_the_norm_of_scaled_float16_gradients_does_not_overflow(name: str) -> None:
    steps = []
    for factor in (1.0, 512.0):
        optimizer = ours(name)(plain_for(name, torch.float16), fused=True, max_grad_norm=1.0, **learned(name))
        for p in params_of(optimizer):
            p.grad = torch.full_like(p, 64.0 * factor)
        for _ in range(still_steps(name) + 1):
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(factor), torch.tensor(0.0)
            optimizer.step()
        steps.append([p.detach().clone() for p in params_of(optimizer)])
    assert all(map(torch.equal, *steps))
    assert not all(map(torch.equal, steps[0], plain_for(name, torch.float16)))


def clipping(cls: type[torch.optim.Optimizer]) -> tuple[type[Any], list[float]]:
    """A user's class that clips in its step, and the norms that it has seen."""
    norms: list[float] = []

    def step(self: Any, closure: Any = None) -> Any:
        norms.append(float(torch.nn.utils.clip_grad_norm_(params_of(self), 0.5)))
        return super(made, self).step(closure)

    made = type(f"Clipping{cls.__name__}", (cls,), {"step": step})
    return made, norms


@each_optimizer
def test_a_subclass_that_clips_in_its_step_sees_unscaled_gradients(name: str) -> None:
    (mine, seen), (other, expected) = clipping(ours(name)), clipping(peer(name))
    runs = [Run(cls(plain_for(name)), scaler_of()) for cls in (mine, other)]
    assert seen == expected
    assert len(seen) == STEPS - len(OVERFLOWS)
    assert runs[0].seen() == runs[1].seen()
    assert distance(runs[0].optimizer, runs[1].optimizer) < 10 * CLOSE[torch.float32]


@each_optimizer
@pytest.mark.parametrize("everywhere", [False, True])
def test_hooks_around_the_step_see_unscaled_gradients(name: str, everywhere: bool) -> None:
    seen: dict[type, list[float]] = {}

    def look(optimizer: Any, *arguments: Any) -> None:
        grads = [p.grad for p in params_of(optimizer)]
        seen.setdefault(type(optimizer), []).append(float(torch.nn.utils.get_total_norm(grads)))

    for cls in dict.fromkeys((ours(name), peer(name))):
        optimizer = cls(plain_for(name))
        register = register_optimizer_step_pre_hook if everywhere else optimizer.register_step_pre_hook
        handles = [register(look)]
        handles += [optimizer.register_step_post_hook(look)]
        Run(optimizer, scaler_of())
        for handle in handles:
            handle.remove()
    assert seen[ours(name)] == seen[peer(name)]
    assert len(seen[ours(name)]) == 2 * (STEPS - len(OVERFLOWS))
    assert max(seen[ours(name)]) < 100  # and not times 1,024


class PassingOn:
    """A wrapper as AdaScale is one: what it does not have is looked for in the optimizer."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)

    def step(self, *args: Any, **keywords: Any) -> Any:
        self.calls += 1
        return self.inner.step(*args, **keywords)


@each_optimizer
def test_a_wrapper_that_passes_attributes_on_is_stepped_by_unscaled_gradients(name: str) -> None:
    run = Run(PassingOn(ours(name)(plain_for(name))), scaler_of())
    assert run.optimizer.calls == STEPS - len(OVERFLOWS)
    assert same(run.inner, unscaled(name))


@each_fused
def test_the_fused_step_leaves_gradients_scaled_and_torchs_other_ways_to_look_at_them_work(name: str) -> None:
    optimizer, scaler = ours(name)(plain_for(name), fused=True), scaler_of()
    backward(params_of(optimizer), 1, scaler)
    before = [p.grad.clone() for p in params_of(optimizer)]
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(g, p.grad) for g, p in zip(before, params_of(optimizer), strict=True))
    assert not hasattr(optimizer, "grad_scale")
    assert not hasattr(optimizer, "found_inf")


@each_fused
def test_two_optimizers_share_one_scaler(name: str) -> None:
    ends = []
    for cls in (ours(name), theirs(name)):
        pair, scaler = [cls(plain_for(name)), cls(plain_for(name), fused=True)], scaler_of()
        for step in range(STEPS):
            for at, optimizer in enumerate(pair):
                optimizer.zero_grad()
                backward(params_of(optimizer), step, scaler, (2 + at,))
                scaler.step(optimizer)
            scaler.update()
        ends.append((pair, scaler.get_scale()))
    assert ends[0][1] == ends[1][1]
    for mine, other in zip(ends[0][0], ends[1][0], strict=True):
        assert distance(mine, other) < 10 * CLOSE[torch.float32]


def test_every_optimizer_was_compared_with_something() -> None:
    assert {peer(name).__module__.split(".")[0] for name in ALL} == {"torch", "scirs2_adapters"}
