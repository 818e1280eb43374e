"""How many bytes a Keras optimizer takes: from its variables, or a model's that it is not yet built with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import keras

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.memory import OPERATIONS, Memory, Stored, expected, item_bytes, report
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import slot_dtype

from .keras_types import KerasVariable
from .memory import KEPT, RuleState, keys_in, leaf_of, overwritten, state_keys

#: The options that ask for what the base class keeps of each variable, in the order of `KEPT`.
_ASKED = ("use_ema", "gradient_accumulation_steps")


def weighed(optimizer: RuleState, variables: Sequence[KerasVariable] | None) -> Memory:
    """The report; `variables` are asked for until the optimizer is built with them."""
    if optimizer.built:
        variables = optimizer._trainable_variables
        arrays = list(map(_stored, (key.slot for key in state_keys(optimizer)), optimizer.variables))
    elif variables is None:
        worded = "must be the variables that it is to step, as long as it is not built with them"
        way_out = "Write `optimizer.memory(model.trainable_variables)`."
        raise bad_value(f"{type(optimizer).__name__}.memory", "variables", worded, None, way_out)
    else:
        arrays = list(_unbuilt(optimizer, variables))
    params = list({id(v): v for v in variables}.values())
    numbers = sum(math.prod(v.shape) for v in params)
    return report(sum(_stored("", v).bytes for v in params), numbers, 0, arrays, 0, OPERATIONS)


def _stored(name: str, variable: KerasVariable) -> Stored:
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return Stored(name, dtype, math.prod(variable.shape) * item_bytes(dtype))


def _unbuilt(optimizer: RuleState, variables: Iterable[KerasVariable]) -> Iterator[Stored]:
    """What `build` would make of these variables, beside what there is."""
    yield from map(_stored, (key.slot for key in keys_in(optimizer, {})), optimizer.variables)
    kept = [name for option, name in zip(_ASKED, KEPT.values(), strict=True) if getattr(optimizer, option)]
    leaves = []
    for variable in variables:
        yield from (_stored(name, variable) for name in kept)
        if not overwritten(variable):
            leaves.append(leaf_of(optimizer, variable))
    widest = "float64" if any(leaf.dtype == "float64" for leaf in leaves) else "float32"
    for slot in optimizer.rule.model_slots():
        dtype = slot_dtype(slot, Leaf((), widest), None)
        yield Stored(slot.name, dtype, item_bytes(dtype))
    for leaf in leaves:
        yield from expected(optimizer.rule.route(leaf), leaf, optimizer.state_dtype)
    if optimizer.skip_nonfinite:
        integer = keras.backend.standardize_dtype("int")
        yield Stored("skipped_steps", integer, item_bytes(integer))
