"""scikit-learn's callbacks in our fits, and the loss of the rows that are set apart."""

import pickle
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.metrics import log_loss

from scirs2_adapters.core.schedules import ReduceOnPlateau
from scirs2_adapters.sklearn import MLPClassifier, MLPRegressor, with_optimizer
from tests.adapters.sklearn_support import (
    ESTIMATORS,
    NETWORKS,
    assert_close,
    assert_same_bits,
    data,
    estimator,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
each_optimizer = pytest.mark.parametrize("optimizer", [None, "adamw", "schedulefreeadamw"])
HAS_CALLBACKS = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 9)
with_callbacks = pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn has callbacks from version 1.9 on")


class Recorder:
    """Writes down what is called, scores what was fitted so far, and ends the training after `stop` epochs."""

    def __init__(self, stop: float = np.inf) -> None:
        self.stop, self.calls, self.scores, self.fitted = stop, list[str](), list[float](), list[Any]()
        self.metadata: Any = None

    def setup(self, estimator: Any, context: Any) -> None:
        self.calls.append("setup")

    def teardown(self, estimator: Any, context: Any) -> None:
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator: Any, context: Any, *, X: Any = None, y: Any = None) -> None:
        self.calls.append(f"{context.task_name} {context.task_id} begins")

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None, fitted_estimator: Any, metadata: Any = None
    ) -> bool:
        self.calls.append(f"{context.task_name} {context.task_id} ends")
        self.scores.append(fitted_estimator.score(X, y))
        self.fitted.append(weights(fitted_estimator))
        self.metadata = metadata
        return context.task_name == "epoch" and context.task_id + 1 >= self.stop


def expected(epochs: int) -> list[str]:
    inner = [f"epoch {i} {what}" for i in range(epochs) for what in ("begins", "ends")]
    return ["setup", "fit 0 begins", *inner, "fit 0 ends", "teardown"]


@with_callbacks
@each_estimator
@each_optimizer
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_is_a_task_with_a_task_for_each_epoch(cls: Any, optimizer: Any, early_stopping: bool) -> None:
    X, y = data(cls)
    recorder = Recorder()
    made = estimator(cls, optimizer=optimizer, early_stopping=early_stopping, max_iter=3)
    plain = clone(made).fit(X, y)
    made.set_callbacks(recorder).fit(X, y)
    assert recorder.calls == expected(3)
    assert recorder.scores[-2:] == [made.score(X, y)] * 2
    assert_close(made, plain, 0.0)
    for first, second in zip(recorder.fitted[0], weights(made), strict=True):
        assert first is not second  # a copy, so that it stays


@with_callbacks
@each_estimator
@each_optimizer
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_callback_ends_the_training(cls: Any, optimizer: Any, early_stopping: bool) -> None:
    X, y = data(cls)
    recorder = Recorder(stop=2)
    made = estimator(cls, optimizer=optimizer, early_stopping=early_stopping, max_iter=9, learning_rate="constant")
    made.set_callbacks(recorder).fit(X, y)
    assert recorder.calls == expected(2)
    assert made.n_iter_ == len(made.loss_curve_) == 2
    shorter = estimator(cls, optimizer=optimizer, early_stopping=early_stopping, max_iter=2).fit(X, y)
    assert_close(made, shorter, 0.0)


@with_callbacks
@each_estimator
def test_a_pass_is_a_fit_of_one_epoch_and_keeps_nothing_of_it(cls: Any) -> None:
    X, y = data(cls)
    recorder = Recorder()
    made = estimator(cls, optimizer="adamw").set_callbacks(recorder)
    made.partial_fit(X, y, **({"classes": np.unique(y)} if is_classifier(made) else {}))
    assert recorder.calls == expected(1)
    left = {name for name in vars(made) if "callback" in name or "epoch" in name}
    assert left == {"_skl_callbacks"}


@with_callbacks
@each_estimator
def test_callbacks_are_taken_down_after_an_error_and_kept_by_a_clone(cls: Any) -> None:
    X, y = data(cls)
    recorder = Recorder()
    made = estimator(cls, optimizer="adamw", learning_rate=lambda t: 0.1 if t < 4 else -1.0).set_callbacks(recorder)
    with pytest.raises(ValueError, match="at step count 4"):
        made.fit(X, y)
    assert recorder.calls[-1] == "teardown"
    assert not hasattr(made, "_epochs") or made._epochs is None
    assert clone(made)._skl_callbacks == [recorder]


@with_callbacks
def test_lbfgs_has_a_task_without_epochs_and_with_optimizer_keeps_callbacks() -> None:
    X, y = data(MLPClassifier)
    recorder = Recorder()
    made = estimator(MLPClassifier, solver="lbfgs").set_callbacks(recorder).fit(X, y)
    assert recorder.calls == expected(0)
    assert with_optimizer(clone(made).set_params(solver="adam"), "lion")._skl_callbacks == [recorder]


@with_callbacks
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_scikit_learns_own_monitor_takes_sample_weights_along(cls: Any) -> None:
    from sklearn.callback import ScoringMonitor

    X, y = data(cls)
    monitor, recorder = ScoringMonitor(scoring=["accuracy" if is_classifier(cls()) else "r2"]), Recorder()
    made = estimator(cls, optimizer="adamw", max_iter=3).set_callbacks(monitor, recorder)
    made.fit(X, y, sample_weight=np.linspace(1, 2, len(y)))
    assert len(monitor.get_logs().data) == 4
    assert recorder.metadata["sample_weight"][0] == 1


