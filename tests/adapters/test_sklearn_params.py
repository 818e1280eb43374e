"""The `optimizer` parameter: stored as given, searched by name and by object, refused where it cannot be right."""

import re
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scirs2_adapters as s2
import scirs2_adapters.core as core
import scirs2_adapters.sklearn as adapter
from scirs2_adapters.sklearn import SGD, AdamW, Lion, MLPClassifier, with_optimizer
from tests.adapters.sklearn_support import ESTIMATORS, NETWORKS, assert_same_bits, data, estimator, weights

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
each_network = pytest.mark.parametrize("cls", NETWORKS)


@pytest.mark.parametrize("name", s2.names())
def test_an_optimizer_is_the_cores_own_class(name: str) -> None:
    rule = s2.get(name)
    assert getattr(adapter, rule.__name__) is rule is getattr(core, rule.__name__)
    assert rule.__name__ in adapter.__all__


def test_an_unknown_name_in_the_adapter_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Adamm"):
        adapter.Adamm  # noqa: B018


@each_estimator
@pytest.mark.parametrize("name", s2.names())
def test_a_name_is_that_class_with_its_defaults(cls: Any, name: str) -> None:
    X, y = data(cls)
    named, made = (estimator(cls, optimizer=o, max_iter=2).fit(X, y) for o in (name, s2.get(name)()))
    assert_same_bits(named, made)


@each_network
def test_a_number_is_the_learning_rate_of_a_named_optimizer(cls: Any) -> None:
    X, y = data(cls)
    named = estimator(cls, optimizer="Lion", learning_rate_init=0.02).fit(X, y)
    assert_same_bits(named, estimator(cls, optimizer=Lion(learning_rate=0.02)).fit(X, y))


@each_estimator
def test_the_constructor_stores_and_nothing_else(cls: Any) -> None:
    optimizer = object()
    assert cls(optimizer=optimizer).optimizer is optimizer


@each_estimator
def test_fit_never_changes_the_optimizer_which_can_serve_two_estimators(cls: Any) -> None:
    X, y = data(cls)
    shared = AdamW(learning_rate=0.01)
    first, second = (estimator(cls, optimizer=shared) for _ in range(2))
    first.fit(X, y)
    assert first.optimizer is shared
    assert shared == AdamW(learning_rate=0.01)
    assert_same_bits(second.fit(X, y), first)
    shared.set_params(learning_rate=0.5)
    assert first.optimizer_.learning_rate == 0.01


@each_estimator
def test_the_parameters_of_the_optimizer_are_the_estimators(cls: Any) -> None:
    made = cls(optimizer=AdamW(learning_rate=0.01))
    assert made.get_params()["optimizer__learning_rate"] == 0.01
    made.set_params(optimizer__learning_rate=0.02, optimizer__weight_decay=0.3)
    assert made.optimizer == AdamW(learning_rate=0.02, weight_decay=0.3)
    made.set_params(optimizer=Lion(), optimizer__learning_rate=0.5)
    assert made.optimizer == Lion(learning_rate=0.5)


@each_estimator
def test_a_grid_searches_hyperparameters_and_optimizers(cls: Any) -> None:
    X, y = data(cls)
    rates = GridSearchCV(estimator(cls, optimizer=AdamW()), {"optimizer__learning_rate": [1e-5, 0.1]}, cv=2)
    assert rates.fit(X, y).best_params_ == {"optimizer__learning_rate": 0.1}
    choices = [None, "adamw", SGD(learning_rate=0.1)]
    searched = GridSearchCV(estimator(cls), {"optimizer": choices}, cv=2, error_score="raise").fit(X, y)
    assert searched.cv_results_["params"] == [{"optimizer": o} for o in choices]


def test_a_grid_searches_through_a_pipeline() -> None:
    X, y = data(MLPClassifier)
    pipeline = make_pipeline(StandardScaler(), estimator(MLPClassifier, optimizer=AdamW()))
    grid = {"mlpclassifier__optimizer__learning_rate": [1e-5, 0.1]}
    assert GridSearchCV(pipeline, grid, cv=2).fit(X, y).best_params_ == {next(iter(grid)): 0.1}


