"""Memory of fewer bits (`core/formats.py`) in torch's tensors: slots of 8-bit codes, and 16-bit parameters with their
rounding error or stochastic rounding. Each has a companion in the parameter's state: `exp_avg_scale` of `exp_avg`, and
`rounding_error` or `rounding_seed`.

Codes lie as a contiguous tensor's numbers do, however the parameter lies.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from types import SimpleNamespace

import torch

from scirs2_adapters.core import formats
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.formats import BLOCK, BLOCK_DTYPES
from scirs2_adapters.core.rounding import ERROR_BITS, ROUNDING_ERROR, ROUNDING_SEED, STOCHASTIC
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import param_storage

from ..ops import INTEGERS
from .protocols import GroupValues, ParamState, Saved
from .tensors import Tensor, dtype_name, is_dtensor


def _rows(x: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(x.reshape(-1), (0, count * BLOCK - x.numel())).view(count, BLOCK)


def _where(condition: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    return torch.where(condition, a, b)


FORMAT_OPS = SimpleNamespace(
    **vars(INTEGERS),
    number=float,
    where=_where,
    sqrt=torch.sqrt,
    abs=torch.abs,
    bits=lambda x: x.view(torch.int32),
    from_bits=lambda x: x.view(torch.float32),
    shift_left=operator.lshift,
    half_bits=lambda x: x.to(torch.float16).view(torch.int16).to(torch.int32) & 0xFFFF,
    from_half_bits=lambda x: x.to(torch.int16).view(torch.float16).to(torch.float32),
    cast=lambda x, dtype: x.to(getattr(torch, dtype)),
    rows=_rows,
    unrows=lambda x, shape: x.reshape(-1)[: math.prod(shape)].view(shape),
    largest=lambda x: x.amax(dim=1, keepdim=True),
    code=lambda x: x.view(torch.int16).to(torch.int32),
    uncode=lambda x, dtype: x.to(torch.int16).view(getattr(torch, dtype)),
)


Place = Callable[[Tensor], int]
#: What a 16-bit parameter may have beside it.
ROUNDINGS = (ROUNDING_ERROR, ROUNDING_SEED)
#: Numbers that are coded at once before the first step: what their intermediate values take is not seen in the peak.
PIECE = BLOCK << 8


def filled(dtype: str, p: Tensor, number: float) -> tuple[Tensor, Tensor]:
    """Codes and scales of one number everywhere, for memory like a parameter."""
    code, scale = formats.store(FORMAT_OPS, dtype, torch.full((1,), number, dtype=torch.float32, device=p.device))
    scales = scale.expand(formats.blocks(p.numel())).contiguous()
    return code.reshape(()).expand(p.shape).clone(memory_format=torch.contiguous_format), scales


def encoded(dtype: str, p: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of these numbers, made in pieces that leave no holes in the heap."""
    codes = torch.empty(p.shape, dtype=getattr(torch, dtype), device=p.device)
    scales = torch.empty(formats.blocks(p.numel()), dtype=torch.float32, device=p.device)
    source = p.detach().reshape(-1)
    for start in range(0, p.numel(), PIECE):
        stored, rest = formats.store(FORMAT_OPS, dtype, source[start : start + PIECE].to(torch.float32))
        codes.view(-1)[start : start + PIECE] = stored
        scales[start // BLOCK :][: len(rest)] = rest
    return codes, scales


def companion_of(name: str, param_state: Saved) -> str | None:
    """The name of the companion of this slot, or of the parameter "p", if it has one."""
    if name == "p":
        return next((name for name in ROUNDINGS if name in param_state), None)
    return formats.companion(name, dtype_name(param_state[name].dtype))


def companions(slots: list[str], param_state: ParamState) -> list[str]:
    """The companions of a parameter and its slots, in the order of a kernel's table."""
    return [name for name in (companion_of(slot, param_state) for slot in ("p", *slots)) if name]


def begin(
    call: str, slots: list[str], p: Tensor, leaf: Leaf, param_state: ParamState, group: GroupValues, place: Place
) -> None:
    """Makes what companions are missing, for memory that has just begun, and refuses those that do not fit. The
    rounding error or seed of a parameter that no longer has one, as it is float32 now, is dropped. The seed of
    stochastic rounding is the parameter's place among all.
    """
    for name in slots:
        if (scales := companion_of(name, param_state)) is not None:
            check_scales(call, f"state[p][{scales!r}]", param_state.get(scales), p)
    storage = param_storage(leaf, group["rounding"], group["state_dtype"])
    wanted = formats.companion("p", storage)
    for name in ROUNDINGS:
        if name != wanted:
            param_state.pop(name, None)
        elif name in param_state:
            check_rounding(call, f"state[p][{name!r}]", name, param_state[name], p)
        elif name == ROUNDING_SEED:
            param_state[name] = torch.tensor(place(p), dtype=torch.int32, device=p.device)
        else:
            param_state[name] = torch.zeros(p.shape, dtype=getattr(torch, storage.split("+")[1]), device=p.device)
    if companions(slots, param_state):
        _refuse(call, p)


def check_rounding(call: str, argument: str, name: str, x: object, p: Tensor) -> None:
    """Rounding errors are walked by address, so there must be one for each number; a seed is one number."""
    shape, dtypes, role = p.shape, tuple(ERROR_BITS), "what rounding took from the parameter"
    if name == ROUNDING_SEED:
        shape, dtypes, role = torch.Size(), ("int32",), "the seed of stochastic rounding"
    if not isinstance(x, Tensor) or x.shape != shape or dtype_name(x.dtype) not in dtypes:
        raise bad_value(call, argument, f"must be an {' or '.join(dtypes)} tensor of shape {tuple(shape)}, {role}", x)


def refuse_dtensor(call: str, p: Tensor) -> None:
    """Refuse a part of a tensor, whose codes would be in other blocks than those of the whole."""
    if is_dtensor(p):
        raise RuntimeError(
            f"`{call}`: codes of 8 bits, rounding errors and stochastic rounding are not divided over ranks. Received: "
            'a DTensor. Use state_dtype="bfloat16" or None, and rounding="nearest".'
        )


def _refuse(call: str, p: Tensor) -> None:
    refuse_dtensor(call, p)
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"`{call}`: steps with codes of 8 bits, rounding errors or stochastic rounding have no derivative. "
            'Received: differentiable=True. Use state_dtype=None and rounding="nearest".'
        )


