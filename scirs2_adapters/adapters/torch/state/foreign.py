"""State dicts of other libraries in torch's form: float32 numbers under torch's names. They are those of the low-bit
optimizers of bitsandbytes and torchao, and of the packages in `packages.py`.

The first two store codes, a table with the number of each code, and a scale for each block: bitsandbytes as tensors
beside each other (`state1`, `qmap1`, `absmax1`), torchao as one tensor with these attributes (`codes`, `qmap`,
`scale`). Neither says which optimizer it is of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.rule import Rule

from . import packages
from .codes import Coded, checked
from .protocols import Group, Saved
from .tensors import Tensor, local

log = logging.getLogger("scirs2")

#: What bitsandbytes calls `state1` and `state2`, by optimizer.
BITSANDBYTES = {"Adam": ("exp_avg", "exp_avg_sq"), "AdamW": ("exp_avg", "exp_avg_sq"), "Lion": ("exp_avg",)}
#: Where its newer versions keep all of its memory but the step.
_NESTED = "__bnb_optimizer_quant_state__"
_PARTS = ("state", "qmap", "absmax", "max", "new_max")
_OTHERS = ("unorm_vec", "gnorm_vec")
#: Keys of its groups that only its AdEMAMix reads, and `eps` of its Lion, which no one does.
_UNREAD = {"alpha", "t_alpha", "t_beta3"}
_BLOCK = 256
#: The tensor classes of torchao, and how many codes each has; codes of float8 are numbers and have no table.
TORCHAO = {"OptimState8bit": 256, "OptimState4bit": 16, "OptimStateFp8": 0}
#: What is made of codes: their numbers, or something that makes these later.
Form = Callable[[Coded], object]
_SAID = "%s: the codes of %s's optimizer are read as float32 numbers"


def decoded(call: str, rule: Rule, saved: Saved, form: Form = Coded.numbers) -> Saved:
    """The dict in torch's form, with `form` of each tensor of codes; one that is neither library's as it is."""
    memories = {key: x for key, x in saved["state"].items() if isinstance(x, Mapping)}
    if any(_NESTED in x or "state1" in x for x in memories.values()):
        names = _names(call, rule, saved["param_groups"])
        state = {key: _bitsandbytes(call, key, names, x, form) for key, x in memories.items()}
        unread = _UNREAD if len(names) == 2 else _UNREAD | {"eps"}
        groups = [{k: v for k, v in group.items() if k not in unread} for group in saved["param_groups"]]
        log.warning(_SAID, call, "bitsandbytes")
        return {**saved, "state": {**saved["state"], **state}, "param_groups": groups}
    if any(_coded(x) for param_state in memories.values() for x in param_state.values()):
        state = {key: _torchao(call, key, x, form) for key, x in memories.items()}
        log.warning(_SAID, call, "torchao")
        return {**saved, "state": {**saved["state"], **state}}
    return packages.translated(call, rule, saved)


def _names(call: str, rule: Rule, groups: list[Group]) -> tuple[str, ...]:
    name = type(rule).__name__
    if name not in BITSANDBYTES:
        worded = "must be of an optimizer whose memory means the same here: " + ", ".join(BITSANDBYTES)
        raise bad_value(call, "state_dict", worded, f"one of bitsandbytes for {name}")
    if name == "Adam" and any(group.get("weight_decay") for group in groups):
        worded = "must have weight_decay=0 for Adam: bitsandbytes' Adam decays weights as AdamW does"
        raise bad_value(call, "state_dict", worded, groups[0].get("weight_decay"), "Load it into AdamW.")
    return BITSANDBYTES[name]


def _bitsandbytes(call: str, key: Hashable, names: tuple[str, ...], param_state: Saved, form: Form) -> Group:
    entries = {**param_state, **param_state.get(_NESTED, {})}
    count = sum(f"state{i}" in entries for i in (1, 2))
    if entries.keys() - {"step", _NESTED} and count != len(names):
        worded = f"must have {len(names)} of bitsandbytes' states for each parameter"
        raise bad_value(call, "state_dict", worded, f"{count} of {key!r}", "It is of another optimizer.")
    theirs = {f"{part}{i}" for part in _PARTS for i in (1, 2)} | {_NESTED, *_OTHERS}
    result = {k: x for k, x in entries.items() if k not in theirs}
    for i, name in enumerate(names, 1) if count else ():
        x, place = entries[f"state{i}"], f"state_dict['state'][{key!r}]['state{i}']"
        if isinstance(x, Tensor) and x.is_floating_point():
            result[name] = x.clone()
        else:
            coded = Coded(x, entries.get(f"qmap{i}"), entries.get(f"absmax{i}"), _BLOCK)  # type: ignore[arg-type]  # looked at next
            result[name] = form(checked(call, place, coded))
    return result


def _coded(x: object) -> bool:
    """Whether it is a tensor of torchao's, or a DTensor of them."""
    return isinstance(x, Tensor) and type(x) is not Tensor and hasattr(local(x), "codes")


def _torchao(call: str, key: Hashable, param_state: Saved, form: Form) -> Group:
    result: Group = {name: x.clone() if type(x) is Tensor else x for name, x in param_state.items()}
    for name, x in param_state.items():
        if _coded(x):
            place = f"state_dict['state'][{key!r}][{name!r}]"
            table = TORCHAO.get(type(x).__name__)
            if table is None:
                worded = f"must be a tensor of numbers or torchao's {', '.join(TORCHAO)}"
                raise bad_value(call, place, worded, type(x).__name__, "Put `x.dequantize()` in its place.")
            codes, qmap, scales = (getattr(x, part, None) for part in ("codes", "qmap", "scale"))
            shape = getattr(x, "_shape", None) if table == 16 else None
            coded = Coded(codes, qmap, scales, x.block_size, table, shape)  # type: ignore[arg-type]  # looked at next
            result[name] = form(checked(call, place, coded))
    return result
