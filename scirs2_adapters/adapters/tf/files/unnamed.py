"""Files of weights with one of Keras' optimizers: variables by number, and no word of whose they are.

What a number means follows from the order in which Keras' class makes its variables, and how many there are from the
shapes. The arguments that decide what a class remembers are not in the file either: they are tried, and must fit in one
way alone. Model variables are called by their numbers, in the order of `model.trainable_variables`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import keras
import numpy as np

from scirs2_adapters.core.cpu import storage
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.portable.file import Array, held, refused
from scirs2_adapters.core.portable.lines import lines_of
from scirs2_adapters.core.portable.state import State
from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Leaf

from ..argument_names import spelling
from ..optimizer.classes import optimizer as class_named
from ..portable import read as state_of
from ..state.keras_classes import order_of, writer
from ..state.memory import StateKey

Shapes = Sequence[tuple[int, ...]]
_RATE = StateKey("learning_rate")
_TRIED: dict[str, tuple[object, object]] = {
    **dict.fromkeys(("amsgrad", "centered", "use_ema"), (False, True)),
    "momentum": (0.0, 0.9),
    "gradient_accumulation_steps": (None, 2),
}
_WAY_OUT = "Convert the `.keras` file, or load both in Keras and use `scirs2_adapters.state.save`."


class Reading(NamedTuple):
    """One way to read a file: Keras' arguments, and the shapes of the model variables."""

    arguments: dict[str, object]
    shapes: list[tuple[int, ...]]


def array_of(data: h5py.Dataset) -> Array:
    """A variable; Keras marks those of bfloat16, which HDF5 does not know."""
    x = np.asarray(data)
    if data.attrs.get("dtype") == "bfloat16":
        return held(x.view(np.uint16) if x.dtype.itemsize == 2 else storage.store(x, "bfloat16"), "bfloat16")
    return held(x, x.dtype.name)


def read(call: str, path: Path, file: h5py.File, group: h5py.Group, rule: str | None) -> State:
    """The state in a file whose group has numbers alone; `rule` names the optimizer if the group does not."""
    cls = _class(call, path, rule or writer(group.attrs))
    arrays = [array_of(group[str(i)]) for i in range(len(group))]
    shapes = [x.shape for x in arrays]
    readings = list(_readings(cls, shapes, Counter(_weights(file))))
    if len(readings) != 1:
        why = "fit Keras' {} with {}".format(spelling(cls), " or ".join(map(_worded, readings)) or "no arguments")
        raise refused(call, str(path), f"its variables {why}", _WAY_OUT)
    optimizer = class_named(cls.name)(match="keras", **readings[0].arguments)  # type: ignore[arg-type]  # Keras' words
    dtype = next((x.dtype for x in arrays[1:] if x.shape), "float32")
    optimizer.build([_variable(i, shape, dtype) for i, shape in enumerate(readings[0].shapes)])
    optimizer.load_own_variables({str(i): _numbers(x) for i, x in enumerate(arrays)})
    state = state_of(optimizer, call)
    told = {"match", "base", *cls.fields.keys() & readings[0].arguments.keys()}
    config = {k: x for k, x in state.config.items() if k in told}
    if shapes[1:2] == [()]:
        config["learning_rate"] = float(_numbers(arrays[1]))
    return replace(state, config=config, source={"framework": "keras", "file": path.name})


def _worded(reading: Reading) -> str:
    return ", ".join(word for word, x in reading.arguments.items() if x) or "its defaults"


def _class(call: str, path: Path, name: str) -> type[Rule]:
    """The optimizer of this name, if Keras has it and it remembers the same of every variable."""
    if name not in names():
        known = ", ".join(n for n in names() if "keras" in get(n).matches)
        worded = f"is not said by {path.name}, whose optimizer is called {name!r}"
        raise bad_value(call, "rule", worded, None, f"Name the optimizer, one of {known}: `--rule adam`.")
    cls = get(name)
    if "keras" not in cls.matches:
        raise refused(call, str(path), f"Keras has no optimizer {name}, and this one does not name its variables")
    rule = cls(match="keras")
    if len({type(rule.route(Leaf((2,) * n))) for n in (1, 2)}) > 1 or lines_of(rule).every:
        why = f"what {spelling(cls)} remembers depends on the variable, and this one does not name its variables"
        raise refused(call, str(path), why, _WAY_OUT)
    return cls


def _weights(file: h5py.File) -> list[tuple[int, ...]]:
    """The shapes of all variables of the model."""
    shapes: list[tuple[int, ...]] = []

    def look(name: str, x: object) -> None:
        if isinstance(x, h5py.Dataset) and not name.startswith("optimizer/"):
            shapes.append(x.shape)

    file.visititems(look)
    return shapes


def _readings(cls: type[Rule], shapes: Shapes, weights: Mapping[tuple[int, ...], int]) -> Iterator[Reading]:
    """The ways in which variables of these shapes are those of Keras' class."""
    for arguments in _arguments(cls):
        counts = [len(order_of(spelling(cls), arguments, [1] * n)) for n in (1, 2)]
        each, rate = counts[1] - counts[0], shapes[1:2] == [()]
        number, rest = divmod(len(shapes) - 2 * counts[0] + counts[1] + (not rate), each or len(shapes) + 1)
        if rest or number < 1:
            continue
        keys = [k for k in order_of(spelling(cls), arguments, [1] * number) if rate or k != _RATE]
        models = _models(keys, shapes)
        if len(models) == number and Counter(models) <= Counter(weights):
            yield Reading(arguments, models)


def _arguments(cls: type[Rule]) -> Iterator[dict[str, object]]:
    """Keras' arguments that decide what the class remembers, with and without each."""
    config = getattr(keras.optimizers, spelling(cls))(name="layout").get_config()
    tried = {word: x for word, x in _TRIED.items() if word in config}
    for chosen in itertools.product(*tried.values()):
        yield dict(zip(tried, chosen, strict=True))


def _models(keys: Sequence[StateKey], shapes: Shapes) -> list[tuple[int, ...]]:
    """The shapes of the model variables by what belongs to each; nothing if that differs in shape."""
    by_owner: dict[int, tuple[int, ...]] = {}
    for key, shape in zip(keys, shapes, strict=True):
        if key.owner is None:
            if shape != ():
                return []
        elif by_owner.setdefault(key.owner, shape) != shape:
            return []
    return [by_owner[i] for i in sorted(by_owner)]


def _variable(number: int, shape: tuple[int, ...], dtype: str) -> keras.Variable:
    """A variable in the place of the model's, called by its number."""
    variable = keras.Variable(np.zeros(shape, "float32"), dtype=dtype, name=str(number))
    variable._path = str(number)
    return variable


def _numbers(x: Array) -> np.ndarray:
    return storage.load(x.read(), x.dtype) if x.dtype == "bfloat16" else x.read()
