"""What a step must not do while a CUDA graph captures it. A replay repeats what was queued on the device, and nothing
that the host did: memory that the captured step made would be made anew at each replay, and what the host computed
would stay as it was. Such a step is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch

from scirs2_adapters.core.step.protocols import Model

from ..state.protocols import GroupValues
from ..state.tensors import Tensor, on_host
from .param_entry import TensorEntry
from .step_counts import StepCounts

_WARM_UP = "Take one step with these gradients before the capture, on a side stream, and capture the next one."
_OUTSIDE = "Leave the step out of the graph."


class Planned(Protocol):
    """What is looked at of the plan of a step."""

    @property
    def entries(self) -> Sequence[TensorEntry]: ...

    @property
    def step_counts(self) -> StepCounts: ...

    @property
    def options(self) -> Sequence[tuple[bool, str]]: ...

    @property
    def model(self) -> Sequence[str]: ...

    @property
    def numbers_stay(self) -> bool: ...


def is_capturing(params: Iterable[Tensor]) -> bool:
    """Whether a graph captures what is queued now for some of these parameters."""
    in_use = torch.cuda.is_initialized()  # a build without CUDA cannot be asked for the rest
    return in_use and torch.cuda.is_current_stream_capturing() and any(p.is_cuda for p in params)


def refuse_options(call: str, attributes: Mapping[str, object], groups: Sequence[GroupValues], value: bool) -> None:
    """Refuse what makes the host wait or work: a GradScaler among the attributes of the optimizer, options, and a
    formula with the `value` of the loss.
    """
    if attributes.get("grad_scale") is not None or attributes.get("found_inf") is not None:
        raise captured(call, "must not read the scale of a GradScaler", "`optimizer.grad_scale`", _OUTSIDE)
    for option in ("offload", "skip_nonfinite"):
        if any(group.get(option) for group in groups):
            raise captured(call, f"must have {option}=False, which would need the host", True, _OUTSIDE)
    if value:
        raise captured(call, "must not depend on the loss, which the host reads", "a formula that does", _OUTSIDE)


def refuse_plan(call: str, plan: Planned, begun: int = 0) -> None:
    """Refuse a step that begins so much memory, that is counted by the host, or that waits for the device."""
    _refuse_counts(call, [entry for entry in plan.entries if entry.counts], plan.options)
    if begun:
        raise captured(call, "must find its memory there, or each replay would begin anew", "a first step", _WARM_UP)
    if plan.model and not plan.numbers_stay:
        worded = f"must leave {', '.join(plan.model)} on the device, as kernels do for all parameters of one device"
        raise captured(call, worded, "parameters that are stepped by torch's operations", _OUTSIDE)
    if plan.step_counts.stale and plan.step_counts.waits:
        worded = "must not ask the device for the numbers of the step"
        raise captured(call, worded, "other gradients than before, or a count that was written since", _WARM_UP)


def _refuse_counts(call: str, counting: Sequence[TensorEntry], options: Sequence[tuple[bool, str]]) -> None:
    """Refuse counts of the host, which no replay counts; in torch's words where the option is missing."""
    if not all(options[entry.group][0] for entry in counting):
        raise RuntimeError(
            f"Attempting CUDA graph capture of step() for an instance of {call} but param_groups' capturable is False. "
            "Its formula has the number of the step, which replays would not count. Use `capturable=True`."
        )
    states = [entry.param_state for entry in counting if not on_host(entry.p)]
    if any(param_state is not None and on_host(param_state["step"]) for param_state in states):
        worded = "must have the number of the step on the device, where `capturable=True` begins it"
        way_out = "Write `optimizer.state[p]['step'] = optimizer.state[p]['step'].to(p.device)`."
        raise captured(call, worded, "`optimizer.state[p]['step']` on the CPU", way_out)


def refuse_numbers(call: str, kept: Model, model: Model) -> None:
    """Refuse numbers of the model that are not those which the last step has kept on the device."""
    for name, x in model.items():
        if x is not kept.get(name):
            worded = f"must find `{name}` as its last step left it, or each replay would begin from this number"
            raise captured(call, worded, "another tensor" if isinstance(x, Tensor) else x, _WARM_UP)


def captured(call: str, requirement: str, received: object, way_out: str) -> RuntimeError:
    """The error for a step that no graph can capture."""
    return RuntimeError(f"`{call}.step` in a CUDA graph {requirement}. Received: {received}. {way_out}")
