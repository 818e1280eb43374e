"""How scikit-learn spells the core's arguments, and which rule an estimator's parameters ask for.

The optimizers here are the core's classes, spelled as in the core. One name differs: a network's `learning_rate` is the
name of a schedule, so its step size is called `learning_rate_init`. That is the learning rate of an optimizer that is
chosen by name; an optimizer object has a learning rate already.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from scirs2_adapters.core import Rule, get, names
from scirs2_adapters.core.argument_names import ArgumentNames
from scirs2_adapters.core.errors import bad_type, bad_value, did_you_mean
from scirs2_adapters.core.numpy_rules import FACTOR, Groups
from scirs2_adapters.core.registry import plain, with_closure, with_value
from scirs2_adapters.core.routing import without_decay
from scirs2_adapters.core.schedule import RATE as FACTORS
from scirs2_adapters.core.step.options import StateDtype, check_state_dtype
from scirs2_adapters.core.synonyms import similar_or_all

NAMES = ArgumentNames(names={"learning_rate": "learning_rate_init"})

#: The value of `learning_rate_init=None` where scikit-learn's solvers run: the default of scikit-learn.
LEARNING_RATE_INIT = 0.001

#: Parameters of networks that only scikit-learn's solvers read: refused beside an optimizer, never ignored.
SOLVERS_ONLY = (
    "solver", "power_t", "momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon", "max_fun",
)  # fmt: skip

#: Parameters of our networks that scikit-learn's networks lack, beside `optimizer`. Its solvers know none of them.
NETWORK_OPTIONS: dict[str, object] = {
    "skip_nonfinite": False, "state_dtype": None, "warmup": 0.0, "decay_biases": True, "learning_rate_by_layer": None,
}  # fmt: skip

#: The module that pickles name: the path that users import from.
PUBLIC = "scirs2_adapters.sklearn"
Params = Mapping[str, object]
_DEFAULTS: weakref.WeakKeyDictionary[type, dict[str, object]] = weakref.WeakKeyDictionary()


def chosen_rule(estimator: BaseEstimator) -> Rule | None:
    """A copy of the rule that `optimizer` asks for; None for the estimator's default. Anything else is refused."""
    optimizer, rate = estimator.optimizer, getattr(estimator, "learning_rate_init", None)
    call = type(estimator).__name__
    if optimizer is None:
        if hasattr(estimator, "solver"):
            _refuse_options(call, estimator)
        return None
    _check_optimizer(call, optimizer)
    if hasattr(estimator, "solver"):
        _refuse_solvers_only(call, estimator)
    if isinstance(optimizer, str):
        rule = NAMES.rule(get(optimizer), {} if rate is None else {"learning_rate_init": rate}, call=call)
    elif rate is None:
        rule = optimizer.replace()
    else:
        way_out = f"Give the learning rate to the optimizer: `{type(optimizer).__name__}(learning_rate={rate})`."
        raise bad_value(call, "learning_rate_init", "must be None beside an optimizer object", rate, way_out)
    check_state_dtype(call, estimator.state_dtype, rule.all_slots())
    return rule


class StepOptions(NamedTuple):
    """What the steps of an estimator have besides a rule, as `HostOptimizer` takes it."""

    skip_nonfinite: bool = False
    state_dtype: StateDtype = None
    groups: Groups = ()


def step_options(estimator: BaseEstimator, groups: Groups = ()) -> StepOptions:
    """What an estimator's steps have besides a rule."""
    return StepOptions(bool(estimator.skip_nonfinite), estimator.state_dtype, groups)


def intercept_group(rule: Rule) -> Groups:
    """The parameter groups of a linear estimator: decay leaves the intercept alone."""
    spared = without_decay(rule)
    return ({"params": ["intercept_"], **spared},) if spared else ()


def layer_groups(estimator: BaseEstimator, rule: Rule) -> Groups:
    """The parameter groups of a network: by the learning rate of a layer, biases apart if they are not to decay."""
    layers, by_layer = 1 + np.size(estimator.hidden_layer_sizes), estimator.learning_rate_by_layer
    if isinstance(by_layer, Real) and not isinstance(by_layer, bool):
        by_layer = [float(by_layer) ** i for i in reversed(range(layers))]
    factors = [1.0] * layers if by_layer is None else list(np.ravel(by_layer))
    if len(factors) != layers or not all(isinstance(f, Real) and FACTORS.accepts(f) for f in factors):
        worded = f"must be None, a number >= 0, or one for each of the {layers} layers"
        raise bad_value(type(estimator).__name__, "learning_rate_by_layer", worded, by_layer)
    spared = {} if estimator.decay_biases else without_decay(rule)
    names: dict[tuple[float, bool], list[str]] = {}
    for i, factor in enumerate(factors):
        names.setdefault((float(factor), False), []).append(f"coefs_.{i}")
        names.setdefault((float(factor), bool(spared)), []).append(f"intercepts_.{i}")
    groups = {key: {"params": params, FACTOR: key[0]} | (spared if key[1] else {}) for key, params in names.items()}
    return tuple(group for key, group in groups.items() if key != (1.0, False))


