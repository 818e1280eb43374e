"""State dicts in torch's files: those of `torch.save`, of the Trainer and of others, read without running anything.

Reading allows tensors and plain Python alone (`weights_only`) and maps the file, so that numbers are read one tensor at
a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from scirs2_adapters.core.errors import ArgumentValueError, bad_value
from scirs2_adapters.core.matrix import OUTPUTS_FIRST
from scirs2_adapters.core.portable.file import refused, replacing
from scirs2_adapters.core.portable.state import State, described
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule

from .argument_names import FLAGS, build, group_values, places
from .portable import UNCOUNTED, parameter_of, tensor_of
from .state.foreign import decoded
from .state.origin import TRAIN_MODE, group_marks, likely_names
from .state.protocols import Group, Saved
from .state.tensors import saved_names


def read(call: str, path: Path, rule: str | None = None) -> State:
    """The state in a file; `rule` names the optimizer where the file fits several. Parameters without names are called
    by their numbers.
    """
    saved = _loaded(call, path)
    made = _rule(call, path, saved, rule)
    saved = decoded(call, made, saved)
    numbered = {
        key: name for group in saved["param_groups"] for key, name in zip(group["params"], _names(group), strict=True)
    }
    held = {name: parameter_of(call, name, saved["state"].get(key) or {}) for key, name in numbered.items()}
    group = saved["param_groups"][0]
    numbers = {s.name: float(group[s.name]) for s in made.model_slots() if s.name in group}
    return described(
        made, held, numbers=numbers, step_count=max((p.steps or 0 for p in held.values()), default=0),
        skipped_steps=int(group.get("skipped_steps", 0)), layout=OUTPUTS_FIRST,
        source={"framework": "torch", "file": path.name},
    )  # fmt: skip


def _loaded(call: str, path: Path) -> Saved:
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except OSError:
        raise
    except Exception:  # what is wrong with a file decides of which kind it is
        why = "this one holds more than tensors and plain values, which torch reads without running code, or is damaged"
        raise refused(call, str(path), why) from None
    parts = ("state", "param_groups")
    if not isinstance(saved, Mapping) or not all(part in saved for part in parts) or not saved["param_groups"]:
        raise refused(call, str(path), "this one holds no optimizer's `state_dict()`")
    if not all(group.get(TRAIN_MODE, True) for group in saved["param_groups"]):
        raise refused(call, str(path), "this one was saved after `eval()`", "Call `optimizer.train()` and save again.")
    return saved


def _names(group: Group) -> Sequence[str]:
    return saved_names(group) or [str(key) for key in group["params"]]


def _rule(call: str, path: Path, saved: Saved, name: str | None) -> Rule:
    """The rule whose state a dict is."""
    group = saved["param_groups"][0]
    slots = set().union(*(x for x in saved["state"].values() if isinstance(x, dict))) - {"step"}
    found = [name] if name else likely_names(group, slots)
    if len(found) != 1:
        worded = f"is not said by {path.name}, which fits {', '.join(found) or 'none'}"
        raise bad_value(call, "rule", worded, None, "Name the optimizer: `--rule adamw`.")
    cls = get(found[0])
    values = {key: group[key] for key in places(cls, group.get("base")) if group.get(key) is not None}
    base = {"base": group["base"]} if group.get("base") else {}
    match = group.get("match", "torch" if "torch" in cls.matches else None)
    try:
        return build(cls, values | base, match)
    except (TypeError, ArgumentValueError) as error:
        raise refused(call, str(path), f"its groups are not of {cls.__name__}: {error}") from None


def write(state: State, path: Path) -> None:
    """A `state_dict` for torch's own class of the optimizer, or ours, in a file of torch's."""
    cls = get(state.rule)
    rule = cls(**{k: tuple(x) if isinstance(x, list) else x for k, x in state.config.items()})
    memory = {}
    for i, p in enumerate(state.parameters.values()):
        step = {"step": torch.tensor(float(p.steps))} if p.steps is not None and cls.__name__ not in UNCOUNTED else {}
        if p.slots or p.steps:
            memory[i] = {**step, **{slot: tensor_of(x) for slot, x in p.slots.items()}}
    names = list(state.parameters)
    values = {**FLAGS, **group_values(rule), **group_marks(rule), **state.numbers, "match": rule.match}
    group = {**values, "params": list(range(len(names))), "param_names": names}
    with replacing(path) as temporary:
        torch.save({"state": memory, "param_groups": [group]}, temporary)
