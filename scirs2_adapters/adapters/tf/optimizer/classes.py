"""The Keras class of each rule, with an attribute for each hyperparameter."""

from __future__ import annotations

import functools
from typing import Any

import keras

from scirs2_adapters.core.document import document
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.registry import get

from ..argument_names import KERAS, given, signature, spelling
from .rules import RuleOptimizer, rule_of

PUBLIC = __package__.rpartition(".")[0]


def _hyperparameter(core: str, host: str, means: str) -> property:
    """An attribute that reads the rule, and when assigned checks the value and changes the rule."""

    def read(self: RuleOptimizer) -> Any:
        return getattr(self._rule, core)

    def write(self: RuleOptimizer, value: Any) -> None:
        call, old = type(self).__name__, self._rule
        values = {k: v for k, v in old.get_config().items() if k != "match"}
        value = given(call, host, value)
        new = rule_of(self.rule_class, KERAS.to_framework(values, old.fields) | {host: value}, old.match, call)
        if self.built and new.kernel_key() != old.kernel_key():
            raise bad_value(call, host, "cannot change what is remembered once the optimizer is built", value)
        if new != old:
            self.refuse_once_traced(host, value)
        self._rule = new

    return property(read, write, doc=means)


def _example(name: str) -> list[str]:
    return [
        ">>> import keras, numpy as np",
        f">>> from {PUBLIC.replace('.adapters', '')} import {name}",
        ">>> model = keras.Sequential([keras.layers.Dense(1)])",
        f'>>> model.compile(optimizer={name}(), loss="mse")',
        ">>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)",
    ]


@functools.cache
def optimizer(name: str) -> type[RuleOptimizer]:
    """The Keras class of the rule of this name, registered so that saved models find it."""
    rule = get(name)
    fields, spelled = rule.fields_with(), spelling(rule)
    own = {k: KERAS.spell(k, fields) for k in fields if k not in ("learning_rate", "weight_decay")}
    also = (*rule.options, "kernel", "skip_nonfinite", "state_dtype")
    body: dict[str, Any] = {
        "__module__": PUBLIC,
        "__doc__": document(rule.text, fields, _example(spelled), lambda k: KERAS.spell(k, fields), also),
        "__signature__": signature(rule),
        "rule_class": rule,
    }
    body |= {host: _hyperparameter(core, host, fields[core].means) for core, host in own.items()}
    return keras.saving.register_keras_serializable(package="scirs2")(type(spelled, (RuleOptimizer,), body))