def _refuse_options(call: str, estimator: BaseEstimator) -> None:
    """Refuse what scikit-learn's solvers do not do."""
    way_out = 'Give an optimizer, such as `optimizer="adam"`.'
    for name, default in NETWORK_OPTIONS.items():
        if (value := getattr(estimator, name)) is not default and value != default:
            worded = f"must be {default!r} with `optimizer=None`, for scikit-learn's own solvers do not know it"
            raise bad_value(call, name, worded, value, way_out)
    if callable(estimator.learning_rate) or estimator.learning_rate == "cosine":
        worded = 'must be "constant", "invscaling" or "adaptive" with `optimizer=None`'
        raise bad_value(call, "learning_rate", worded, estimator.learning_rate, way_out)


def _check_optimizer(call: str, optimizer: object) -> None:
    worded = "must be None, the name of an optimizer, or an optimizer such as AdamW(learning_rate=0.001)"
    if isinstance(optimizer, str):
        if plain(optimizer) in with_closure():
            worded = "must be an optimizer that needs no closure, for a fit has one gradient for each batch"
            by_solver = optimizer == "lbfgs" and call.startswith("MLP")
            way_out = 'Write `optimizer=None, solver="lbfgs"`.' if by_solver else 'Give another, such as "adamw".'
            raise bad_value(call, "optimizer", worded, optimizer, way_out)
        if plain(optimizer) not in (known := [*names(), *with_value()]):
            raise bad_value(call, "optimizer", worded, optimizer, similar_or_all(optimizer, known))
    elif not isinstance(optimizer, Rule):
        rule = optimizer if isinstance(optimizer, type) and issubclass(optimizer, Rule) else None
        raise bad_type(call, "optimizer", worded, optimizer, f"Write `{rule.__name__}()`." if rule else "")


def _refuse_solvers_only(call: str, estimator: BaseEstimator) -> None:
    """Refuse a parameter that only scikit-learn's solvers read, unless it has its default value."""
    defaults = _defaults(type(estimator))
    for name in SOLVERS_ONLY:
        if name == "power_t" and estimator.learning_rate == "invscaling":
            continue
        if name in defaults and (value := getattr(estimator, name)) != (default := defaults[name]):
            worded = f"must be {default!r} beside an optimizer, for only scikit-learn's own solvers read it"
            way_out = "Give the optimizer its own hyperparameters, or use `optimizer=None`."
            raise bad_value(call, name, worded, value, way_out)


def _defaults(cls: type) -> dict[str, object]:
    """The default values of a class's parameters, remembered: to look takes as long as a step of a small network."""
    if (known := _DEFAULTS.get(cls)) is None:
        parameters = inspect.signature(cls).parameters.values()
        known = _DEFAULTS[cls] = {p.name: p.default for p in parameters if p.default is not p.empty}
    return known


def merge_nested(estimator: BaseEstimator, params: Params) -> dict[str, object]:
    """The parameters with `optimizer__learning_rate` and the like replaced by a changed copy of the optimizer, which
    other estimators may share. A name, or None, has no hyperparameters to be set.
    """
    optimizer = params.get("optimizer", estimator.optimizer)
    nested = {k.removeprefix("optimizer__"): v for k, v in params.items() if k.startswith("optimizer__")}
    if not nested:
        return dict(params)
    if not isinstance(optimizer, Rule):
        word, value = next(iter(nested.items()))
        named = get(optimizer).__name__ if isinstance(optimizer, str) and plain(optimizer) in names() else "AdamW"
        worded = f"must be an optimizer object for `optimizer__{word}` to be set"
        way_out = f"Write it so: `optimizer={named}({word}={value!r})`."
        raise bad_value(type(estimator).__name__, "optimizer", worded, optimizer, way_out)
    others = {k: v for k, v in params.items() if not k.startswith("optimizer__")}
    return others | {"optimizer": optimizer.replace(**nested)}


class Restored:
    """An estimator that finds in its pickle what it was then, and the defaults of parameters that are newer."""

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(_defaults(type(self)) | state)  # type: ignore[misc]


Estimator = TypeVar("Estimator", bound=type)


def explains_parameters(cls: Estimator) -> Estimator:
    """A class whose constructor names the class in its error for an unknown parameter, and for a hyperparameter of an
    optimizer says where it belongs.
    """
    construct, known = cls.__init__, inspect.signature(cls.__init__)  # type: ignore[misc]

    def __init__(self: BaseEstimator, *args: object, **params: object) -> None:
        if unknown := params.keys() - known.parameters.keys():
            raise _unknown_parameter(type(self).__name__, min(unknown), list(known.parameters)[1:])
        construct(self, *args, **params)

    __init__.__signature__ = known  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{cls.__name__}.__init__"
    cls.__init__ = __init__  # type: ignore[misc]
    return cls


def _unknown_parameter(call: str, word: str, known: list[str]) -> TypeError:
    fields = {field for name in names() for field in get(name).fields}
    hint = did_you_mean(word, known)
    if word in fields or word in ("lr", "learning_rate_init"):
        core = word if word in fields else "learning_rate"
        hint = f" It is the optimizer's: `{call}(optimizer=Adam({core}=...))`, or another one that has it."
    return TypeError(f"`{call}` has no parameter `{word}`.{hint} It takes: {', '.join(known)}.")
