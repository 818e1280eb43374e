"""What an estimator remembers of its optimizer between two steps, two fits and two processes.

A `Stepper` has the methods that scikit-learn's networks call on their private `_optimizer`. It keeps the rule and, as
plain arrays by name, the memory. The compiled step is bound to the parameters at the first batch and never pickled.
"""

from __future__ import annotations

import functools
import multiprocessing
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator

from scirs2_adapters.core import HostOptimizer, Rule
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.memory import Memory
from scirs2_adapters.core.numpy_columns import step_columns
from scirs2_adapters.core.numpy_evaluation import evaluation_params
from scirs2_adapters.core.numpy_repeated import RepeatedStep
from scirs2_adapters.core.numpy_state import weighed
from scirs2_adapters.core.schedule import rate_at

from .argument_names import PUBLIC, StepOptions
from .rates import DIVISOR, SMALLEST, Course

#: What `HostOptimizer.state_dict` gives.
Saved: TypeAlias = dict[str, Any]
#: What scikit-learn takes for X: an array, a sparse matrix, a data frame or lists.
Data: TypeAlias = Any
Arrays = Mapping[str, np.ndarray]
#: Coefficients and intercepts, or a mean and a spread of each column.
Pair = tuple[np.ndarray, np.ndarray]


def threads() -> int | None:
    """The most threads of a step: one in a worker, else None, which is what the environment grants.

    A worker is any thread but the main one, and any child process of multiprocessing or loky. There the cores are in
    use already, and a second pool would compete with the first.
    """
    worker = threading.current_thread() is not threading.main_thread() or multiprocessing.parent_process() is not None
    return 1 if worker else None


