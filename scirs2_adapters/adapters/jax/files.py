"""States of optax in files of others: msgpack as flax writes it, and folders of orbax. Neither holds what could run.

Such a file has trees of arrays under the fields of optax's state classes, and says neither which classes they were nor
which optimizer it is: the optimizer's name tells what to look for, wherever in the tree it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, cast

import numpy as np

from scirs2_adapters.adapters._xla.ops import Array as JaxArray
from scirs2_adapters.core.errors import MissingExtraError, bad_value
from scirs2_adapters.core.numpy_state import same_memory
from scirs2_adapters.core.portable.file import refused
from scirs2_adapters.core.portable.state import ParameterState, State, described
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule

from .optax_states import COUNTERS
from .portable import array_of, fields_of
from .state import COUNT, CodedState, RuleState

#: Dicts and lists, with arrays and numbers at their ends.
Node: TypeAlias = object
#: Arrays by parameter and slot.
Memory: TypeAlias = dict[str, dict[str, np.ndarray]]


def read(call: str, path: Path, rule: str | None = None) -> State:
    """The state in a file; `rule` names the optimizer."""
    if not rule:
        worded = "must name the optimizer, which files of optax's states do not say"
        raise bad_value(call, "rule", worded, rule or None, "Give `--rule adamw`.")
    tree = _orbax(call, path) if path.is_dir() else _msgpack(call, path)
    ours = any(_is(x, RuleState) for x in _dicts(tree))
    if any(_is(x, CodedState) for x in _dicts(tree)):
        raise refused(
            call, str(path), "this one has 8-bit codes", "Use `scirs2_adapters.state.save((tx, state), path)`."
        )
    known = _rule(call, path, rule, ours)
    slots, counts, numbers = dict[str, dict[str, np.ndarray]](), list[int](), dict[str, float]()
    for name, x in _parts(call, tree, known):
        _take(name, x, known, slots, counts, numbers)
    if not slots:
        raise refused(call, str(path), f"this one has no memory of {known.name}", "Name another optimizer: `--rule`.")
    steps = max(counts) if counts else None
    parameters = {
        name: ParameterState({slot: array_of(cast(JaxArray, x)) for slot, x in arrays.items()}, steps)
        for name, arrays in slots.items()
    }
    source = {"framework": "jax", "file": path.name}
    return replace(described(known, parameters, numbers=numbers, step_count=steps or 0, source=source), config={})


def _rule(call: str, path: Path, named: str, ours: bool) -> Rule:
    """The rule of this name, with optax's formula where the state is in optax's classes. Where that may be ours and
    then means something else, the name says which: `rmsprop:optax` or `rmsprop:scirs2`.
    """
    name, _, whose = named.partition(":")
    rule = get(name)()
    if whose not in ("", "optax", "scirs2"):
        raise bad_value(call, "rule", "must end in `:optax` or `:scirs2`, if it has a colon", named)
    if ours or whose == "scirs2" or "optax" not in type(rule).matches:
        return rule
    matched = type(rule)(match="optax")
    if not whose and not same_memory(rule, matched):
        why = f"the state of optax's {name} and of ours look alike there and differ in meaning"
        raise refused(call, str(path), why, f"Give `--rule {name}:optax` or `--rule {name}:scirs2`.")
    return matched


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = {"flax.serialization": "flax", "orbax.checkpoint": "orbax-checkpoint"}[name]
        text = f"This file is read with {package}, which is not installed. Install it with `pip install {package}`."
        raise MissingExtraError(text, name=name) from error


def _msgpack(call: str, path: Path) -> Node:
    flax = _library("flax.serialization")
    try:
        tree: Node = flax.msgpack_restore(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # what is wrong with a file decides of which kind it is
        raise refused(call, str(path), f"this one is no msgpack of flax, or was cut short ({error})") from None
    return tree


def _orbax(call: str, path: Path) -> Node:
    orbax = _library("orbax.checkpoint")
    try:
        with orbax.StandardCheckpointer() as checkpointer:
            tree: Node = checkpointer.restore(path.resolve())
    except Exception as error:  # as above
        raise refused(call, str(path), f"this one is no checkpoint of orbax, or is not whole ({error})") from None
    return tree


def _children(x: Node) -> Iterator[tuple[str, Node]]:
    if isinstance(x, Mapping):
        yield from ((str(key), child) for key, child in x.items())
    elif isinstance(x, Sequence) and not isinstance(x, (str, bytes)):
        yield from ((str(i), child) for i, child in enumerate(x))


def _dicts(x: Node) -> Iterator[Mapping[str, Node]]:
    if isinstance(x, Mapping):
        yield x
    for _, child in _children(x):
        yield from _dicts(child)


def _is(x: Mapping[str, Node], kind: type) -> bool:
    return x.keys() == set(getattr(kind, "_fields", ()))


def _parts(call: str, tree: Node, rule: Rule) -> Iterator[tuple[str, Node]]:
    """What a state holds, by the names of slots and numbers."""
    forms = [fields for fields in fields_of(call, rule) if {*fields.values()} - {COUNT}]
    counters = [{*place.fields} for _, place in COUNTERS.values()]
    for x in _dicts(tree):
        if _is(x, RuleState) and all(isinstance(x[key], Mapping) for key in ("slots", "model")):
            yield COUNT, x["count"]
            yield from _children(x["slots"])
            yield from _children(x["model"])
        elif x.keys() in counters:
            yield COUNT, x["count"]
        for fields in forms:
            if x.keys() == fields.keys():
                yield from ((name, x[field]) for field, name in fields.items())


def _take(
    name: str, x: Node, rule: Rule, slots: Memory, counts: list[int], numbers: dict[str, float]
) -> None:  # fmt: skip
    """Put one part of a state where it belongs."""
    if name == COUNT:
        counts.append(int(np.asarray(x)))
    elif name in {s.name for s in rule.model_slots()}:
        numbers[name] = float(np.asarray(x))
    else:
        for path, leaf in _leaves(x):
            array = np.asarray(leaf)
            arrays = slots.setdefault(path, {})
            arrays[name.removeprefix("-")] = -array if name[0] == "-" else array


def _leaves(x: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Arrays by the names that `jax.tree_util` would give them."""
    if isinstance(x, (Mapping, list, tuple)):
        for key, child in _children(x):
            yield from _leaves(child, f"{path}.{key}" if path else key)
    elif x is not None:
        yield path, x
