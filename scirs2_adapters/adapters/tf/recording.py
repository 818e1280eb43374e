"""The steps of a Keras optimizer that runs eagerly, written down: one of ours or of Keras' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.matrix import INPUTS_FIRST
from scirs2_adapters.core.portable.file import held
from scirs2_adapters.core.portable.recording import Recorder, unknown, with_arrays
from scirs2_adapters.core.portable.state import ParameterState, State

from .ops import Tensor, as_numpy
from .optimizer.rules import RuleOptimizer
from .portable import array_of, numbers_of, read
from .state.keras_types import KerasVariable, path_of


def recorded(optimizer: keras.optimizers.Optimizer, recorder: Recorder) -> keras.optimizers.Optimizer:
    """The same optimizer, which writes its steps from now on."""
    apply = optimizer.apply

    def recording(grads: Sequence[Tensor], trainable_variables: Sequence[KerasVariable] | None = None) -> None:
        if recorder.over:
            apply(grads, trainable_variables)
            return
        gradients = [None if g is None else _eager(g) for g in grads]
        variables = list(optimizer._trainable_variables if trainable_variables is None else trainable_variables)
        rate = float(_number(optimizer.learning_rate))
        if not recorder.started:
            if not optimizer.built:
                optimizer.build(variables)
            recorder.write([_state(optimizer, variables, [None] * len(variables), rate)])
        apply(grads, trainable_variables)
        recorder.write([_state(optimizer, variables, gradients, rate)])

    optimizer.apply = recording
    return optimizer


def _number(x: Tensor | KerasVariable) -> np.ndarray:
    """A variable of one number, or what a schedule has made."""
    return as_numpy(x)


def _eager(gradient: Tensor) -> np.ndarray:
    """The numbers of a gradient; one that is only planned has none."""
    try:
        return as_numpy(keras.ops.convert_to_tensor(gradient))
    except Exception:  # each backend raises another error
        way_out = "Use `model.compile(..., run_eagerly=True)` while you record."
        raise bad_value("record", "optimizer", "must step eagerly", "a step that is compiled", way_out) from None


def _state(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[KerasVariable],
    grads: Sequence[np.ndarray | None],
    rate: float,
) -> State:
    """What there is after a step."""
    ours = isinstance(optimizer, RuleOptimizer)
    steps = int(_number(optimizer.iterations))
    state = read(optimizer, "record") if ours else _theirs(optimizer, steps)
    parameters = {}
    for variable, g in zip(variables, grads, strict=True):
        name, shape = path_of(variable), tuple(variable.shape)
        grad = None if g is None else held(numbers_of(g), g.dtype.name)
        known = state.parameters.get(name, ParameterState(steps=steps))
        dtype = keras.backend.standardize_dtype(variable.dtype)
        parameters[name] = with_arrays(known, array_of(variable), grad, dtype, shape)
    return replace(state, parameters=parameters, config={**state.config, "learning_rate": rate})


def _theirs(optimizer: keras.optimizers.Optimizer, steps: int) -> State:
    """What is known of an optimizer of Keras; its slots keep Keras' names."""
    name, source = type(optimizer).__name__.lower(), {"framework": "keras", "keras": keras.__version__}
    return unknown(name, optimizer.get_config(), {}, step_count=steps, layout=INPUTS_FIRST, source=source)
