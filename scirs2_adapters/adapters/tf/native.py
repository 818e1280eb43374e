"""Keras optimizers made from rules: a subclass of `keras.optimizers.Optimizer` and nothing deeper, on every backend.

Clipping, averaging, accumulation, loss scaling, constraints and the order among them are the base class' own, because
only the two methods that step are overridden, and the one that decays: decay is part of a rule, and must not happen
twice.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import keras

from scirs2_adapters.core.dialect import by_name
from scirs2_adapters.core.document import document
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.options import StateDtype, check_path, check_state_dtype
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.routing import explained
from scirs2_adapters.core.rule import Rule

from . import paths
from .dialect import BASE, KERAS, OURS, plain, signature, spelling, tuples
from .state import Memory


class RuleOptimizer(keras.optimizers.Optimizer):
    """Any rule as a Keras optimizer. Its classes are made by `optimizer`, one for each rule."""

    rule_class: ClassVar[type[Rule]]

    def __init__(
        self,
        *args: Any,
        kernel: str = "auto",
        match: str | None = None,
        state_dtype: StateDtype = None,
        **given: Any,
    ) -> None:
        call = type(self).__name__
        given = by_name(call, signature(self.rule_class), args, given)
        base = {k: given.pop(k) for k in BASE if k in given}
        if given.get("weight_decay", 0) is None:
            given["weight_decay"] = 0.0
        scheduled = given.pop("learning_rate") if callable(given.get("learning_rate")) else None
        rule = _rule(self.rule_class, given, match, call)
        check_path(call, kernel)
        check_state_dtype(call, state_dtype, rule.all_slots())
        rate = float(rule.learning_rate) if scheduled is None else scheduled
        super().__init__(learning_rate=rate, weight_decay=float(rule.weight_decay), **base)
        self._rule, self._memory = rule, cast(Memory | None, None)
        self.kernel, self.state_dtype = kernel, state_dtype

    @property
    def rule(self) -> Rule:
        """The rule behind it, with the learning rate and weight decay given at first: those of now are attributes."""
        return self._rule

    @property
    def match(self) -> str | None:
        """The framework whose formula of this name is followed."""
        return self._rule.match

    @property
    def memory(self) -> Memory | None:
        """Slots by variable and by name, once it is built."""
        return self._memory

    def explain(self) -> str:
        """Which algorithm steps which variable, a line for each, and why; nothing before it is built."""
        return "\n".join(explained(self._memory.routed(self._rule))) if self._memory else ""

    def build(self, variables: Sequence[Any]) -> None:
        """Make the slots of these variables."""
        if self.built:
            return
        variables = list(variables)
        super().build(variables)
        self._memory = memory = Memory(self, variables)
        self._slots = memory.variables  # a list that tf.train.Checkpoint follows

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Step one variable."""
        paths.step(self, [(gradient, variable)], learning_rate)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        pairs = list(zip(grads, trainable_variables, strict=True))
        if not paths.distributed():
            paths.step(self, pairs, learning_rate)
        elif self._rule.model_slots():
            paths.step_together(self, pairs, learning_rate)
        else:
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """The rule's own decay, at the rule's own place, is the only one."""

    def get_config(self) -> dict[str, Any]:
        """Every argument, defaults written out, as plain data."""
        values = {
            k: v for k, v in self._rule.get_config().items() if k not in ("learning_rate", "weight_decay", "match")
        }
        ours = {"kernel": self.kernel, "match": self.match, "state_dtype": self.state_dtype}
        return plain({**super().get_config(), **KERAS.to_host(values, self._rule.fields), **ours})


def _rule(cls: type[Rule], given: dict[str, Any], match: str | None, call: str) -> Rule:
    return KERAS.rule(cls, {k: tuples(v) for k, v in given.items()}, match=match, call=call, also=(*BASE, *OURS))


def _hyperparameter(core: str, host: str, means: str) -> property:
    """An attribute that reads the rule, and when assigned checks the value and changes the rule."""

    def read(self: RuleOptimizer) -> Any:
        return getattr(self._rule, core)

    def write(self: RuleOptimizer, value: Any) -> None:
        call, old = type(self).__name__, self._rule
        values = {k: v for k, v in old.get_config().items() if k != "match"}
        new = _rule(self.rule_class, KERAS.to_host(values, old.fields) | {host: value}, old.match, call)
        if self.built and new.variant() != old.variant():
            raise bad_value(call, host, "cannot change what is remembered once the optimizer is built", value)
        self._rule = new

    return property(read, write, doc=means)


def _example(name: str) -> list[str]:
    return [
        ">>> import keras, numpy as np",
        f">>> from {__package__.replace('.adapters', '')} import {name}",
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
    also = (*rule.options, "kernel", "state_dtype")
    body: dict[str, Any] = {
        "__module__": __package__,
        "__doc__": document(rule.text, fields, _example(spelled), lambda k: KERAS.spell(k, fields), also),
        "__signature__": signature(rule),
        "rule_class": rule,
    }
    body |= {host: _hyperparameter(core, host, fields[core].means) for core, host in own.items()}
    return keras.saving.register_keras_serializable(package="scirs2")(type(spelled, (RuleOptimizer,), body))
