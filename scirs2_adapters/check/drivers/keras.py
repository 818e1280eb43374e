"""Keras on its backend: variables, `apply`, state by `save_own_variables`."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import keras
import numpy as np
from keras import ops

from ..driver import ArrayRun, Driver
from ..outcome import NotApplicable
from ..problem import Array, Arrays, Grads, Problem
from ..subject import NOTHING, Changes


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Keras' setting for models of float64."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64" if dtype == "float64" else before)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


class KerasRun(ArrayRun):
    """Variables and their optimizer."""

    def __init__(self, walked: Problem, dtype: str, optimizer: object) -> None:
        super().__init__(walked)
        self.dtype = dtype
        with precision(dtype):
            named = zip(walked.names, walked.params, strict=True)
            self.variables = [keras.Variable(p, dtype=dtype, name=name) for name, p in named]
            self.optimizer = cast("keras.optimizers.Optimizer", optimizer)
            self.optimizer.build(self.variables)
        self.applied: Callable[[Sequence[object]], object] = self.eagerly

    def eagerly(self, grads: Sequence[object]) -> object:
        """One step as it is."""
        self.optimizer.apply(grads, self.variables)
        return None

    def params(self) -> Arrays:
        return [self.numbers(v) for v in self.variables]

    def numbers(self, x: object) -> Array:
        return np.array(ops.convert_to_numpy(ops.cast(x, "float64")))

    def native(self, grads: Grads) -> Sequence[object]:
        return [g if g is None else ops.convert_to_tensor(g, dtype=self.dtype) for g in grads]

    def apply(self, grads: Sequence[object]) -> None:
        with precision(self.dtype):
            self.applied(grads)

    def saved(self) -> object:
        store: dict[str, Array] = {}
        self.optimizer.save_own_variables(store)
        return self.params(), {k: np.array(x) for k, x in store.items()}, self.at

    def restore(self, saved: object) -> None:
        params, store, self.at = cast("tuple[Arrays, dict[str, Array], int]", copy.deepcopy(saved))
        for variable, p in zip(self.variables, params, strict=True):
            variable.assign(p)
        self.optimizer.load_own_variables(store)

    def owned(self) -> object:
        return self.variables, self.optimizer

    def adopt(self, owned: object) -> None:
        self.variables, self.optimizer = cast("tuple[list[keras.Variable], keras.optimizers.Optimizer]", owned)

    def dtypes(self) -> set[str]:
        return {keras.backend.standardize_dtype(v.dtype) for v in self.variables}

    def set_rate(self, rate: float) -> None:
        self.optimizer.learning_rate = rate

    def optimizer_object(self) -> object:
        return self.optimizer


class KerasDriver(Driver):
    """Keras on the backend that it is set to."""

    framework = "keras"
    gaps = {
        "running.threads": "the backend's threads are set before it starts",
    }

    def create(self, changes: Changes = NOTHING) -> object:
        """An optimizer that has seen no variable."""
        return self.subject.factory(**self.subject.arguments(self.takes, changes))

    def start(self, changes: Changes = NOTHING, walked: Problem | None = None, dtype: str = "float32") -> KerasRun:
        with precision(dtype):
            optimizer = self.create(changes)
        return KerasRun(walked or self.problem, dtype, optimizer)

    def over(self, optimizer: object) -> KerasRun:
        """One with an optimizer that there is already."""
        return KerasRun(self.problem, "float32", optimizer)

    def kind(self) -> tuple[str, bool]:
        return "a keras.optimizers.Optimizer", isinstance(self.create(), keras.optimizers.Optimizer)

    def scheduled(self, factors: Sequence[float]) -> KerasRun:
        rate = self.subject.rate_value
        values = [rate * factor for factor in factors]
        bounds = list(range(len(values) - 1))
        return self.start({self.rate(): keras.optimizers.schedules.PiecewiseConstantDecay(bounds, values)})

    def rebuilt(self, changes: Changes) -> KerasRun:
        optimizer = cast("keras.optimizers.Optimizer", self.create(changes))
        return self.over(type(optimizer).from_config(optimizer.get_config()))

    def compiled(self) -> KerasRun:
        run = self.start()
        if keras.backend.backend() == "tensorflow":
            import tensorflow

            run.applied = tensorflow.function(run.eagerly)
        elif keras.backend.backend() == "jax":
            run.applied = _Stateless(run)
        else:
            raise NotApplicable(f"Keras does not compile steps on {keras.backend.backend()}")
        return run

    def times_compiled(self, run: object) -> int:
        assert isinstance(run, KerasRun)
        if isinstance(run.applied, _Stateless):
            return run.applied.traced
        return int(run.applied.experimental_get_tracing_count())  # type: ignore[attr-defined]


class _Stateless:
    """Steps as Keras' trainer on JAX takes them: `stateless_apply` under `jit`."""

    def __init__(self, run: KerasRun) -> None:
        import jax

        self.run, self.traced = run, 0
        self.jitted = jax.jit(self.step)

    def step(self, grads: object, params: object, state: object) -> object:
        """The step that is compiled."""
        self.traced += 1
        return self.run.optimizer.stateless_apply(state, grads, params)

    def __call__(self, grads: Sequence[object]) -> object:
        params, state = self.run.variables, self.run.optimizer.variables
        results = self.jitted(list(grads), [v.value for v in params], [v.value for v in state])
        for variables, values in zip((params, state), results, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return None


DRIVER = KerasDriver