@each_estimator
@pytest.mark.parametrize(
    "optimizer", ["adamw", Lion(learning_rate=0.5), core.Lookahead("lion"), core.Muon()], ids=lambda o: str(o)[:9]
)
def test_clone_copies_the_optimizer_and_no_state(cls: Any, optimizer: Any) -> None:
    X, y = data(cls)
    fitted = estimator(cls, optimizer=optimizer).fit(X, y)
    copied = clone(fitted)
    assert copied.optimizer == optimizer
    assert isinstance(optimizer, str) or copied.optimizer is not optimizer
    assert not hasattr(copied, "optimizer_")
    assert_same_bits(copied.fit(X, y), fitted)


def refused(error: type[Exception], words: str, made: Any) -> None:
    X, y = data(made)
    with pytest.raises(error, match=re.escape(words)):
        made.fit(X, y)
    assert not hasattr(made, "optimizer_")


@each_estimator
def test_an_unknown_name_is_refused_by_fit_with_a_guess(cls: Any) -> None:
    made = cls(optimizer="adamm")
    refused(ValueError, f"`{cls.__name__}(optimizer=...)` must be None, the name of an optimizer", made)
    refused(ValueError, "Received: 'adamm'. Did you mean `adam`? `scirs2_adapters.names()` lists all.", made)


@each_estimator
def test_an_optimizer_that_needs_a_closure_is_refused_with_a_reason(cls: Any) -> None:
    network = cls.__name__.startswith("MLP")
    way_out = 'Write `optimizer=None, solver="lbfgs"`.' if network else 'Give another, such as "adamw".'
    refused(
        ValueError, "must be an optimizer that needs no closure, for a fit has one gradient", cls(optimizer="lbfgs")
    )
    refused(ValueError, f"for each batch. Received: 'lbfgs'. {way_out}", cls(optimizer="lbfgs"))
    refused(ValueError, "Received: 'SAM'. Give another, such as \"adamw\".", cls(optimizer="SAM"))


@each_estimator
def test_a_number_as_learning_rate_is_told_where_it_belongs(cls: Any) -> None:
    network = cls.__name__.startswith("MLP")
    for optimizer, name in ((None, "Adam"), ("lion", "Lion"), ("liom", "Adam"), (AdamW(), "AdamW")):
        by_name = network and not isinstance(optimizer, AdamW)
        advice = f"Give the number to the optimizer: `optimizer={name}(learning_rate=0.01)`."
        way_out = "Write `learning_rate_init=0.01`." if by_name else advice
        made = cls(optimizer=optimizer, learning_rate=0.01)
        refused(ValueError, f"it says how the learning rate changes. Received: 0.01. {way_out}", made)


@each_estimator
@pytest.mark.parametrize("wrong", [AdamW, 3, ["adamw"], np.float64(0.1)], ids=["class", "int", "list", "numpy"])
def test_a_wrong_type_is_refused_by_fit(cls: Any, wrong: Any) -> None:
    refused(TypeError, f"`{cls.__name__}(optimizer=...)` must be None, the name", cls(optimizer=wrong))


def test_a_class_in_place_of_an_object_is_told_how_to_write_it() -> None:
    refused(TypeError, "Write `AdamW()`.", MLPClassifier(optimizer=AdamW))


@each_network
def test_a_learning_rate_beside_an_optimizer_object_is_two_answers(cls: Any) -> None:
    words = f"`{cls.__name__}(learning_rate_init=...)` must be None beside an optimizer object. Received: 0.01. "
    refused(ValueError, words + "Give the learning", cls(optimizer=AdamW(), learning_rate_init=0.01))


@each_network
@pytest.mark.parametrize(
    "argument",
    [
        {"solver": "sgd"},
        {"power_t": 0.1},
        {"momentum": 0.5},
        {"nesterovs_momentum": False},
        {"beta_1": 0.5},
        {"beta_2": 0.5},
        {"epsilon": 1e-3},
        {"max_fun": 10},
    ],
    ids=lambda argument: next(iter(argument)),
)
@pytest.mark.parametrize("optimizer", ["adamw", AdamW()], ids=["name", "object"])
def test_what_only_scikit_learns_solvers_read_is_refused(cls: Any, argument: dict[str, Any], optimizer: Any) -> None:
    words = f"`{cls.__name__}({next(iter(argument))}=...)` must be "
    refused(ValueError, words, cls(optimizer=optimizer, **argument))


