"""A state dict made of a universal checkpoint of DeepSpeed's.

Such a folder has, whatever number of processes has written it, a folder for each parameter: `zero/<name>/exp_avg.pt`,
`exp_avg_sq.pt` and `fp32.pt`, and mostly `step.pt`. ZeRO's stages 1 and 2 put a tensor of the parameter's shape into
each, in a dict under "param"; stage 3 puts the tensor alone, flat, and counts steps in `zero/optimizer_state.pt`. That
file also has the groups. Shapes and the order of parameters are in `*model_states.pt`.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from scirs2_adapters.core.portable.file import Array, refused

from ..portable import numbers_of
from ..state.protocols import Group, Saved
from ..state.tensors import Tensor, dtype_name
from .loading import loaded

log = logging.getLogger("scirs2")

#: Files in the folder of a parameter that are no slots.
_OTHERS = ("fp32", "step")
_WAY_OUT = (
    "Make a universal one: `python -m deepspeed.checkpoint.ds_to_universal --input_folder IN --output_folder OUT`."
)
#: Names and shapes of parameters, in the optimizer's order.
Shapes = Mapping[str, tuple[int, ...]]


def read(call: str, path: Path) -> Saved:
    """The state dict, with arrays that are read when they are asked for."""
    folder = _folder(call, path)
    optimizer = _mapping(call, path, folder / "zero/optimizer_state.pt")
    groups: list[Group] = optimizer.get("param_groups") or []
    if not groups:
        raise refused(call, str(path), "its zero/optimizer_state.pt has no `param_groups`")
    there = {x.name: x for x in sorted((folder / "zero").iterdir()) if x.is_dir()}
    models = [_mapping(call, path, file) for file in sorted(folder.glob("*model_states.pt"))]
    by_group = _shapes(models)
    shapes = {name: shape for group in by_group for name, shape in group.items()}
    if not shapes:
        log.warning("%s: %s does not say the order of its parameters; they come by their names", call, path.name)
    elif lacking := [name for name in shapes if name not in there]:
        raise refused(call, str(path), f"this one lacks the parameter {lacking[0]}")
    names = list(shapes) or [name for name, x in there.items() if any(_slots(x))]
    counted = _count(optimizer)
    state = {i: _parameter(call, path, there[name], shapes.get(name), counted) for i, name in enumerate(names)}
    _check_whole(call, path, {name: {*state[i]} for i, name in enumerate(names)})
    skipped = max((int(x.get("skipped_steps") or 0) for x in models), default=0)
    members = list(map(list, by_group)) if len(by_group) == len(groups) else [names]
    return {"state": state, "param_groups": list(_groups(groups, members, skipped))}


def _groups(groups: Sequence[Group], members: Sequence[Sequence[str]], skipped: int) -> Iterator[Group]:
    """The groups with these parameters, which are numbered one after another; the first one where it has all."""
    first = 0
    for group, names in zip(groups, members, strict=False):
        numbers = list(range(first, first + len(names)))
        yield {**group, "params": numbers, "param_names": list(names), "skipped_steps": skipped}
        first += len(names)


def _folder(call: str, path: Path) -> Path:
    """The folder of the checkpoint: this one, or the one that it names as its latest."""
    latest = path / "latest_universal"
    folder = path / latest.read_text().strip() if latest.is_file() else path
    if (folder / "zero/optimizer_state.pt").is_file():
        return folder
    if (folder / "zero").is_dir():
        raise refused(call, str(path), "this one lacks zero/optimizer_state.pt, and so is not complete")
    raise refused(call, str(path), "this one is of DeepSpeed, in parts of its processes", _WAY_OUT)


def _mapping(call: str, path: Path, file: Path) -> Saved:
    content = loaded(call, file, path / file.name)
    if not isinstance(content, Mapping):
        raise refused(call, str(path), f"its {file.name} is of another form")
    return cast("Saved", content)


def _shapes(models: Sequence[Saved]) -> list[Shapes]:
    """What the first process of each part of the model says of its parameters, by group."""
    groups: list[dict[str, tuple[int, ...]]] = []
    for model in models:
        for i, group in enumerate(model.get("param_shapes") or ()):
            known = set().union(*groups)
            groups += [{}] * (i == len(groups))
            groups[i] |= {name: tuple(shape) for name, shape in group.items() if name not in known}
    return list(groups)


def _count(optimizer: Saved) -> int | None:
    """How many steps were taken, where one file says it for all parameters."""
    state = (optimizer.get("optimizer_state_dict") or {}).get("state") or {}
    counts = {int(x["step"]) for x in (*state.values(), *optimizer["param_groups"]) if x.get("step") is not None}
    return counts.pop() if len(counts) == 1 else None


def _slots(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.glob("*.pt")) if file.stem not in _OTHERS)


def _parameter(call: str, path: Path, folder: Path, shape: Sequence[int] | None, counted: int | None) -> Group:
    """What a state dict has of one parameter: nothing where it has never had a gradient."""
    slots: Group = {file.stem: _slot(call, path, file, shape) for file in _slots(folder)}
    if not slots:
        return {}
    file = folder / "step.pt"
    step = loaded(call, file, path / folder.name / file.name) if file.is_file() else counted
    if step is not None and not isinstance(step, (int, float, Tensor)):
        raise refused(call, str(path), f"the step.pt of {folder.name} is no number")
    return slots if step is None else {"step": step, **slots}


def _slot(call: str, path: Path, file: Path, shape: Sequence[int] | None) -> Array:
    x, flat = _tensor(call, path, file)
    if flat and (shape is None or x.numel() != math.prod(shape)):
        why = f"{file.parent.name}/{file.name} has {x.numel()} numbers, and the parameter is of shape {shape}"
        raise refused(call, str(path), why if shape is not None else "no file *model_states.pt says the shapes in it")
    whole = tuple(shape) if flat and shape is not None else tuple(x.shape)
    return Array(dtype_name(x.dtype), whole, functools.partial(_numbers, call, path, file, whole))


def _tensor(call: str, path: Path, file: Path) -> tuple[Tensor, bool]:
    """The tensor in a file, and whether it is there without the parameter's shape."""
    content = loaded(call, file, path / file.parent.name / file.name)
    flat = not isinstance(content, Mapping)
    x = content.get("param") if isinstance(content, Mapping) else content
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise refused(call, str(path), f"{file.parent.name}/{file.name} is no tensor of numbers")
    return x, flat


def _numbers(call: str, path: Path, file: Path, shape: tuple[int, ...]) -> np.ndarray:
    return numbers_of(_tensor(call, path, file)[0]).reshape(shape)


def _check_whole(call: str, path: Path, slots: Mapping[str, set[str]]) -> None:
    """Refuse a folder in which one parameter lacks a slot that others have."""
    every = set().union(*slots.values())
    for name, present in slots.items():
        if present and (lacking := sorted(every - present)):
            raise refused(call, str(path), f"{name} has no {lacking[0]}.pt, which other parameters have")
