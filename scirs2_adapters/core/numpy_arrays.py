"""The arrays that numpy users hand in, checked before a kernel gets an address.

They are looked up in the caller's container at each step, because `params["w"] = np.clip(params["w"], 0, 1)` binds
another array to the name: it is stepped from then on, with the memory of the first. A subclass of numpy's array says
more than its numbers do (a mask, a unit), so it is refused and not taken for a plain one; a memory map is one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, MutableMapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .cpu import storage
from .errors import bad_type, bad_value
from .slots import Leaf
from .step.options import StateDtype, with_error

#: Keys are typed loosely, as a mapping is invariant in them: a dict of strings must do.
Arrays = Mapping[Any, np.ndarray] | Sequence[np.ndarray]

#: Of the arrays that are their own carriers. Comparing with these is the quick check of an array.
DTYPES = frozenset(np.dtype(name) for name in storage.FLOATS if storage.STORAGES[name].carrier == name)
_PLAIN = (np.ndarray, np.memmap)
_NATIVE = "in this machine's byte order"


def items(call: str, argument: str, arrays: object) -> Iterator[tuple[Hashable, Any]]:
    """Name or position, and array."""
    if isinstance(arrays, Mapping):
        return iter(arrays.items())
    if isinstance(arrays, (list, tuple)):
        return iter(enumerate(arrays))
    raise bad_type(call, argument, "must be a dict or list of numpy arrays", arrays)


class Parameters(Mapping[Hashable, np.ndarray]):
    """The caller's dict or list, seen as a mapping from the keys that it had at first."""

    def __init__(self, call: str, container: Any) -> None:
        self.container, self._keys = container, []
        for key, p in items(call, "params", container):
            self._keys.append(key)
            if isinstance(p, np.ndarray) and container[key] is not p:
                worded = "must hold its arrays, and not make new ones each time it is read"
                raise bad_value(call, "params", worded, type(container).__name__, "Give `dict(params)`.")

    def __getitem__(self, key: Hashable) -> np.ndarray:
        return self.container[key]  # type: ignore[no-any-return]

    def __setitem__(self, key: Hashable, p: np.ndarray) -> None:
        self.container[key] = p

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return repr(self.container)


def present(call: str, params: Parameters, keys: Sequence[Hashable]) -> dict[Hashable, np.ndarray]:
    """The arrays under these keys as they are now."""
    arrays, container = {}, params.container
    for key in keys:
        try:
            arrays[key] = container[key]
        except LookupError:
            worded = "is no longer in the dict or list that the optimizer was made with"
            way_out = "Put it back, or give no gradient for it."
            count = len(container)
            raise bad_value(call, f"params[{key!r}]", worded, f"{count} of {len(params)} arrays", way_out) from None
    return arrays


def leaf(
    call: str, key: Hashable, p: object, layout: str, rounding: str = "nearest", state_dtype: StateDtype = None
) -> Leaf:
    """A parameter as a rule sees it."""
    name = f"params[{key!r}]"
    _refuse_subclass(call, name, p)
    if not isinstance(p, np.ndarray) or p.dtype.name not in storage.FLOATS or not p.dtype.isnative:
        worded = f"must be a numpy array of dtype {', '.join(storage.FLOATS)}, {_NATIVE}"
        raise bad_type(call, name, worded, p)
    check_writeable(call, name, p)
    return with_error(Leaf(p.shape, p.dtype.name, key if isinstance(key, str) else "", layout), rounding, state_dtype)


def check_writeable(call: str, name: str, x: np.ndarray) -> None:
    """Refuse memory that must not be written: a kernel has an address only, and would write all the same."""
    if not x.flags.writeable:
        way_out = f"Give a copy: `{name}.copy()`."
        raise bad_value(call, name, "must be writeable, for it is updated in place", x, way_out)


def check_gradient(call: str, key: Hashable, g: object, shape: tuple[int, ...]) -> None:
    """Refuse an object that is no gradient for a parameter of this shape."""
    name = f"grads[{key!r}]"
    _refuse_subclass(call, name, g)
    if not isinstance(g, np.ndarray) or storage.name(g.dtype) not in storage.FLOATS or not g.dtype.isnative:
        raise bad_type(call, name, f"must be a floating numpy array {_NATIVE}", g)
    if g.shape != shape:
        raise bad_value(call, name, f"must have the parameter's shape {shape}", g)


def _refuse_subclass(call: str, name: str, x: object) -> None:
    if isinstance(x, np.ndarray) and type(x) not in _PLAIN:
        kind = type(x).__name__
        way_out = f"`{name}.filled(0.0)`" if isinstance(x, np.ma.MaskedArray) else f"`np.asarray({name})`"
        worded = f"must be a plain numpy array, for a step would lose what a {kind} is besides"
        raise bad_type(call, name, worded, x, f"Give {way_out}, if its numbers alone are meant.")


def refuse_shared(call: str, params: Mapping[Hashable, np.ndarray]) -> None:
    """Arrays that overlap in memory would be stepped twice, by threads that know nothing of each other."""
    widest, end = None, -1
    spans = ((*byte_bounds(p), key) for key, p in params.items() if p.size)
    for start, stop, key in sorted(spans, key=itemgetter(0, 1)):
        if start < end and np.shares_memory(params[widest], params[key]):
            worded = f"must not share memory with params[{widest!r}]"
            raise bad_value(call, f"params[{key!r}]", worded, params[key], "Give each array once.")
        widest, end = (key, stop) if stop > end else (widest, end)


def all_finite(arrays: Sequence[np.ndarray]) -> bool:
    """Whether no element is infinite or NaN. One pass that makes no array: a finite sum has no other terms."""
    with np.errstate(all="ignore"):
        return all(np.isfinite(np.sum(x)) or bool(np.isfinite(x).all()) for x in arrays)


def carried(x: np.ndarray) -> np.ndarray:
    """The array as its carrier: bfloat16 seen as uint16, anything else as it is."""
    return x.view(np.uint16) if storage.name(x.dtype) == "bfloat16" else x


def thawed(container: Any) -> Any:
    """The container with a copy in place of every array that cannot be written: so arrays come out of a pickle whose
    buffers are a memory map, or another process' memory.
    """
    pairs = dict(items("HostOptimizer", "params", container))
    copies = {k: np.array(p) for k, p in pairs.items() if isinstance(p, np.ndarray) and not p.flags.writeable}
    if copies and not isinstance(container, (MutableMapping, list)):
        return pairs | copies
    for key, p in copies.items():
        container[key] = p
    return container
