"""What a file holds in other formats than an optimizer: codes become the numbers that they stand for, and these the
codes that are wanted. Those of the same format come through bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scirs2_adapters.core.cpu import storage
from scirs2_adapters.core.formats import BLOCK_DTYPES, blocks, companion
from scirs2_adapters.core.rounding import ERROR_BITS, ROUNDING_ERROR

from .memory import RuleState, Saved, StateKey, Values, VariableEntry, named, refusal


def scales_of(optimizer: RuleState) -> set[StateKey]:
    """The state keys of scales, which follow from the numbers of their slots."""
    return {
        StateKey(f"{name}_scale", owner)
        for owner, entry in _entries(optimizer).items()
        for name, dtype in entry.storages.items()
        if dtype in BLOCK_DTYPES
    }


def _entries(optimizer: RuleState) -> dict[int, VariableEntry]:
    entries = optimizer.slots.entries if optimizer.slots else []
    return {owner: entry for owner, entry in enumerate(entries) if entry}


def decoded(optimizer: RuleState, saved: Saved) -> Saved:
    """The same with numbers in the place of codes and their scales."""
    values, scales = dict(saved.values), dict[StateKey, np.ndarray]()
    for key, codes in saved.values.items():
        dtype = np.asarray(codes).dtype.name
        if dtype not in BLOCK_DTYPES or key.slot == ROUNDING_ERROR:
            continue
        other = StateKey(companion(key.slot, dtype) or "", key.owner)
        scales[other] = factors = np.asarray(saved.values.get(other))
        if factors.shape != (blocks(np.size(codes)),):
            text = f"{named(key, saved.paths)} is {dtype} codes, whose scales are missing or of another number"
            raise refusal(optimizer, text)
        values[key] = storage.load(np.asarray(codes), dtype, factors)
    return Saved({key: value for key, value in values.items() if key not in scales}, saved.paths, saved.facts)


def encoded(optimizer: RuleState, values: Values, dtypes_there: Mapping[int, str]) -> dict[StateKey, np.ndarray]:
    """These numbers as this optimizer stores them. Rounding errors are those of a file where they are of numbers of the
    same dtype, which `dtypes_there` has by owner, and else 0.
    """
    new = dict(values)
    for owner, entry in _entries(optimizer).items():
        for name, dtype in entry.storages.items():
            key = StateKey(name, owner)
            if dtype in BLOCK_DTYPES and key in values:
                numbers = np.asarray(values[key], np.float32)
                new[key], new[StateKey(f"{name}_scale", owner)] = storage.store_parts(numbers, dtype)
        stored, _, error = entry.storages["p"].partition("+")
        if error in ERROR_BITS:
            key = StateKey(ROUNDING_ERROR, owner)
            fits = key in values and dtypes_there.get(owner) == stored
            new[key] = _errors(np.asarray(values[key]), error) if fits else np.zeros(entry.leaf.shape, error)
    return new


def _errors(errors: np.ndarray, dtype: str) -> np.ndarray:
    """Rounding errors in units of another part of the last place."""
    wider = ERROR_BITS[dtype] - ERROR_BITS[errors.dtype.name]
    numbers = np.rint(errors.astype(np.float64) * 2.0**wider)
    return np.clip(numbers, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
