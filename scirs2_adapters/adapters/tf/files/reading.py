"""The optimizer's state in Keras' files: whole models in `.keras` files, and weights in `.weights.h5` files.

Keras makes the model of a `.keras` file from its description, in its safe mode: what would run code is refused. A file
of weights has no description: there ours write names, and variables of Keras' own are called by their numbers.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np

from scirs2_adapters.core.errors import ArgumentValueError
from scirs2_adapters.core.matrix import INPUTS_FIRST
from scirs2_adapters.core.portable.file import Array, refused
from scirs2_adapters.core.portable.state import ParameterState, State, described
from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.rule import Rule

from ..ops import as_numpy
from ..optimizer.classes import optimizer as class_named
from ..optimizer.rules import RuleOptimizer
from ..portable import inside
from ..portable import read as state_of
from ..state.files import VERSION, facts_in
from ..state.memory import KEPT, Facts
from . import unnamed
from .unnamed import array_of

#: Where a file of weights has the optimizer's variables.
_GROUP = "optimizer/vars"


def read(call: str, path: Path, rule: str | None = None) -> State:
    """The state in a file; `rule`, which other files need, must be None or name the optimizer."""
    state = _of_weights(call, path, rule) if h5py.is_hdf5(path) else _of_model(call, path)
    if rule and state.rule != get(rule).name:
        raise refused(call, str(path), f"this one is of {state.full_name}, and not of {rule}")
    return state


def _of_model(call: str, path: Path) -> State:
    if not zipfile.is_zipfile(path):
        raise refused(call, str(path), "this one is no file of Keras', or was cut short")
    if path.suffix != ".keras":
        raise refused(call, str(path), "Keras reads one like this by its ending alone", "Rename it to end in .keras.")
    for name in names():
        class_named(name)  # Keras finds them by their registered names
    try:
        model = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras has many, for what is missing in a file and for what it does not know
        first = str(error).strip().splitlines()[:1]
        way_out = "Load the model yourself, and use `scirs2_adapters.state.save(model.optimizer, path)`."
        raise refused(call, str(path), f"Keras cannot load the model in it ({' '.join(first)})", way_out) from None
    optimizer = getattr(model, "optimizer", None)
    optimizer = inside(optimizer)
    if optimizer is None:
        raise refused(call, str(path), "this one holds a model that was not compiled, and so no optimizer")
    ours = optimizer if isinstance(optimizer, RuleOptimizer) else _ours(call, path, optimizer, model)
    return state_of(ours, call)


def _ours(call: str, path: Path, theirs: keras.optimizers.Optimizer, model: keras.Model) -> RuleOptimizer:
    """An optimizer of ours with the formula and the memory of one of Keras' own."""
    name = type(theirs).__name__.lower()
    if name not in names() or "keras" not in get(name).matches:
        raise refused(call, str(path), f"this one is of Keras' {type(theirs).__name__}, which has no counterpart here")
    config = {k: x for k, x in theirs.get_config().items() if k not in ("name", "learning_rate")}
    rate = as_numpy(theirs.learning_rate)
    ours: RuleOptimizer = class_named(name)(learning_rate=float(rate), match="keras", **config)
    ours.build(model.trainable_variables)
    variables: dict[str, np.ndarray] = {}
    theirs.save_own_variables(variables)
    ours.load_own_variables(variables)
    return ours


def _of_weights(call: str, path: Path, rule: str | None) -> State:
    try:
        with h5py.File(path) as file:
            group = file.get(_GROUP)
            if not isinstance(group, h5py.Group):
                raise refused(call, str(path), "this one has weights alone", "Save the weights of a compiled model.")
            facts = facts_in(group.attrs)
            if facts is None:
                return unnamed.read(call, path, file, group, rule)
            arrays = [array_of(group[str(i)]) for i in range(len(facts["entries"]))]
            return _named(call, path, facts, arrays)
    except ArgumentValueError:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise refused(call, str(path), f"this one is not whole ({error})") from None


def _named(call: str, path: Path, facts: Facts, arrays: list[Array]) -> State:
    """What the variables of a file of ours are."""
    if facts["version"] > VERSION:
        raise refused(call, str(path), "this one was written by a newer version", "Update scirs2.")
    slots: dict[int, dict[str, Array]] = {}
    numbers: dict[str, float] = {}
    for (slot, owner), x in zip(facts["entries"], arrays, strict=True):
        if owner is None:
            numbers[slot] = float(x.read())
        elif slot not in KEPT.values():
            slots.setdefault(owner, {})[slot] = x
    rule = _rule(facts, numbers)
    steps, skipped = int(numbers["iteration"]) // facts["accumulation"], int(numbers.get("skipped_steps", 0))
    parameters = {name: ParameterState(slots.get(owner, {}), steps) for owner, name in enumerate(facts["paths"])}
    model = {s.name: numbers[s.name] for s in rule.model_slots()}
    state = described(
        rule, parameters, numbers=model, step_count=steps, skipped_steps=skipped, layout=INPUTS_FIRST,
        source={"framework": "keras", "file": path.name},
    )  # fmt: skip
    return replace(state, config={k: x for k, x in state.config.items() if k in ("base", "learning_rate", "match")})


def _rule(facts: Facts, numbers: Mapping[str, float]) -> Rule:
    """The rule that the file names; a schedule's learning rate is not in it."""
    name, _, base = facts["rule"].partition("(")
    rate = {"learning_rate": numbers["learning_rate"]} if "learning_rate" in numbers else {}
    return get(name)(**({"base": base.removesuffix(")")} if base else {}), **rate, match=facts["match"])
