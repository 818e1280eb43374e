"""Files that say what they hold: each variable's slot and model variable, the optimizer, a version; and the way back.

Keras writes variables under their positions and compares no more than the count. Ours stand there as well, so that h5
files stay what they were; the names are an attribute of the group, or an entry beside the variables in stores without
attributes. A file is taken by name, all of it or none: whatever does not fit is an error before anything has changed.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import theirs
from .layout import OPTIONAL, Entry, Saved, named, own_entries, paths_of, refusal
from .memory import outside_graphs

VERSION = 1
#: The attribute or entry with the names, and how much of it HDF5 takes in one attribute.
NAMES, LONGEST = "scirs2", 60_000


def facts_of(optimizer: Any) -> dict[str, Any]:
    """What has to be known of an optimizer to read what it wrote."""
    rule = optimizer.rule
    inner = getattr(rule, "base", None)
    return {
        "version": VERSION,
        "rule": rule.name if inner is None else f"{rule.name}({inner.name})",
        "match": rule.match,
        "rate_in_buffer": theirs.rate_in_buffer(optimizer),
        "largest_corrected": bool(getattr(inner or rule, "max_corrected", False)),
        "accumulation": optimizer.gradient_accumulation_steps or 1,
    }


def save(optimizer: Any, store: Any) -> None:
    """Every variable under its position, and what they are."""
    for i, variable in enumerate(optimizer.variables):
        store[str(i)] = np.asarray(variable.numpy())
    what = {**facts_of(optimizer), "paths": paths_of(optimizer), "entries": own_entries(optimizer)}
    text = json.dumps(what).encode()
    attributes = _attributes(store)
    if attributes is None:
        store[NAMES] = np.frombuffer(text, np.uint8).copy()
        return
    for i, start in enumerate(range(0, len(text), LONGEST)):
        attributes[f"{NAMES}_{i}"] = np.frombuffer(text[start : start + LONGEST], np.uint8)
    if theirs.would_take(optimizer):  # by position, as something else: one entry more, and Keras' class refuses it
        store[NAMES] = np.zeros((), np.uint8)


def _attributes(store: Any) -> Any:
    """Where an HDF5 group has its attributes; None where a store has none, or several files."""
    return (
        None if hasattr(store, "sharding_config") else getattr(getattr(store, "_h5_entry_group", None), "attrs", None)
    )


def _facts(store: Any) -> dict[str, Any] | None:
    """What a file of ours says of itself, or None where it says nothing."""
    attributes = _attributes(store)
    if attributes is not None and f"{NAMES}_0" in attributes:
        parts = [bytes(attributes[f"{NAMES}_{i}"]) for i in range(len(attributes)) if f"{NAMES}_{i}" in attributes]
    elif NAMES in store and np.size(store[NAMES]) > 1:
        parts = [np.asarray(store[NAMES]).tobytes()]
    else:
        return None
    found: dict[str, Any] = json.loads(b"".join(parts))
    return found


def load(optimizer: Any, store: Any) -> None:
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
        saved = theirs.read(optimizer, positions, _attributes(store)) or _in_order(optimizer, positions)
    else:
        saved = _ours(optimizer, facts, positions)
    take(optimizer, saved)


def load_numbers(optimizer: Any, store: Any) -> None:
    """Take the step count and the learning rate alone, which need no model."""
    facts = _facts(store)
    for i, (slot, _) in enumerate(facts["entries"] if facts else ()):
        for variable, entry in zip(optimizer.variables, own_entries(optimizer), strict=True):
            if entry.slot == slot and entry.owner is None:
                variable.assign(store[str(i)])


def _ours(optimizer: Any, facts: Mapping[str, Any], positions: Sequence[Any]) -> Saved:
    here = facts_of(optimizer)
    if facts["version"] > VERSION:
        raise refusal(optimizer, f"it was written by a newer version, as format {facts['version']}; {VERSION} is known")
    if facts["rule"] != here["rule"]:
        raise refusal(optimizer, f"it holds the memory of `{facts['rule']}`, and this is `{here['rule']}`")
    found = [Entry(*e) for e in facts["entries"]]
    return Saved(dict(zip(found, positions, strict=True)), facts["paths"], facts)


def _in_order(optimizer: Any, positions: Sequence[Any]) -> Saved:
    """A file without names whose optimizer Keras does not have: one of ours from before there were names."""
    found = own_entries(optimizer)
    if len(found) != len(positions):
        raise refusal(optimizer, f"it has {len(positions)} variables without names, and {len(found)} are needed")
    return Saved(dict(zip(found, positions, strict=True)), paths_of(optimizer), facts_of(optimizer))


def take(optimizer: Any, saved: Saved) -> None:
    """Assign what fits, once all of it does."""
    here, paths = own_entries(optimizer), paths_of(optimizer)
    shapes = {e: tuple(v.shape) for e, v in zip(here, optimizer.variables, strict=True)}
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
    new = theirs.in_our_meaning(optimizer, saved, {e: v for e, v in values.items() if v is not None})
    left = [p for i, p in enumerate(saved.paths) if i not in order]
    if left:
        warnings.warn(f"The file also holds memory of {_list(left)}, which this optimizer does not step.", stacklevel=5)
    with outside_graphs():
        for entry, variable in zip(here, optimizer.variables, strict=True):
            if entry in new:
                variable.assign(np.reshape(new[entry], variable.shape))


def _there(entry: Entry, order: Sequence[int]) -> Entry:
    return entry if entry.owner is None else Entry(entry.slot, order[entry.owner])


def _orders(saved: Sequence[str], here: Sequence[str]) -> Iterator[list[int]]:
    """Where each model variable may stand in the file, most certain first: by position where names differ at most in
    the numbers that Keras gives; by its name; by its own layer's, as a model that was loaded has lost its name; and by
    position where no name is shared.
    """
    stems = [[re.sub(r"_\d+(?=/|$)", "", _last(p)) for p in paths] for paths in (saved, here)]
    if stems[0] == stems[1]:
        yield list(range(len(here)))
    for short in (str, _last):
        at = {short(p): i for i, p in enumerate(saved)}
        names = [short(p) for p in here]
        if len(at) == len(saved) and len(set(names)) == len(names) and at.keys() >= set(names):
            yield [at[n] for n in names]
    if len(saved) == len(here) and not {*map(_last, saved)} & {*map(_last, here)}:
        yield list(range(len(here)))


def _last(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def _problems(
    saved: Saved, shapes: Mapping[Entry, tuple[int, ...]], order: Sequence[int], paths: Sequence[str]
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
    worded = [("missing: ", missing), ("not known here: ", extra), ("", other)]
    return [f"{what}{_list(names)}" for what, names in worded if names]


def _alike(there: Sequence[int], here: Sequence[int], facts: Mapping[str, Any]) -> bool:
    """Whether two shapes are the same. Keras drops the axis that a mean was taken over; here it is of length 1."""
    a, b = ([n for n in shape if n != 1] if "theirs" in facts else list(shape) for shape in (there, here))
    return a == b


def _by_name(saved: Sequence[str], here: Sequence[str]) -> list[str]:
    missing, extra = ([p for p in a if p not in b] for a, b in ((here, saved), (saved, here)))
    words = [f"missing: {_list(missing)}"] if missing else []
    return words + ([f"not known here: {_list(extra)}"] if extra else [])


def _list(names: Sequence[str]) -> str:
    most = 6
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
