"""The memory of one parameter: made where it is missing, and checked before it is walked by address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from scirs2_adapters.core import formats
from scirs2_adapters.core.cpu.storage import FLOATS
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.formats import BLOCK_DTYPES
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf, Slot
from scirs2_adapters.core.step.options import StateDtype, param_storage, slot_dtype

from . import coded
from .protocols import GroupValues, ParamState, RuleOptimizerLike
from .tensors import Spread, Tensor, dtype_name, is_dtensor, local, on_host, placements

#: In the memory of a parameter while another one is evaluated in its place: the one that is trained.
TRAINED = "trained"
_COMPLEX = ("complex32", "complex64", "complex128")


def arrays_of(rule: Rule, leaf: Leaf) -> tuple[Slot, ...]:
    """The slots that are tensors."""
    return tuple(s for s in rule.slots(leaf) if s.extent is not Extent.MODEL)


def count_dtype() -> torch.dtype:
    """The dtype of `step`, as torch has it."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


def begin_counts(optimizer: RuleOptimizerLike, counting: Sequence[tuple[Tensor, GroupValues]]) -> None:
    """Puts a step of 0 into the memory of each parameter without one; a number becomes a tensor. `counting` are the
    parameters with their groups. New steps are elements of one tensor: one addition counts for all of them.
    """
    fresh: dict[torch.device, list[ParamState]] = {}
    for p, group in counting:
        param_state: ParamState = optimizer.state[p]
        if param_state.get("step") is None:
            fresh.setdefault(_counted_on(p, group), []).append(param_state)
        else:
            param_state["step"] = _as_step(param_state["step"], p, group)
    for device, param_states in fresh.items():
        _write_counts(param_states, torch.zeros(len(param_states), dtype=count_dtype(), device=device))


def gather_counts(optimizer: RuleOptimizerLike) -> None:
    """After a load or a copy: steps become elements of one tensor, but for those that another process shares."""
    gathered: list[ParamState] = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            param_state = optimizer.state.get(p)
            if not isinstance(param_state, dict) or param_state.get("step") is None:
                continue
            param_state["step"] = step = _as_step(param_state["step"], p, group)
            usual = type(step) is Tensor and step.ndim == 0 and step.dtype == count_dtype()
            if usual and on_host(step) and not step.is_shared():
                gathered.append(param_state)
    if gathered:
        _write_counts(gathered, torch.stack([param_state["step"] for param_state in gathered]))


def _write_counts(param_states: list[ParamState], counts: Tensor) -> None:
    for param_state, step in zip(param_states, counts.unbind(), strict=True):
        param_state["step"] = step


def _counted_on(p: Tensor, group: GroupValues) -> torch.device:
    """Where torch keeps the step of this parameter."""
    return p.device if group["capturable"] or group["fused"] else torch.device("cpu")


def _as_step(step: Tensor | float, p: Tensor, group: GroupValues) -> Tensor:
    """The step itself, or a number as a tensor: what torch's older versions and other libraries have there."""
    if isinstance(step, Tensor):
        return step
    return torch.tensor(float(step), dtype=count_dtype(), device=_counted_on(p, group))


@contextlib.contextmanager
def all_or_nothing(optimizer: RuleOptimizerLike) -> Iterator[None]:
    """If the block raises, the memory it has begun is taken back, for a refused step leaves none."""
    before = {p: set(param_state) for p, param_state in optimizer.state.items() if isinstance(param_state, dict)}
    try:
        yield
    except BaseException:
        for p, param_state in list(optimizer.state.items()):
            if isinstance(param_state, dict):
                for name in param_state.keys() - before.get(p, set()):
                    del param_state[name]
                if p not in before:
                    del optimizer.state[p]
        raise