def writeable(arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The arrays, with copies for those that lie in memory of another process or in a file, as after `joblib.load`."""
    return [x if x.flags.writeable else x.copy() for x in arrays]


def appended(estimator: BaseEstimator, loss: float) -> list[float]:
    """`validation_loss_curve_` with one more; a pickle of an earlier version has none."""
    return [*(getattr(estimator, "validation_loss_curve_", None) or []), loss]


@functools.cache
def _names(layers: int) -> list[str]:
    """The names of a network's parameters, in scikit-learn's order."""
    return [f"{kind}.{i}" for kind in ("coefs_", "intercepts_") for i in range(layers)]


class Stepper:
    """Steps one estimator's parameters by a rule, and answers as the `_optimizer` of a network."""

    __module__ = PUBLIC
    _repeated: RepeatedStep
    #: That of the batch of a network's next step, and that of the epoch which ends.
    loss, epoch_loss = 0.0, 0.0

    def __init__(self, rule: Rule, options: StepOptions | None = None, saved: Saved | None = None) -> None:
        self.rule, self.options, self._saved = rule, options or StepOptions(), saved
        self._host: HostOptimizer | None = None
        self._trained: list[np.ndarray] | None = None
        self._course, self._factor, self._begun = Course(), 1.0, 0

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self._rate(self.steps)

    def _rate(self, steps: int) -> float:
        schedule = self._course.schedule
        if schedule is None:
            return float(self.rule.learning_rate * self._factor)
        return self._factor * rate_at("learning_rate", schedule, steps - self._begun)

    def _follow(self, course: Course) -> Stepper:
        """Take the learning rates of the steps to come from this course. A cosine begins anew at each fit; what others
        have come to is kept while their kind stays.
        """
        if course.kind != self._course.kind:
            self._factor, self._begun = 1.0, 0
        self._course = course.resumed(self._course)
        if course.kind == "cosine":
            self._begun = self.steps
        return self

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        counts = self._host.steps if self._host else self._saved["steps"] if self._saved else {}
        return max(counts.values(), default=0)

    @property
    def skipped_steps(self) -> int:
        """How many steps were left out, under `skip_nonfinite`, as their gradient was not finite."""
        return self._host.skipped_steps if self._host else (self._saved or {}).get("skipped_steps", 0)

    def state_dict(self) -> Saved | None:
        """All memory by name, as `HostOptimizer.state_dict` gives it; None before the first step."""
        return self._host.state_dict() if self._host else self._saved

    def explain(self) -> str:
        """Which rule steps which parameter, a line for each, and why; nothing before the first step."""
        return self._host.explain() if self._host else ""

    def memory(self) -> Memory:
        """How many bytes parameters and optimizer take; of one that was unpickled its state alone, until its next step.

        >>> from scirs2_adapters.sklearn import LinearClassifier
        >>> fitted = LinearClassifier("lion").fit([[0.0], [1.0]] * 20, [0, 1] * 20)
        >>> fitted.optimizer_.memory().state
        {'exp_avg': {'float64': 16}}
        """
        return self._host.memory() if self._host else weighed({}, {}, (self._saved or {}).get("state", {}))

    def under(self, call: str, rule: Rule, options: StepOptions, course: Course) -> Stepper:
        """The stepper that goes on with this rule, and with the memory where the formula is the same."""
        if rule == self.rule and options == self.options:
            return self._follow(course)
        saved = self.state_dict() if rule.kernel_key() == self.rule.kernel_key() else None
        if saved and saved["state"] and options.state_dtype != self.options.state_dtype:
            worded = f"must stay {self.options.state_dtype!r} where training goes on, for the memory is of that dtype"
            raise bad_value(call, "state_dtype", worded, options.state_dtype, "Fit from the beginning to change it.")
        stepper = Stepper(rule, options, saved)
        if saved:
            stepper._trained, stepper._course = self._trained, self._course
            stepper._factor, stepper._begun = self._factor, self._begun
        return stepper._follow(course)

    def show(self) -> None:
        """Put what is to be evaluated in place of what is trained, where the rule has an average, until `resume`."""
        if self._host is not None and self._trained is None and self.rule.evaluation is not None:
            shown, params = evaluation_params(self._host), self._host.params
            self._trained = [p.copy() for p in params.values()]
            for name, p in params.items():
                p[...] = shown[name]

    def resume(self, params: Iterable[np.ndarray]) -> None:
        """Put what is trained back into these arrays, the ones that were shown or copies of them, in their order."""
        if self._trained is not None:
            for p, trained in zip(params, self._trained, strict=True):
                p[...] = trained
            self._trained = None

    def step(self, params: Arrays, grads: Arrays, loss: float, layout: str = OUTPUTS_FIRST) -> None:
        """One step, in place. Other arrays under the same names (a copy, another process) go on from the last ones.
        Coefficients of linear models have a row for each output; `layout` says otherwise.
        """
        self._bound(params, layout)
        self._repeated.step({k: np.asarray(g, dtype=params[k].dtype) for k, g in grads.items()}, loss)

    def step_columns(self, params: Arrays, columns: np.ndarray, grads: Arrays) -> None:
        """One step in which the first gradient has only these columns; the rule must allow it."""
        host, (name, *others) = self._bound(params, OUTPUTS_FIRST), grads
        if self.options.skip_nonfinite and not all(np.isfinite(g).all() for g in grads.values()):
            host.skipped_steps += 1
            return
        step_columns(host, name, columns, grads[name].astype(params[name].dtype, copy=False))
        host.step({k: np.asarray(grads[k], dtype=params[k].dtype) for k in others})
        host.step_count += not others

    def _bound(self, params: Arrays, layout: str) -> HostOptimizer:
        """What steps these arrays, at the learning rate of the next step."""
        host, granted = self._host, threads()
        if host is None or host.threads != granted or any(host.params[name] is not p for name, p in params.items()):
            host = HostOptimizer(self.rule, params, threads=granted, layout=layout, **self.options._asdict())
            if (saved := self.state_dict()) is not None:
                host.load_state_dict(saved)
            self._host, self._repeated, self._saved = host, RepeatedStep(host), None
        if (rate := self._rate(host.step_count)) != host.rule.learning_rate:
            host.set_learning_rate(rate)
        return host

    def update_params(self, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]) -> None:
        """One step of a network's weights, then biases, as scikit-learn lists them."""
        names = _names(len(params) // 2)
        self.step(dict(zip(names, params, strict=True)), dict(zip(names, grads, strict=True)), self.loss, INPUTS_FIRST)

    def iteration_ends(self, time_step: int) -> None:
        """At the end of an epoch, after so many rows in all, "invscaling" and what looks at losses set the rate."""
        self._course = self._course.after(self.epoch_loss)
        if self._course.kind == "invscaling":
            self._factor = 1 / (time_step + 1) ** self._course.power_t

    def trigger_stopping(self, msg: str, verbose: bool) -> bool:
        """Training stops where it no longer improves; "adaptive" goes on at a fifth of the learning rate."""
        level = self.rule.learning_rate * self._factor
        goes_on = self._course.kind == "adaptive" and level > SMALLEST
        if goes_on:
            self._factor /= DIVISOR
        if verbose:
            print(f"{msg} {f'Setting learning rate to {level / DIVISOR:f}' if goes_on else 'Stopping.'}")
        return not goes_on

    def __getstate__(self) -> dict[str, object]:
        kept = {"_saved": self.state_dict(), "_host": None, "_trained": self._trained}
        pace = {"course": self._course._asdict(), "factor": self._factor, "begun": self._begun}
        return {**kept, "rule": self.rule, "options": self.options._asdict(), "pace": pace}

    def __setstate__(self, state: Saved) -> None:
        older = {"skip_nonfinite": state.get("skip_nonfinite", False)}
        self.rule, self._saved, self._host = state["rule"], state["_saved"], None
        self._trained, self.options = state.get("_trained"), StepOptions(**state.get("options", older))
        pace = state.get("pace", {})
        self._course, self._factor = Course(**pace.get("course", {})), pace.get("factor", 1.0)
        self._begun = pace.get("begun", 0)

    def __repr__(self) -> str:
        return f"<{self.rule!r} after {self.steps} steps>"