def check_scales(call: str, argument: str, scales: object, p: Tensor) -> None:
    """Scales are walked by address, so there must be one for each block."""
    wanted = (formats.blocks(p.numel()),)
    if not isinstance(scales, Tensor) or tuple(scales.shape) != wanted or scales.dtype != torch.float32:
        worded = f"must be a float32 tensor of shape {wanted}, the scales of blocks of {BLOCK} numbers"
        raise bad_value(call, argument, worded, scales, "Convert other formats to float32 before they are loaded.")


def storage_of(name: str, x: Tensor, param_state: ParamState) -> str:
    """The storage of the parameter "p" or of a slot."""
    dtype = dtype_name(x.dtype)
    other = companion_of(name, param_state)
    if other is None or dtype in BLOCK_DTYPES:
        return dtype
    return dtype + STOCHASTIC if other == ROUNDING_SEED else f"{dtype}+{dtype_name(param_state[other].dtype)}"


def load(name: str, x: Tensor, param_state: ParamState) -> Tensor:
    """The float32 numbers of what has a companion; anything else as it is."""
    other = companion_of(name, param_state)
    if other is None:
        return x
    return formats.load(FORMAT_OPS, storage_of(name, x, param_state), x, param_state[other])


def store(name: str, x: Tensor, numbers: Tensor, param_state: ParamState, dither: float | Tensor) -> None:
    """Writes numbers into memory, in its storage."""
    other = companion_of(name, param_state)
    if other is None:
        x.copy_(numbers)
        return
    storage = storage_of(name, x, param_state)
    stored, rest = formats.store(FORMAT_OPS, storage, numbers, dither, param_state[other])
    x.copy_(stored)
    param_state[other].copy_(rest)
