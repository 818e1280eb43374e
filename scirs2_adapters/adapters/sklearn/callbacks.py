"""scikit-learn's callbacks in our fits: `set_callbacks`, a task for the fit, and one for each epoch.

scikit-learn has them from version 1.9 on. Before that, estimators have no `set_callbacks`, and nothing is called.
Those who watch single steps, as `scirs2_adapters.monitor` does, are shown the optimizer of each fit.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sklearn.base import BaseEstimator

from .state import Data, Stepper

if TYPE_CHECKING:

    class CallbackSupportMixin: ...

else:
    try:
        from sklearn.callback import CallbackSupportMixin
    except ImportError:

        class CallbackSupportMixin: ...


#: The functions that watch the steps of an estimator: each is called with the optimizer when a fit begins. They belong
#: to this estimator and to no copy.
watchers: weakref.WeakKeyDictionary[BaseEstimator, list[Callable[[Stepper], None]]] = weakref.WeakKeyDictionary()


#: Attributes that an estimator has during a fit only, ours and those that scikit-learn's callbacks need.
DURING_A_FIT = {
    "_chosen", "_epochs", "_params", "_needs_number",
    "_callback_fit_ctx", "_parent_callback_ctx", "_skl_callbacks_to_teardown",
}  # fmt: skip


def watched(estimator: BaseEstimator, stepper: Stepper) -> Stepper:
    """The optimizer of a fit that begins, after the watchers of the estimator were called with it."""
    for show in watchers.get(estimator, ()):
        show(stepper)
    return stepper


class Epochs:
    """The tasks of one fit. Every callback gets the `arguments`: the estimator, its data and weights."""

    def __init__(self, fit: Data, arguments: dict[str, object]) -> None:
        self._fit, self._arguments = fit, arguments
        self._task: Data = None

    def begin(self) -> None:
        """An epoch begins, unless it has."""
        if self._task is None:
            self._task = self._fit.subcontext(task_name="epoch")
            self._task.call_on_fit_task_begin(**self._arguments)

    def end(self, attributes: Callable[[], Mapping[str, object]]) -> bool:
        """An epoch ends; whether a callback wants the training to end. `attributes` makes what was fitted so far."""
        self.begin()
        task, self._task = self._task, None
        return bool(task.call_on_fit_task_end(**self._arguments, reconstruction_attributes=attributes))


class FitCallbacks(CallbackSupportMixin):
    """An estimator whose fit calls scikit-learn's callbacks, if there are any."""

    _epochs: Epochs | None = None

    def __getstate__(self) -> dict[str, object]:
        """What copies and pickles have: those that a callback makes take no part in the fit that goes on."""
        state: dict[str, object] = super().__getstate__()  # type: ignore[assignment]
        fits = not state.keys().isdisjoint(DURING_A_FIT - {"_parent_callback_ctx"})  # that one comes before the fit
        return {k: v for k, v in state.items() if k not in DURING_A_FIT} if fits else state

    def _fitted_so_far(self) -> dict[str, Data]:
        """Copies of all that the fit has made, which do not change as it goes on."""
        kept = {*DURING_A_FIT, "_skl_callbacks", *self.get_params(deep=False)}  # type: ignore[attr-defined]
        return copy.deepcopy({name: x for name, x in vars(self).items() if name not in kept})

    @contextmanager
    def _calling_back(self, X: Data, y: Data, sample_weight: Data, epochs: int) -> Iterator[None]:
        """Around a fit of at most so many epochs."""
        if not hasattr(self, "_init_callback_context"):
            yield
            return
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        arguments = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        fit = self._init_callback_context(max_subtasks=epochs)
        fit.call_on_fit_task_begin(**arguments)
        if hasattr(self, "_skl_callbacks"):
            self._epochs = Epochs(fit, arguments)
        try:
            yield
        finally:
            vars(self).pop("_epochs", None)
        fit.call_on_fit_task_end(**arguments, reconstruction_attributes={})

    def _epoch_begins(self) -> None:
        if self._epochs is not None:
            self._epochs.begin()

    def _epoch_ends(self, attributes: Callable[[], Mapping[str, object]]) -> bool:
        """Whether a callback wants the training to end."""
        return self._epochs is not None and self._epochs.end(attributes)
