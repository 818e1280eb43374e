"""`optimizer.memory()`: what it says is what is allocated, before the optimizer is built as after it."""

from __future__ import annotations

import math
from typing import Any

import keras
import pytest

import scirs2_adapters as s2
from scirs2_adapters.adapters.tf.argument_names import KERAS
from scirs2_adapters.core import Memory
from scirs2_adapters.core.memory import item_bytes
from tests.conformance.options import learned

from .tf_support import KERAS_READS, NAMES, apply, keras_class, network, variables

OPTIONS: list[dict[str, Any]] = [
    {},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "float32", "use_ema": True},
    {"gradient_accumulation_steps": 2, "skip_nonfinite": True},
    {"state_dtype": "int8"},
    {"state_dtype": "int8", "rounding": "compensated"},
    {"rounding": "stochastic"},
]


def size(xs: list[keras.Variable]) -> int:
    return sum(math.prod(x.shape) * item_bytes(keras.backend.standardize_dtype(x.dtype)) for x in xs)


def in_state(memory: Memory) -> int:
    return sum(sum(by_dtype.values()) for by_dtype in memory.state.values()) + memory.corrections


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_report_is_what_is_allocated(name: str, options: dict[str, Any], dtype: str) -> None:
    if "int8" in options.values() and name == "sparseadam":
        with pytest.raises(ValueError, match="int8"):
            keras_class(name)(**options)
        return
    if "rounding" in options and dtype != "bfloat16":
        with pytest.raises(ValueError, match="rounding"):
            keras_class(name)(**options).build(variables(dtype))
        return
    first = KERAS.to_framework(learned(s2.get(name)), s2.get(name).fields_with())
    optimizer, xs = keras_class(name)(**first, **options), variables(dtype)
    before = optimizer.memory(xs)
    assert not optimizer.built
    optimizer.build(xs)
    after = optimizer.memory()
    assert before == after
    assert in_state(after) == size(optimizer.variables)
    assert (after.parameters, after.numbers) == (size(xs), sum(math.prod(x.shape) for x in xs))
    entries = [entry.slots for entry in optimizer.slots.entries]
    held = {slot for slots in entries for slot in slots}
    assert {*after.state} >= held - {"rounding_error", "rounding_seed"}
    assert (after.corrections > 0) == ("rounding" in options)


@KERAS_READS
def test_a_step_changes_nothing_of_it() -> None:
    optimizer, xs = keras_class("adamw")(), variables()
    before = optimizer.memory(xs)
    apply(optimizer, xs)
    assert optimizer.memory() == before


def test_the_variables_of_a_compiled_model() -> None:
    model, *_ = network(keras_class("muon")())
    memory = model.optimizer.memory(model.trainable_variables)
    assert memory.numbers == model.count_params()
    assert memory.state["momentum_buffer"].keys() == {"float32"}


def test_variables_are_asked_for_until_it_is_built() -> None:
    with pytest.raises(ValueError, match=r"AdamW.memory\(variables=.* `optimizer.memory\(model.train"):
        keras_class("adamw")().memory()
