"""The steps of a torch optimizer, written down after each one: ours, torch's own, or anyone's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from scirs2_adapters.core.errors import ArgumentTypeError, bad_value
from scirs2_adapters.core.matrix import OUTPUTS_FIRST
from scirs2_adapters.core.portable.recording import GRAD, PARAM, Recorder, unknown
from scirs2_adapters.core.portable.state import ParameterState, State, described

from .portable import Named, inside, names_of, parameter_of, rule_of
from .state.protocols import GroupValues
from .state.tensors import Tensor, bare, is_dtensor, leaf_of


def recorded(optimizer: torch.optim.Optimizer, recorder: Recorder, names: Named = None) -> torch.optim.Optimizer:
    """The same optimizer, which writes its steps from now on. Parameters without names are called by their numbers."""
    inner = inside(optimizer)
    called = _called(inner, names)

    def hook(*_: object) -> None:
        if not recorder.over:
            recorder.write(states(inner, called))

    recorder.write(states(inner, called))
    inner.register_step_post_hook(hook)
    return optimizer


def _called(optimizer: torch.optim.Optimizer, names: Named) -> list[str]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if any(map(is_dtensor, params)):
        raise bad_value("record", "optimizer", "must hold whole tensors", "a part of one", "Record one device's run.")
    labels = [bare(n) or str(i) for i, n in enumerate(names_of("record", optimizer, params, names))]
    if len(set(labels)) < len(labels):
        raise bad_value("record", "names", "must have a name of its own for each parameter", labels)
    return labels


def states(optimizer: torch.optim.Optimizer, names: Sequence[str]) -> list[State]:
    """What there is after a step, by group; parameters that were added since are called by their numbers."""
    group_states, waiting = [], itertools.chain(names, map(str, itertools.count(len(names))))
    for index, group in enumerate(optimizer.param_groups):
        parameters = {name: _parameter(name, p, optimizer) for p, name in zip(group["params"], waiting, strict=False)}
        group_states.append(_state(optimizer, index, group, parameters))
    return group_states


def _parameter(name: str, p: Tensor, optimizer: torch.optim.Optimizer) -> ParameterState:
    memory = {k: x for k, x in (optimizer.state.get(p) or {}).items() if k == "step" or isinstance(x, Tensor)}
    grad = {} if p.grad is None else {GRAD: p.grad}
    parameter, leaf = parameter_of("record", name, {**memory, PARAM: p, **grad}), leaf_of(p)
    steps = parameter.steps if memory else None if grad else 0
    return ParameterState(parameter.slots, steps, leaf.shape, leaf.dtype, leaf.complex)


def _state(
    optimizer: torch.optim.Optimizer, index: int, group: GroupValues, parameters: dict[str, ParameterState]
) -> State:
    source = {"framework": "torch", "torch": str(torch.__version__), "class": type(optimizer).__qualname__}
    steps = max((p.steps or 0 for p in parameters.values()), default=0)
    try:
        rule = rule_of("record", optimizer, index)
    except ArgumentTypeError:
        values = {("learning_rate" if k == "lr" else k): x for k, x in group.items() if k != "params"}
        name = type(optimizer).__name__.lower()
        return unknown(name, values, parameters, step_count=steps, layout=OUTPUTS_FIRST, source=source)
    numbers = {s.name: float(group[s.name]) for s in rule.model_slots()}
    return described(rule, parameters, numbers=numbers, step_count=steps, layout=OUTPUTS_FIRST, source=source)
