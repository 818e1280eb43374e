"""torch's parameter groups, and the forms that it gives its state."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from ..drivers.torch import Tensors, TorchDriver
from ..outcome import NotApplicable, expect
from ..problem import MOVES, STEPS, same_bits


def _parameters(driver: TorchDriver) -> Tensors:
    return [torch.nn.Parameter(torch.tensor(p, dtype=torch.float32)) for p in driver.problem.params]


def group_rate(driver: TorchDriver) -> None:
    """The parameters of a group are stepped with the learning rate of the group."""
    half = driver.subject.rate_value / 2 if driver.rate() else 0.0
    params, whole, halved = _parameters(driver), driver.start(), driver.start({driver.rate(): half})
    run = driver.over(params)
    run.optimizer = driver.create([{"params": params[:1]}, {"params": params[1:], "lr": half}])
    for each in (run, whole, halved):
        each.advance(MOVES)
    expect(run.optimizer.param_groups[1]["lr"] == half, "the rate in its group", "another one")
    if same_bits(whole.params(), halved.params()):
        raise NotApplicable("its steps do not depend on the learning rate")
    same = [np.array_equal(a, b) for a, b in zip(run.params()[1:], whole.params()[1:], strict=True)]
    expect(not any(same), "other steps with half the rate", "the same steps")


def group_values(driver: TorchDriver) -> None:
    """A group's weight decay, betas and momentum act on its parameters, and on no others."""
    other = _other_values(driver)
    whole, changed, single, run = driver.start(), driver.start(other), driver.start(), driver.start()
    gradients = [driver.problem.gradients(driver.problem.params, step) for step in range(3)]
    with _refusal(other):
        run.optimizer = driver.create([{"params": run.tensors[:1]}, {"params": run.tensors[1:], **other}])
        for grads in gradients:
            run.step(grads)
    for grads in gradients:
        single.step([*grads[:1], *[None] * (len(grads) - 1)])
        whole.step(grads)
        changed.step(grads)
    if not same_bits(single.params()[:1], whole.params()[:1]):
        raise NotApplicable("the steps of a parameter depend on all others")
    expected = [*whole.params()[:1], *changed.params()[1:]]
    said = ", ".join(f"{word}={value!r}" for word, value in other.items())
    expect(
        same_bits(run.params(), expected), f"each group as one optimizer with its values, {said} among them", "others"
    )


@contextlib.contextmanager
def _refusal(words: Iterable[str]) -> Iterator[None]:
    """A refusal of groups that differ in one of these words, by its name: nothing wrong is computed then."""
    try:
        yield
    except ValueError as error:
        if refused := [word for word in words if word in str(error)]:
            raise NotApplicable(f"it refuses groups that differ in {refused[0]}") from error
        raise


def _other_values(driver: TorchDriver) -> dict[str, object]:
    """Nine tenths of each weight decay, beta and momentum; 0.1 where it is zero."""
    known = driver.subject.defaults()
    parts = driver.start().optimizer.param_groups[0]
    words = [word for word in ("weight_decay", "betas", "momentum", "alpha") if word in known and word in parts]
    if not words:
        raise NotApplicable("its groups have no weight decay, betas, momentum or alpha")
    return {word: _lowered(known[word]) for word in words}


def _lowered(value: object) -> object:
    if isinstance(value, tuple | list):
        return tuple(_lowered(x) for x in value)
    return float(value) * 0.9 or 0.1  # type: ignore[arg-type]  # a number


def named_parameters(driver: TorchDriver) -> None:
    """Parameters may come with their names, and walk as without."""
    run, plain = driver.start(), driver.start()
    named = list(zip(driver.problem.names, run.tensors, strict=True))
    run.optimizer = driver.create(named)
    for each in (run, plain):
        each.advance(2)
    expect(same_bits(run.params(), plain.params()), "the same bits", "others")


def generator(driver: TorchDriver) -> None:
    """Parameters may come from a generator, as `model.parameters()` is one."""
    run = driver.start()
    run.optimizer = driver.create(p for p in run.tensors)  # type: ignore[arg-type]
    before = run.params()
    run.advance(MOVES)
    expect(not same_bits(run.params(), before), "parameters that move", "no change")


def added_group(driver: TorchDriver) -> None:
    """A group that is added between steps is stepped from then on."""
    params = _parameters(driver)
    run = driver.over(params)
    run.optimizer = driver.create(params[:2])
    before = run.params()
    run.advance(1)
    expect(same_bits(run.params()[2:], before[2:]), "parameters of nobody unchanged", "a change")
    run.optimizer.add_param_group({"params": params[2:]})
    run.advance(MOVES)
    moved = [not np.array_equal(a, b) for a, b in zip(run.params(), before, strict=True)]
    expect(all(moved), "all parameters moved", "some did not")


def twice(driver: TorchDriver) -> None:
    """A parameter that is in a group already is refused in another one."""
    params = _parameters(driver)
    run = driver.over(params)
    try:
        run.optimizer.add_param_group({"params": params[:1]})
    except ValueError:
        return
    expect(False, "ValueError", "two groups with one parameter")


def other_groups(driver: TorchDriver) -> None:
    """The state of an optimizer with other groups is refused, and changes nothing."""
    run, other = driver.start(), driver.start()
    other.optimizer = driver.create(other.tensors[:1])
    other.advance(1)
    before = copy.deepcopy(run.optimizer.state_dict())
    try:
        run.optimizer.load_state_dict(other.optimizer.state_dict())
    except ValueError:
        expect(str(run.optimizer.state_dict()) == str(before), "a state unchanged", "a change before the error")
        return
    expect(False, "ValueError", "a state with other parameters")


def no_gradients(driver: TorchDriver) -> None:
    """A step without any gradient changes nothing."""
    run = driver.start()
    before = run.params()
    run.step([None] * len(before))
    expect(same_bits(run.params(), before), "parameters unchanged", "a change")
    run.advance(STEPS)
    whole = driver.start()
    whole.at = 1
    whole.advance(STEPS)
    expect(same_bits(run.params(), whole.params()), "a walk as without that step", "another walk")


CHECKS = (group_rate, group_values, named_parameters, generator, added_group, twice, other_groups, no_gradients)