@with_callbacks
@each_estimator
@pytest.mark.parametrize("optimizer", [None, "adamw"])
def test_scikit_learns_own_progress_bar_fills_by_epochs(cls: Any, optimizer: Any, capsys: Any) -> None:
    pytest.importorskip("rich", reason="it draws the bar")
    from sklearn.callback import ProgressBar

    X, y = data(cls)
    made = estimator(cls, optimizer=optimizer, max_iter=4, learning_rate="constant").set_callbacks(ProgressBar())
    made.fit(X, y)
    (bar,) = capsys.readouterr().out.splitlines()
    assert bar.split()[:3] == [cls.__name__, "-", "fit"]
    assert bar.split()[-2] == "100%"
    with pytest.raises(RuntimeError, match="third epoch"):
        made.set_callbacks(ProgressBar(), Failing()).fit(X, y)
    assert capsys.readouterr().out.split()[-2] == "50%"


class Keeper(Recorder):
    """Keeps what was fitted so far, as a checkpoint, and a pickle of the estimator that is being fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.pickles = list[Any](), list[bytes]()

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
        if context.task_name == "epoch":
            self.kept.append(fitted_estimator)
            self.pickles.append(pickle.dumps(estimator.set_callbacks()))


@with_callbacks
@pytest.mark.one_of_each("cls", "optimizer", "rate")
@each_estimator
@each_optimizer
@pytest.mark.parametrize("rate", ["constant", "invscaling", "warm-up", "plateau"])
def test_what_a_callback_keeps_goes_on_as_a_fit_that_ended_there(cls: Any, optimizer: Any, rate: str) -> None:
    if optimizer is None and cls in NETWORKS and rate != "constant":
        rate = "constant"  # scikit-learn's Adam knows no other
    words: dict[str, Any] = {"warm-up": {"warmup": 4}, "invscaling": {"learning_rate": rate}}
    words["plateau"] = {"learning_rate": ReduceOnPlateau(0.01, patience=0, factor=0.5, cooldown=0)}
    keeper, (X, y) = Keeper(), data(cls)
    whole = estimator(cls, optimizer=optimizer, max_iter=4, **words.get(rate, {}))
    shorter = clone(whole).set_params(max_iter=2).fit(X, y)
    whole.set_callbacks(keeper).fit(X, y)
    copies = [keeper.kept[1], pickle.loads(pickle.dumps(keeper.kept[1]))]
    for kept in copies:
        assert kept.get_params() == shorter.get_params() | {"max_iter": 4}
        assert vars(kept).keys() <= vars(shorter).keys() | {"_skl_callbacks"}  # nothing of the fit, nor of its data
        assert kept.loss_curve_ == shorter.loss_curve_
        assert_close(kept, shorter, 0.0)
    shorter.partial_fit(X, y)
    for kept in copies:
        assert_close(kept.set_callbacks().partial_fit(X, y), shorter, 0.0)
    pickle.loads(keeper.pickles[1]).partial_fit(X, y)
    assert len(keeper.pickles[1]) < 2 * len(pickle.dumps(whole))


class Failing(Recorder):
    """Ends a fit with an error, as the third epoch begins."""

    def on_fit_task_begin(self, estimator: Any, context: Any, *, X: Any = None, y: Any = None) -> None:
        if (context.task_name, context.task_id) == ("epoch", 2):
            raise RuntimeError("in the third epoch")


@each_estimator
def test_without_callbacks_there_is_nothing_to_pickle(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer="adamw").fit(X, y)
    assert_same_bits(pickle.loads(pickle.dumps(made)), made)
    assert hasattr(made, "set_callbacks") == HAS_CALLBACKS


# -- the loss of the rows that are set apart


@each_estimator
@each_optimizer
def test_early_stopping_keeps_the_loss_of_every_epoch(cls: Any, optimizer: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=optimizer, early_stopping=True, warm_start=True, learning_rate="constant")
    made.fit(X, y)
    assert len(made.validation_loss_curve_) == len(made.validation_scores_) == 5
    made.fit(X, y)
    assert len(made.validation_loss_curve_) == len(made.validation_scores_)
    del made.validation_loss_curve_  # as in a pickle of an earlier version
    made.fit(X, y)
    assert len(made.validation_loss_curve_) == 5
    assert estimator(cls, optimizer=optimizer).fit(X, y).validation_loss_curve_ is None


@each_estimator
def test_the_loss_is_that_of_the_data_alone(cls: Any) -> None:
    """Of rows that are alike, half of them in each of two classes, the held-out ones are known."""
    X, y = data(cls)
    X, y = (X[[0, 1] * 45], np.tile([0, 1], 45)) if is_classifier(cls()) else (X[[0] * 90], y[[0] * 90])
    made = estimator(cls, optimizer="adamw", early_stopping=True, max_iter=1, alpha=3.0, validation_fraction=1 / 3)
    made.fit(X, y)
    if is_classifier(made):
        loss = log_loss(y, made.predict_proba(X))
    else:
        loss = 0.5 * np.mean((made.predict(X) - y) ** 2)
    np.testing.assert_allclose(made.validation_loss_curve_, [loss], rtol=1e-9)


@pytest.mark.parametrize("cls", NETWORKS)
def test_several_labels_and_targets_have_a_loss(cls: Any) -> None:
    X, y = data(MLPRegressor)
    many = np.c_[y > 0, y > 1].astype(int) if cls is MLPClassifier else np.c_[y, -y]
    made = estimator(cls, optimizer="adamw", early_stopping=True).fit(X, many)
    assert np.isfinite(made.validation_loss_curve_).all()
    assert made.validation_loss_curve_[-1] < made.validation_loss_curve_[0]
