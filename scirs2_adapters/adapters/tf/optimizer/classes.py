"""The Keras class of each rule, with an attribute for each hyperparameter."""

from __future__ import annotations

import functools

import keras

from scirs2_adapters.core.document import document
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.registry import get

from ..argument_names import KERAS, as_rule_takes, signature, spelling
from .evaluation import EvaluatingOptimizer
from .rules import RuleOptimizer, rule_of

PUBLIC = __package__.rpartition(".")[0]


def _hyperparameter(name: str, keras_name: str, means: str) -> property:
    """An attribute that reads the rule, and when assigned checks the value and changes the rule."""

    def read(self: RuleOptimizer) -> object:
        return getattr(self._rule, name)

    def write(self: RuleOptimizer, value: object) -> None:
        call, old = type(self).__name__, self._rule
        value = as_rule_takes(call, keras_name, value)
        values = {k: v for k, v in old.get_config().items() if k != "match"}
        arguments = KERAS.to_framework(values, old.fields) | {keras_name: value}
        new = rule_of(self.rule_class, arguments, old.match, call)
        if self.built and new.kernel_key() != old.kernel_key():
            raise bad_value(call, keras_name, "cannot change what is remembered once the optimizer is built", value)
        if new != old:
            self.refuse_once_traced(keras_name, value)
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
    kind = RuleOptimizer if rule.evaluation is None else EvaluatingOptimizer
    fields, spelled = rule.fields_with(), spelling(rule)
    also = (*rule.options, "kernel", "rounding", "skip_nonfinite", "state_dtype")
    body: dict[str, object] = {
        "__module__": PUBLIC,
        "__doc__": document(rule.text, fields, _example(spelled), lambda k: KERAS.spell(k, fields), also),
        "__signature__": signature(rule),
        "rule_class": rule,
    }
    for field in fields:
        if field in ("learning_rate", "weight_decay"):  # attributes of the base class
            continue
        keras_name = KERAS.spell(field, fields)
        body[keras_name] = _hyperparameter(field, keras_name, fields[field].means)
    return keras.saving.register_keras_serializable(package="scirs2")(type(spelled, (kind,), body))