@each_estimator
@pytest.mark.parametrize("optimizer", [None, "lion"])
def test_a_nested_parameter_of_a_name_says_how_to_write_it(cls: Any, optimizer: str | None) -> None:
    named = {None: "AdamW", "lion": "Lion"}[optimizer]
    made = cls(optimizer=optimizer)
    with pytest.raises(ValueError, match=re.escape(f"Write it so: `optimizer={named}(learning_rate=0.1)`.")):
        made.set_params(optimizer__learning_rate=0.1)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (
            {"learning_rate": -1.0},
            ValueError,
            "`AdamW(learning_rate=...)` must be a finite number >= 0. Received: -1.0.",
        ),
        ({"learning_rate": float("nan")}, ValueError, "`AdamW(learning_rate=...)` must be a finite number"),
        ({"learning_rate": "fast"}, TypeError, "Received: 'fast' (str)."),
        ({"learning_rate": None}, TypeError, "`AdamW(learning_rate=...)` must be a finite number"),
        ({"beta1": 1.5}, ValueError, "`AdamW(beta1=...)` must be in [0, 1). Received: 1.5."),
        ({"lr": 0.1}, TypeError, "`AdamW` has no argument `lr`."),
    ],
    ids=lambda x: str(x)[:24],
)
def test_a_bad_hyperparameter_is_refused_wherever_it_is_set(wrong: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        AdamW(**wrong)
    made = MLPClassifier(optimizer=AdamW())
    with pytest.raises(error, match=re.escape(words)):
        made.set_params(**{f"optimizer__{k}": v for k, v in wrong.items()})
    assert made.optimizer == AdamW()


@pytest.mark.parametrize("wrong", [LogisticRegression(), MLPClassifier, "adamw", None, adapter.LinearClassifier()])
def test_with_optimizer_refuses_anything_but_a_network(wrong: Any) -> None:
    with pytest.raises(TypeError, match=re.escape("must be an MLPClassifier(...) or MLPRegressor(...) object")):
        with_optimizer(wrong, "adamw")


def test_with_optimizer_takes_ours_too() -> None:
    X, y = data(MLPClassifier)
    made = with_optimizer(estimator(MLPClassifier, optimizer="lion"), AdamW()).fit(X, y)
    assert_same_bits(made, estimator(MLPClassifier, optimizer=AdamW()).fit(X, y))
    assert len(weights(made)) == 4


@pytest.mark.parametrize(
    "estimator", [adapter.MLPClassifier, adapter.MLPRegressor, adapter.LinearClassifier, adapter.LinearRegressor]
)
def test_a_parameter_that_is_none_is_answered_under_the_estimators_name(estimator: Any) -> None:
    name = estimator.__name__
    with pytest.raises(TypeError, match=rf"`{name}` has no parameter `lr`.*{name}\(optimizer=Adam\(learning_rate="):
        estimator(lr=0.1)
    with pytest.raises(TypeError, match=rf"`{name}` has no parameter `weight_decay`. It is the optimizer's"):
        estimator(weight_decay=0.1)
    if not name.startswith("MLP"):
        with pytest.raises(
            TypeError, match=rf"`learning_rate_init`. It is the optimizer's: `{name}\(optimizer=Adam\(l"
        ):
            estimator(learning_rate_init=0.1)
    with pytest.raises(TypeError, match=rf"`{name}` has no parameter `max_itr`. Did you mean `max_iter`\?"):
        estimator(max_itr=5)


@pytest.mark.parametrize("sizes", [(9,), (7, 7), (), 9, [6]], ids=str)
@each_network
def test_other_layers_are_refused_where_training_goes_on(cls: Any, sizes: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer="lion").fit(X, y)
    before = [x.copy() for x in weights(made)]
    made.set_params(hidden_layer_sizes=sizes)
    made.set_params(warm_start=True)
    for train in (made.partial_fit, made.fit):
        with pytest.raises(ValueError, match=rf"`{cls.__name__}\(hidden_layer_sizes=...\)` must be \(7,\), as in"):
            train(X, y)
    for x, kept in zip(weights(made), before, strict=True):
        np.testing.assert_array_equal(x, kept)
    assert made.set_params(warm_start=False).fit(X, y).predict(X).shape == y.shape


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_another_number_of_targets_is_refused_where_training_goes_on(first: int, then: int) -> None:
    X, _ = data(adapter.MLPRegressor)
    targets = {1: X[:, 0], 2: X[:, :2]}
    made = estimator(adapter.MLPRegressor, optimizer="lion").fit(X, targets[first])
    with pytest.raises(ValueError, match=rf"`MLPRegressor.fit\(y=...\)` must have as many columns as before, {first}"):
        made.partial_fit(X, targets[then])
    assert made.n_outputs_ == first
    assert made.partial_fit(X, targets[first]).predict(X).shape == targets[first].shape
