"""Steps of the same arrays again and again, as of a training loop that keeps its gradients in the same memory.

`HostOptimizer.step` looks at each array at each step, for its user may have put another one in its place. A loop of
ours knows that it has not. What is asked of arrays is then asked once, which is most of the step of a small network.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from .numpy_executors import KernelExecutor
from .numpy_optimizer import HostOptimizer
from .numpy_rules import scalars_of
from .ops import Scalars
from .step.plan import coefficient_rows


class RepeatedStep:
    """Steps an optimizer; where the gradients are the arrays of the last step, their addresses are those of then.

    Whoever uses it answers for this: parameters and gradients keep their memory, and between two of its steps nobody
    changes the optimizer but by `set_learning_rate`, `step` or `load_state_dict`.

    >>> import numpy as np
    >>> from scirs2_adapters.core import HostOptimizer
    >>> params, grads = {"w": np.ones(3)}, {"w": np.ones(3)}
    >>> repeated = RepeatedStep(HostOptimizer("sgd", params))
    >>> for _ in range(2):
    ...     repeated.step(grads)
    >>> params["w"]
    array([0.998, 0.998, 0.998])
    """

    def __init__(self, optimizer: HostOptimizer) -> None:
        self.optimizer = optimizer
        self._names: list[str] = []
        self._grads: list[weakref.ref[np.ndarray]] = []  # it keeps no gradient alive
        self._keys: list[Hashable] = []  # in the optimizer's order
        #: What the optimizer had after the last step that looked at everything; None where it could not be repeated.
        self._executor: KernelExecutor | None = None
        self._count, self._memory = 0, optimizer.state

    def step(self, grads: Mapping[str, np.ndarray], value: float | None = None) -> None:
        """One step, in place, as `HostOptimizer.step` takes it."""
        if self._is_last(grads):
            self._repeat([*grads.values()], value)
        else:
            self._look(grads, value)

    def _is_last(self, grads: Mapping[str, np.ndarray]) -> bool:
        """Whether this is the last step once more, and nobody has stepped or loaded anything since."""
        optimizer = self.optimizer
        if self._executor is None or self._count != optimizer.step_count or self._memory is not optimizer.state:
            return False
        same = all(ref() is g for ref, g in zip(self._grads, grads.values(), strict=False))
        return same and self._names == [*grads]

    def _look(self, grads: Mapping[str, np.ndarray], value: float | None) -> None:
        optimizer, before = self.optimizer, self.optimizer.step_count
        self._executor = None  # whose addresses a step that fails may have changed
        optimizer.step(grads, value)
        executor = optimizer._executor if optimizer.step_count > before else None
        self._executor = executor if isinstance(executor, KernelExecutor) and executor.walked else None
        self._names, self._grads = [*grads], list(map(weakref.ref, grads.values()))
        self._keys, self._count, self._memory = [], optimizer.step_count, optimizer.state

    def _repeat(self, grads: Sequence[np.ndarray], value: float | None) -> None:
        optimizer, loss = self.optimizer, self.optimizer.prepare(value)
        if optimizer.skips(grads, loss):
            return
        assert self._executor is not None
        if not self._keys:  # the first time
            self._keys = [k for k in optimizer.params if k in self._names]
            of_keys = [(optimizer._entries[k].coefficient_key, optimizer.steps[k]) for k in self._keys]
            self._first, self._rows = coefficient_rows(of_keys, int)
        entries, counts = [optimizer._entries[k] for k in self._keys], [optimizer.steps[k] for k in self._keys]
        shared: dict[tuple[int, int], Scalars] = {}
        latest = max(optimizer.steps.values()) + 1
        scalars = [scalars_of(shared, entries, counts, latest, loss, i) for i in self._first]
        optimizer.model |= self._executor.run_again(scalars, self._rows, optimizer.model, optimizer.threads)
        self._count = optimizer.step_count = optimizer.step_count + 1
        for key in self._keys:
            optimizer.steps[key] += 1
