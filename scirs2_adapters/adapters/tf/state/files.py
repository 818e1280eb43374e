"""Files that say what they hold: each variable's slot and model variable, the optimizer, a version; and the way back.

Keras writes variables under their positions and compares no more than the count. Ours stand there as well, so that h5
files stay what they were; the names are an attribute of the group, or an entry beside the variables in stores without
attributes. A file is taken by name, all of it or none: whatever does not fit is an error before anything has changed.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import TypeAlias, cast

import keras
import numpy as np

from scirs2_adapters.core.rule import innermost

from ..ops import as_numpy
from . import conversion, keras_classes
from .keras_types import Store
from .memory import OPTIONAL, Facts, RuleState, Saved, StateKey, named, outside_graphs, paths_of, refusal, state_keys

Attributes: TypeAlias = MutableMapping[str, np.ndarray]

VERSION = 1
#: The attribute or entry with the names, and how much of it HDF5 takes in one attribute.
NAMES, LONGEST = "scirs2", 60_000


def facts_of(optimizer: RuleState) -> Facts:
    """What has to be known of an optimizer to read what it wrote."""
    rule = optimizer.rule
    return {
        "version": VERSION,
        "rule": rule.label,
        "match": rule.match,
        "rate_in_buffer": keras_classes.rate_in_buffer(optimizer),
        "largest_corrected": bool(getattr(innermost(rule), "max_corrected", False)),
        "accumulation": optimizer.gradient_accumulation_steps or 1,
    }


def save(optimizer: RuleState, store: Store) -> None:
    """Every variable under its position, and what they are."""
    for i, variable in enumerate(optimizer.variables):
        store[str(i)] = as_numpy(variable)
    facts = {**facts_of(optimizer), "paths": paths_of(optimizer), "entries": state_keys(optimizer)}
    if optimizer.rounding != "nearest":  # errors are parts of the last place of numbers of a dtype
        facts["dtypes"] = [keras.backend.standardize_dtype(v.dtype) for v in optimizer._trainable_variables]
    text = json.dumps(facts).encode()
    if (attributes := _attributes(store)) is None:
        store[NAMES] = np.frombuffer(text, np.uint8).copy()
        return
    for i, start in enumerate(range(0, len(text), LONGEST)):
        attributes[f"{NAMES}_{i}"] = np.frombuffer(text[start : start + LONGEST], np.uint8)
    # Keras' class would take these by position for something else. With one entry more it refuses the file.
    if keras_classes.would_take(optimizer):
        store[NAMES] = np.zeros((), np.uint8)


def _attributes(store: Store) -> Attributes | None:
    """The attributes of an HDF5 group; None where a store has none, or several files."""
    if hasattr(store, "sharding_config"):
        return None
    return getattr(getattr(store, "_h5_entry_group", None), "attrs", None)


def _facts(store: Store) -> Facts | None:
    """What a file of ours says of itself, or None where it says nothing."""
    if (facts := facts_in(_attributes(store) or {})) is not None:
        return facts
    if NAMES in store and np.size(store[NAMES]) > 1:
        return cast(Facts, json.loads(np.asarray(store[NAMES]).tobytes()))
    return None


def facts_in(attributes: Mapping[str, np.ndarray]) -> Facts | None:
    """What the attributes of a group of ours say, or None where they say nothing."""
    if f"{NAMES}_0" not in attributes:
        return None
    parts = [bytes(attributes[f"{NAMES}_{i}"]) for i in range(len(attributes)) if f"{NAMES}_{i}" in attributes]
    return cast(Facts, json.loads(b"".join(parts)))


def load(optimizer: RuleState, store: Store) -> None:
    """Take what a file holds, or raise with everything as it was. Only before an optimizer has its memory is a file
    left alone, with Keras' warning.
    """
    facts = _facts(store)
    count = len([k for k in store.keys() if k != NAMES])  # noqa: SIM118  # Keras' stores are no mappings
    if count == 0:
        return
    if not optimizer.built and count > len(optimizer.variables):
        warnings.warn(
            f"Skipping variable loading for optimizer '{optimizer.name}', because it has {len(optimizer.variables)} "
            f"variables whereas the saved optimizer has {count} variables. This is likely because the optimizer has "
            "not been called/built yet. Call `optimizer.build(model.trainable_variables)` before loading.",
            stacklevel=4,
        )
        return
    positions = [store[str(i)] for i in range(count)]
    if facts is None:
        saved = keras_classes.read(optimizer, positions, _attributes(store)) or _in_order(optimizer, positions)
    else:
        saved = _ours(optimizer, facts, positions)
    take(optimizer, saved)


def load_numbers(optimizer: RuleState, store: Store) -> None:
    """Take the step count and the learning rate alone, which need no model."""
    facts = _facts(store)
    keys = [StateKey(*pair) for pair in facts["entries"]] if facts else []
    for variable, key in zip(optimizer.variables, state_keys(optimizer), strict=True):
        if key.owner is None and key in keys:
            variable.assign(store[str(keys.index(key))])


def _ours(optimizer: RuleState, facts: Facts, positions: Sequence[np.ndarray]) -> Saved:
    here = facts_of(optimizer)
    if facts["version"] > VERSION:
        raise refusal(optimizer, f"it was written by a newer version, as format {facts['version']}; {VERSION} is known")
    if facts["rule"] != here["rule"]:
        raise refusal(optimizer, f"it holds the memory of `{facts['rule']}`, and this is `{here['rule']}`")
    keys = [StateKey(*pair) for pair in facts["entries"]]
    return Saved(dict(zip(keys, positions, strict=True)), facts["paths"], facts)


def _in_order(optimizer: RuleState, positions: Sequence[np.ndarray]) -> Saved:
    """A file without names whose optimizer Keras does not have: one of ours from before there were names."""
    keys = state_keys(optimizer)
    if len(keys) != len(positions):
        raise refusal(optimizer, f"it has {len(positions)} variables without names, and {len(keys)} are needed")
    return Saved(dict(zip(keys, positions, strict=True)), paths_of(optimizer), facts_of(optimizer))


def take(optimizer: RuleState, saved: Saved) -> None:
    """Assign what fits, once all of it does."""
    saved, scales = conversion.decoded(optimizer, saved), conversion.scales_of(optimizer)
    here, paths = state_keys(optimizer), paths_of(optimizer)
    shapes = {e: tuple(v.shape) for e, v in zip(here, optimizer.variables, strict=True) if e not in scales}
    faults: list[str] = []
    for order in _orders(saved.paths, paths):
        problems = _problems(saved, shapes, order, paths)
        if not problems:
            break
        faults = faults or problems
    else:
        raise refusal(optimizer, "; ".join(faults or _by_name(saved.paths, paths)))
    by_position = list(range(len(paths)))
    if order != by_position and len(saved.paths) == len(paths) and not _problems(saved, shapes, by_position, paths):
        text = "The file has its layers in another order. Memory goes by their names; Keras gives weights by position."
        warnings.warn(text, stacklevel=5)
    values = {e: saved.values.get(_there(e, order)) for e in here}
    new = keras_classes.in_our_meaning(optimizer, saved, {e: v for e, v in values.items() if v is not None})
    dtypes = {i: saved.facts["dtypes"][there] for i, there in enumerate(order) if "dtypes" in saved.facts}
    new = conversion.encoded(optimizer, new, dtypes)
    remembered = {key.owner for key in saved.values}
    unused = [p for i, p in enumerate(saved.paths) if i in remembered and i not in order]
    if unused:
        text = f"The file also holds memory of {_list(unused)}, which this optimizer does not step."
        warnings.warn(text, stacklevel=5)
    with outside_graphs():
        for key, variable in zip(here, optimizer.variables, strict=True):
            if key in new:
                variable.assign(np.reshape(new[key], variable.shape))


def _there(key: StateKey, order: Sequence[int]) -> StateKey:
    return key if key.owner is None else StateKey(key.slot, order[key.owner])


def _orders(saved: Sequence[str], here: Sequence[str]) -> Iterator[list[int]]:
    """Where each model variable may stand in the file, most certain first.

    First by position, where names differ at most in the numbers that Keras gives. Then by the variable's path. Then by
    the last two parts of it, because a model that was loaded has lost its name. Last by position, where no name is
    shared.
    """
    if list(map(_unnumbered, saved)) == list(map(_unnumbered, here)):
        yield list(range(len(here)))
    for short in (str, _last):
        at = {short(p): i for i, p in enumerate(saved)}
        names = [short(p) for p in here]
        if len(at) == len(saved) and len(set(names)) == len(names) and at.keys() >= set(names):
            yield [at[n] for n in names]
    if len(saved) == len(here) and not {*map(_last, saved)} & {*map(_last, here)}:
        yield list(range(len(here)))


def _last(path: str) -> str:
    """The names of a layer and of its variable."""
    return "/".join(path.split("/")[-2:])


def _unnumbered(path: str) -> str:
    return re.sub(r"_\d+(?=/|$)", "", _last(path))


def _problems(
    saved: Saved, shapes: Mapping[StateKey, tuple[int, ...]], order: Sequence[int], paths: Sequence[str]
) -> list[str]:
    """Why the file does not fit, in words; nothing where it does."""
    wanted = {_there(e, order): e for e in shapes}
    missing = [named(e, paths) for there, e in wanted.items() if there not in saved.values and e.slot not in OPTIONAL]
    extra = [
        named(e, saved.paths)
        for e in saved.values
        if e not in wanted and e.slot not in OPTIONAL and (e.owner is None or e.owner in order)
    ]
    other = [
        f"{named(e, paths)} is of shape {tuple(np.shape(saved.values[there]))} there, {shapes[e]} here"
        for there, e in wanted.items()
        if there in saved.values and not _alike(np.shape(saved.values[there]), shapes[e], saved.facts)
    ]
    return _worded(missing, extra, other)


def _worded(missing: Sequence[str], extra: Sequence[str], other: Sequence[str] = ()) -> list[str]:
    worded = [("missing: ", missing), ("not known here: ", extra), ("", other)]
    return [f"{prefix}{_list(names)}" for prefix, names in worded if names]


def _alike(there: Sequence[int], here: Sequence[int], facts: Facts) -> bool:
    """Whether two shapes are the same. Keras drops the axis that a mean was taken over; here it is of length 1."""
    if "keras_class" in facts:
        there, here = ([n for n in shape if n != 1] for shape in (there, here))
    return list(there) == list(here)


def _by_name(saved: Sequence[str], here: Sequence[str]) -> list[str]:
    return _worded([p for p in here if p not in saved], [p for p in saved if p not in here])


def _list(names: Sequence[str]) -> str:
    most = 6
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