def init_state(
    optimizer: RuleOptimizerLike, p: Tensor, rule: Rule, leaf: Leaf, group: GroupValues
) -> ParamState | None:
    """A parameter's memory, made where it is missing; None for a rule that remembers nothing of it."""
    slots = arrays_of(rule, leaf)
    companion = formats.companion("p", param_storage(leaf, group["rounding"], group["state_dtype"]))
    if not slots and rule.time_dependence != "step" and not companion:
        return None
    param_state: ParamState = optimizer.state[p]
    for slot in slots:
        memory = param_state.get(slot.name)
        if memory is None:
            param_state |= _initial(rule, slot, p, leaf, group["state_dtype"])
            continue
        if getattr(memory, "is_sparse", False):  # torch's SGD remembers sparse gradients so
            param_state[slot.name] = memory = memory.to_dense()
        check_shape(type(optimizer).__name__, f"state[p][{slot.name!r}]", slot, memory, p)
    coded.begin(type(optimizer).__name__, [s.name for s in slots], p, leaf, param_state, group, optimizer._place)
    return param_state


def _initial(rule: Rule, slot: Slot, p: Tensor, leaf: Leaf, state_dtype: StateDtype) -> ParamState:
    """A slot before the first step, and its companion if it has one."""
    full, dtype = slot.extent is Extent.FULL, slot_dtype(slot, leaf, state_dtype)
    if full and dtype in BLOCK_DTYPES:
        copied = slot.initial == "parameter"
        codes, scales = coded.encoded(dtype, p) if copied else coded.filled(dtype, p, float(slot.initial_value(rule)))
        return {slot.name: codes, f"{slot.name}_scale": scales}
    kind = p.dtype if full and p.is_complex() else getattr(torch, dtype)
    memory = torch.zeros_like(p, dtype=kind, memory_format=torch.preserve_format) if full else _small(slot, p, kind)
    if slot.initial == "parameter":
        memory.copy_(p.detach())
    elif slot.initial is not None:
        (torch.view_as_real(memory) if memory.is_complex() else memory).fill_(slot.initial_value(rule))
    return {slot.name: memory}


def _small(slot: Slot, p: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros, spread as the parameter is over the axes that the slot has."""
    here = local(p.detach())
    zeros = here.new_zeros(slot.shape(tuple(p.shape if slot.side else here.shape)), dtype=dtype)
    layout = _slot_placements(slot, p)
    if layout is None or not is_dtensor(p):
        return zeros
    whole = torch.empty(slot.shape(tuple(p.shape)), device="meta")
    return type(p).from_local(zeros, *layout, run_check=False, shape=whole.shape, stride=whole.stride())


def _slot_placements(slot: Slot, p: Tensor) -> Spread | None:
    """How a slot of this parameter is spread, or None; one number stands on every rank, as `step` does."""
    if not is_dtensor(p) or slot.extent is Extent.TENSOR:
        return None
    from torch.distributed.tensor import Replicate

    if slot.side:  # every rank has the whole of it
        return p.device_mesh, tuple(Replicate() for _ in p.placements)
    axes = (*slot.shape((2,) * p.ndim), 2)  # the last for what has no axis: on every rank
    return p.device_mesh, tuple(x if axes[getattr(x, "dim", -1)] == 2 else Replicate() for x in p.placements)


def check_shape(call: str, argument: str, slot: Slot, x: object, p: Tensor) -> None:
    """Memory that comes from elsewhere is walked by address, so its shape must be right, and its dtype a storage."""
    wanted = slot.shape(tuple(p.shape))
    if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
        raise bad_value(call, argument, f"must be a tensor of shape {wanted}", x)
    if slot.extent > Extent.TENSOR and dtype_name(x.dtype) not in (*FLOATS, slot.block_dtype, *_COMPLEX):
        in_blocks = f", or {slot.block_dtype} codes" if slot.may_be_blocks else ""
        raise bad_value(call, argument, f"must be a tensor of numbers of 16 bits or more{in_blocks}", x)
    if placements(x) != _slot_placements(slot, p):
        worded = f"must be spread over the ranks as its parameter is, {_slot_placements(slot, p)}"
        hint = "Load it with torch.distributed.checkpoint.state_dict.set_optimizer_state_dict."
        raise bad_value(call, argument, worded, placements(x), hint)
