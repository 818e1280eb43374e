"""Keras optimizers made from rules: a subclass of `keras.optimizers.Optimizer` and nothing deeper, on every backend.

Clipping, averaging, accumulation, loss scaling, constraints and the order among them are the base class'. Overridden
are the two methods that step, and the one that decays: decay is part of a rule and must not happen twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, TypeAlias, cast

import keras
import numpy as np

from scirs2_adapters.core.argument_names import merge_arguments
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.fields import flag
from scirs2_adapters.core.memory import Memory as Report
from scirs2_adapters.core.routing import explained
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import StateDtype, check_path, check_rounding, refuse_value, takes_host

from .. import dispatch
from ..argument_names import BASE, KERAS, OURS, as_rule_takes, in_our_words, is_function, newer, plain, signature
from ..executors.host import unavailable
from ..gradients import clipped
from ..ops import Tensor, as_numpy
from ..state import Memory, coded, files, overwritten
from ..state.keras_types import KerasVariable, Store, path_of
from ..state.memory_report import weighed
from .exclusions import EXCLUSIONS, Exclusions

#: Arguments by Keras' names.
Config: TypeAlias = dict[str, Any]

SKIP_NONFINITE = flag(False, "leave out steps that are not finite")
#: Attributes that a compiled step has as constants, and those that decide which variables there are.
CONSTANT = ("weight_decay", "_learning_rate", *(k for k in BASE if k != "name"))
FIXED = ("skip_nonfinite", "state_dtype", "rounding")
#: What has been in every config of ours, from the first on.
FIRST = ("kernel", "match", "state_dtype")


class RuleOptimizer(keras.optimizers.Optimizer):
    """A rule as a Keras optimizer. Its classes are made by `optimizer`, one for each rule."""

    rule_class: ClassVar[type[Rule]]
    #: Whether a step of it was compiled; whether it was made from the config of one of ours.
    _traced = from_own_config = False

    def __init__(
        self,
        *args: object,
        kernel: str = "auto",
        match: str | None = None,
        state_dtype: StateDtype = None,
        skip_nonfinite: bool = False,
        rounding: str = "nearest",
        **arguments: object,
    ) -> None:
        call = type(self).__name__
        named = merge_arguments(call, signature(self.rule_class), args, arguments)
        named = in_our_words(self.rule_class, {k: as_rule_takes(call, k, v) for k, v in named.items()}, match)
        base = {k: named.pop(k) for k in BASE if k in named}
        if named.get("weight_decay", 0) is None:
            named["weight_decay"] = 0.0
        scheduled = named.pop("learning_rate") if is_function(call, named.get("learning_rate")) else None
        rule = rule_of(self.rule_class, named, match, call)
        check_path(call, kernel)
        takes_host(call, kernel, unavailable())
        coded.check(call, rule, state_dtype, rounding)
        skip_nonfinite = SKIP_NONFINITE.check(call, "skip_nonfinite", skip_nonfinite)
        rate = float(rule.learning_rate) if scheduled is None else scheduled
        super().__init__(learning_rate=rate, weight_decay=float(rule.weight_decay), **base)
        self._rule, self._memory = rule, cast(Memory | None, None)
        self._skipped, self._pending = cast(KerasVariable | None, None), cast(Callable[[], None] | None, None)
        self._rate = rate if scheduled is None else None
        self._exclusions = Exclusions()
        self.kernel, self.state_dtype, self.rounding = kernel, state_dtype, rounding
        self.skip_nonfinite = skip_nonfinite

    @property
    def rule(self) -> Rule:
        """The rule, with the first learning rate and weight decay; the present ones are attributes of the optimizer."""
        return self._rule

    @property
    def match(self) -> str | None:
        """The framework whose formula of this name is followed."""
        return self._rule.match

    @property
    def slots(self) -> Memory | None:
        """Slots by variable and by name, once it is built."""
        return self._memory

    def memory(self, variables: Sequence[KerasVariable] | None = None) -> Report:
        """How many bytes the variables that are stepped take, and those of the optimizer; of one replica.

        Before the optimizer is built, pass the model's trainable variables; nothing is allocated for them. Gradients
        belong to the backend, and are not counted.

        >>> import keras
        >>> from scirs2_adapters.tf import AdamW
        >>> kernel = keras.Variable("zeros", shape=(64, 64), dtype="float32")
        >>> AdamW().memory([kernel]).state["exp_avg"]
        {'float32': 16384}
        """
        return weighed(self, variables)

    def explain(self) -> str:
        """Which algorithm steps which variable, a line for each, and why; nothing before it is built."""
        return "\n".join(explained(self._memory.routed(self._rule))) if self._memory else ""

    @property
    def skipped_steps(self) -> KerasVariable | int:
        """How many steps `skip_nonfinite` has left out: a variable, or 0 where there is none."""
        return 0 if self._skipped is None else self._skipped

    def build(self, variables: Sequence[KerasVariable]) -> None:
        """Make the slots of these variables."""
        if self.built:
            return
        variables = list(variables)
        stepped = [keras.backend.standardize_dtype(v.dtype) for v in variables if not overwritten(v)]
        check_rounding(type(self).__name__, self.rounding, stepped)
        super().build(variables)
        self._memory = memory = Memory(self, variables)
        self._slots = memory.variables  # a list that tf.train.Checkpoint follows
        if self.skip_nonfinite:  # the last one, so that the others stand where they stand without it
            self._skipped = self.add_variable((), dtype="int", aggregation="only_first_replica", name="skipped_steps")
        self._exclusions.resolve(self, variables)
        if self._pending is not None:
            take_up, self._pending = self._pending, None
            take_up()

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[KerasVariable] | None = None) -> None:
        """Step the variables, or with `skip_nonfinite` leave all as it is where a gradient is not finite."""
        if not self.skip_nonfinite or len(grads) == 0 or (trainable_variables is None and not self.built):
            super().apply(grads, trainable_variables)
            return
        if not self.built:
            with keras.name_scope(self.name, caller=self):
                self.build(list(trainable_variables or ()))
        dispatch.apply_if_finite(self, super().apply, list(grads), trainable_variables)

    def update_step(self, gradient: Tensor, variable: KerasVariable, learning_rate: Tensor) -> None:
        """Step one variable."""
        dispatch.step(self, [(gradient, variable)], learning_rate)

    def _backend_update_step(
        self, grads: Sequence[Tensor], trainable_variables: Sequence[KerasVariable], learning_rate: Tensor
    ) -> None:
        pairs = list(zip(grads, trainable_variables, strict=True))
        if not dispatch.distributed():
            dispatch.step(self, pairs, learning_rate)
        elif self._memory is not None and self._memory.together:
            dispatch.step_together(self, pairs, learning_rate)
        else:
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _apply_weight_decay(self, variables: Sequence[KerasVariable]) -> None:
        """Nothing: the rule decays, at the place that its formula says."""

    def _clip_gradients(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        """Clip; slices of one row are summed before anything is squared, and stay slices."""
        clips = self.clipnorm or self.global_clipnorm or self.clipvalue
        return clipped(super()._clip_gradients, grads) if clips else grads

    def finalize_variable_values(self, var_list: Sequence[KerasVariable]) -> None:
        """Set the variables to their averages. On JAX both are one buffer then, which the next step cannot give away
        twice: the averages become copies.
        """
        super().finalize_variable_values(var_list)
        if self.use_ema and keras.backend.backend() == "jax":
            for average in self._model_variables_moving_average:
                if average is not None:
                    average.assign(keras.ops.copy(average.value))

    def exclude_from_weight_decay(
        self, var_list: Sequence[KerasVariable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Let these variables, and those whose name has one of these words in it, not decay. Part of the config."""
        self.refuse_once_traced("exclude_from_weight_decay", var_names or var_list)
        super().exclude_from_weight_decay(var_list, var_names)
        self._exclusions = Exclusions(tuple(var_names or ()), tuple(map(path_of, var_list or ())))

    def refuse_once_traced(self, name: str, value: object) -> None:
        """Refuse to change what a compiled step has as a constant: the change would silently have no effect."""
        if vars(self).get("_traced"):
            call, worded = type(self).__name__, "must be set before a step is compiled, which has it as a constant"
            way_out = "A copy can be changed, with its memory: `copy.deepcopy(optimizer)`. Then compile with the copy."
            raise bad_value(call, name, worded, value, way_out)

    def __setattr__(self, name: str, value: object) -> None:
        call, old = type(self).__name__, vars(self).get(name)
        if name in vars(self) and value is not old and name in (*CONSTANT, *FIXED):
            if name == "weight_decay" and value is not None:
                value = float(self.rule_class.fields_with()[name].check(call, name, as_rule_takes(call, name, value)))
            if name in FIXED and self.built:
                raise bad_value(call, name, "cannot change what is remembered once the optimizer is built", value)
            if name == "_learning_rate" or value != old:
                self.refuse_once_traced(name.removeprefix("_"), value)
        super().__setattr__(name, value)

    @property
    def learning_rate(self) -> Tensor:
        """The learning rate of now: a variable, or the value of a schedule."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Tensor) -> None:
        call = type(self).__name__
        value = as_rule_takes(call, "learning_rate", float(as_numpy(value)) if hasattr(value, "assign") else value)
        if not is_function(call, value):
            value = self.rule_class.fields_with()["learning_rate"].check(call, "learning_rate", value)
        keras.optimizers.Optimizer.learning_rate.fset(self, value)
        self._rate = None if callable(value) else float(value)

    @property
    def constant_rate(self) -> tuple[float, float] | None:
        """The learning rate as the user has set it, and as its variable holds it, usually in float32."""
        if self._rate is None or not isinstance(self._learning_rate, keras.Variable):
            return None
        return self._rate, float(np.asarray(self._rate).astype(self._learning_rate.dtype))

    def save_own_variables(self, store: Store) -> None:
        """Write all variables, and what they are, into a store of Keras or a dict."""
        files.save(self, store)

    def load_own_variables(self, store: Store) -> None:
        """Take all variables from such a store, or raise with nothing changed."""
        files.load(self, store)

    def set_weights(self, weights: Sequence[Tensor]) -> None:
        """Set all variables, in their order; another number of them or another shape is refused before any is set."""
        weights = list(weights)
        shapes = [tuple(v.shape) for v in self.variables]
        received = [tuple(np.shape(w)) for w in weights]
        if self.built and shapes != received:
            raise bad_value(type(self).__name__, "weights", f"must be of the shapes {shapes}", received)
        coded.check_weights(type(self).__name__, self.variables, weights)
        super().set_weights(weights)

    def get_config(self) -> Config:
        """Every argument, defaults written out, as plain data."""
        base, constant = super().get_config(), self.constant_rate
        if constant is not None and base["learning_rate"] == constant[1]:
            base["learning_rate"] = constant[0]
        return cast(Config, plain({**base, **self._settings()}))

    def _settings(self) -> Config:
        """Every argument but the learning rate."""
        hyper = self._rule.get_config()
        values = {k: v for k, v in hyper.items() if k not in ("learning_rate", "weight_decay", "match")}
        shared = {k: getattr(self, k) for k in ("weight_decay", *BASE, *OURS)}
        return shared | KERAS.to_framework(values, self._rule.fields) | self._exclusions.config()

    @classmethod
    def from_config(cls, config: Config, custom_objects: Config | None = None) -> Self:
        """An optimizer from what `get_config` gave."""
        config = newer(config)
        exclusions, kernel = config.pop(EXCLUSIONS, None), config.get("kernel", "auto")
        check_path(cls.__name__, kernel)
        optimizer: Self = super().from_config({**config, "kernel": "auto"}, custom_objects)
        optimizer.kernel = kernel  # a file may be of a machine that had a kernel: a step says so, not the loading
        optimizer.from_own_config = config.keys() >= set(FIRST)
        if exclusions:
            optimizer._exclusions = Exclusions.of(exclusions)
        return optimizer

    def __reduce__(self) -> tuple[object, ...]:
        """An optimizer travels with its memory, which the copy takes up when it is built."""
        store: dict[str, np.ndarray] = {}
        files.save(self, store)
        rate = self._learning_rate if self._rate is None else self._rate
        return self.from_memory, (self._settings(), rate, store, self.built)

    @classmethod
    def from_memory(cls, settings: Config, rate: Tensor, store: dict[str, np.ndarray], built: bool) -> Self:
        """The optimizer that was pickled: with its step count and rate now, with its memory when it is built."""
        optimizer = cls.from_config(cast(Config, plain(settings)) | {"learning_rate": rate})
        files.load_numbers(optimizer, store)
        # Memory waits for the variables it belongs to; not as a dict, which Keras would follow.
        optimizer._pending = functools.partial(files.load, optimizer, store) if built else None
        return optimizer


def _restored(cls: type[RuleOptimizer], *memory: Any) -> RuleOptimizer:
    """What pickles of version 0.1 call in place of `from_memory`."""
    return cls.from_memory(*memory)


def rule_of(cls: type[Rule], arguments: Config, match: str | None, call: str) -> Rule:
    """The rule that Keras' arguments ask for."""
    rule = KERAS.rule(cls, arguments, match=match, call=call, also=(*BASE, *OURS))
    refuse_value(call, rule, "Keras")
    return rule
