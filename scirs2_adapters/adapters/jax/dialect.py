"""optax's words for the core's: argument names and their order, and the state classes in which optax keeps memory.

Arguments that optax's own function takes by position are taken so, in its order as far as we have them all; the rest by
name only. An argument of which optax knows nothing has the default None where None means the rule's own default:
`inject_hyperparams` turns every number it sees into a traced array, and must see only those that it is given.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import optax
from optax import contrib

from scirs2_adapters.core.dialect import Dialect, by_name
from scirs2_adapters.core.errors import did_you_mean
from scirs2_adapters.core.rule import Rule

WORDS = {
    "beta1": "b1",
    "beta2": "b2",
    "rho": "decay",
    "decay_rate": "rho",
    "clip_threshold": "clipping_threshold",
}
MUON = {
    "momentum": "beta",
    "ns_coefficients": "ns_coeffs",
    "adamw_learning_rate": "adam_learning_rate",
    "adamw_beta1": "adam_b1",
    "adamw_beta2": "adam_b2",
    "adamw_eps": "adam_eps",
    "adamw_weight_decay": "adam_weight_decay",
}
DIALECTS = {
    "muon": Dialect(names=WORDS | MUON),
    "prodigy": Dialect(names={"d0": "estim_lr0", "d_coef": "estim_lr_coef"}, tuples={"betas": ("beta1", "beta2")}),
}

#: The argument by which optax chooses the dtype of first moments: optimizer -> (argument, slots).
DTYPES = {
    "adam": ("mu_dtype", "exp_avg"),
    "adamw": ("mu_dtype", "exp_avg"),
    "lion": ("mu_dtype", "exp_avg"),
    "muon": ("mu_dtype", "momentum_buffer", "exp_avg"),
    "nadam": ("mu_dtype", "exp_avg"),
    "sgd": ("accumulator_dtype", "momentum_buffer"),
}
#: Arguments that every factory has besides a rule's own.
OURS = {"mask": None, "kernel": "auto", "state_dtype": None, "axis_name": None, "match": None}


@dataclass(frozen=True)
class Place:
    """One member of a chain's state: its class, and for each field the slot in it, "count", or "-slot" for its
    negative. `when` is the argument without which optax takes another class.
    """

    cls: Callable[..., Any]
    fields: Mapping[str, str] = field(default_factory=dict)
    when: str = ""


@dataclass(frozen=True)
class Chain:
    """The state of an optimizer of optax's. A place is alternatives, of which the largest that the slots fill is
    taken, or a word: "decay" and "rate" are the places of weight decay and learning rate, which count where they
    follow a schedule.

    `alias` names slots that are always equal to another. `unless` names arguments that ask for memory optax has no
    place for.
    """

    places: tuple[str | tuple[Place, ...], ...]
    alias: Mapping[str, str] = field(default_factory=dict)
    unless: tuple[str, ...] = ()
    bare: bool = False


def _counted(make: str, **memory: Any) -> Any:
    """The state of an RMSprop of optax's that corrects its means; its class has no public name."""
    return _class(make)(**memory)


@functools.cache
def _class(make: str) -> type:
    return type(jax.eval_shape(getattr(optax, make)(bias_correction=True).init, ()))


_MOMENTS = {"count": "count", "mu": "exp_avg", "nu": "exp_avg_sq"}
_ADAM = (
    Place(optax.ScaleByAdamState, _MOMENTS),
    Place(optax.ScaleByAmsgradState, _MOMENTS | {"nu_max": "max_exp_avg_sq"}),
)
_ADADELTA = (Place(optax.ScaleByAdaDeltaState, {"e_g": "square_avg", "e_x": "acc_delta"}),)
_ADAMAX = (Place(optax.ScaleByAdamState, {"count": "count", "mu": "exp_avg", "nu": "exp_inf"}),)
_RPROP = (Place(optax.ScaleByRpropState, {"step_sizes": "step_size", "prev_updates": "prev"}),)
_RSS = (Place(optax.ScaleByRssState, {"sum_of_squares": "sum"}),)
_LION = (Place(optax.ScaleByLionState, {"count": "count", "mu": "exp_avg"}),)
_RMS = (
    Place(optax.ScaleByRmsState, {"nu": "square_avg"}),
    Place(optax.ScaleByRStdDevState, {"mu": "grad_avg", "nu": "square_avg"}),
    Place(functools.partial(_counted, "scale_by_rms"), {"count": "count", "nu": "square_avg"}, "bias_correction"),
    Place(
        functools.partial(_counted, "scale_by_stddev"),
        {"count": "count", "mu": "grad_avg", "nu": "square_avg"},
        "bias_correction",
    ),
)
_PRODIGY = {
    "exp_avg": "exp_avg",
    "exp_avg_sq": "exp_avg_sq",
    "grad_sum": "s",
    "params0": "p0",
    "estim_lr": "d",
    "numerator_weighted": "d_numerator",
    "count": "count",
}
EMPTY = Place(optax.EmptyState)


def _trace(slot: str) -> tuple[Place, ...]:
    return EMPTY, Place(optax.TraceState, {"trace": slot})


#: By optimizer, or by optimizer and match where that has another: optax's own RMSprop sums steps, which point downhill.
CHAINS = {
    "adadelta": Chain(("decay", _ADADELTA, "rate")),
    "adagrad": Chain((_RSS, "rate"), unless=("lr_decay",)),
    "adam": Chain((_ADAM, "rate")),
    "adamax": Chain((_ADAMAX, "rate")),
    "adamw": Chain((_ADAM, "decay", "rate")),
    "lamb": Chain((_ADAM, "decay", (EMPTY,), "rate")),
    "lion": Chain((_LION, "decay", "rate")),
    "nadam": Chain((_ADAM[:1], "rate")),
    "prodigy": Chain(
        ((Place(contrib.ProdigyState, _PRODIGY),),), alias={"d_max": "d"}, unless=("growth_rate",), bare=True
    ),
    "radam": Chain((_ADAM[:1], "rate")),
    "rmsprop": Chain((_RMS, "rate", _trace("momentum_buffer"))),
    "rmsprop:optax": Chain((_RMS, "rate", _trace("-momentum_buffer"))),
    "rprop": Chain((_RPROP, "rate")),
    "sgd": Chain((_trace("momentum_buffer"), "rate"), unless=("dampening",)),
}


class Signature(inspect.Signature):
    """What a factory takes. Bound with a `match`, what is not given has that framework's default. `inject_hyperparams`
    binds and fills in a signature before it calls the factory, which cannot tell the one from the other.
    """

    rule: type[Rule]

    def bind(self, /, *args: Any, **given: Any) -> inspect.BoundArguments:
        """The arguments by name, with the defaults that belong to them."""
        bound = super().bind(*args, **given)
        match, base = (bound.arguments.get(k, self._default(k)) for k in ("match", "base"))
        theirs, plain = _defaults(self.rule, match, base), _defaults(self.rule, None, base)
        changed = {k for k, value in theirs.items() if value != plain[k] and self._default(k) == plain[k]}
        filled = [p.replace(default=theirs[k]) if k in changed else p for k, p in self.parameters.items()]
        return inspect.BoundArguments(self.replace(parameters=filled), bound.arguments)

    def _default(self, name: str) -> Any:
        return self.parameters[name].default if name in self.parameters else None


def _defaults(rule: type[Rule], match: str | None, base: Any) -> dict[str, Any]:
    """The values of a rule's fields to which nothing was given, by optax's names."""
    made = rule.build({} if base is None else {"base": base}, match=match)
    return dialect(rule).to_host({k: getattr(made, k) for k in made.fields}, made.fields)


def dialect(rule: type[Rule]) -> Dialect:
    """The words of this optimizer."""
    return DIALECTS.get(rule.name, Dialect(names=WORDS))


def signature(rule: type[Rule], base: Any = None) -> inspect.Signature:
    """The factory's signature; a wrapper's is that of its base as well."""
    fields, word, own = rule.fields_with(base), inspect.Parameter, inspect.Parameter.KEYWORD_ONLY
    given = dialect(rule).parameters(fields)
    theirs = _optax(rule.name)
    for core, f in fields.items():
        host = dialect(rule).names.get(core, core)
        if host in given and ((f.kind is int and f.static) or (host not in theirs and host in _SILENT)):
            given[host] = given[host].replace(default=None, annotation=f"{given[host].annotation} | None")
    for host in given.keys() & theirs.keys() - {"learning_rate"}:
        if theirs[host].default is None:
            given[host] = given[host].replace(default=None)
    given["learning_rate"] = given["learning_rate"].replace(annotation=optax.ScalarOrSchedule)
    if fields.keys() != rule.fields.keys():
        given["base"] = word("base", own, default=getattr(rule, "default_base", None), annotation=str | Rule)
    if rule.name in DTYPES:
        given[DTYPES[rule.name][0]] = word(DTYPES[rule.name][0], own, default=None)
    given |= {k: word(k, own, default=default) for k, default in OURS.items()}
    ordered = ["learning_rate", *itertools.takewhile(given.__contains__, [k for k in theirs if k != "learning_rate"])]
    ordered = ordered if "learning_rate" in theirs else ordered[:1]
    rest = [k for k in given if k not in ordered]
    first = [given[k].replace(kind=word.POSITIONAL_OR_KEYWORD) for k in ordered]
    made: type[Signature] = type("Signature", (Signature,), {"rule": rule})
    return made(first + [given[k].replace(kind=own) for k in rest])


#: Arguments that stay None until given, where optax has no such argument.
_SILENT = ("weight_decay", "dampening", "growth_rate", "lr_decay", "momentum_decay")


def _optax(name: str) -> dict[str, inspect.Parameter]:
    """What optax's own function of this name takes by position, in order."""
    theirs = getattr(optax, name, None) or getattr(contrib, name, None)
    found = inspect.signature(theirs).parameters if theirs else {}
    return {k: p for k, p in found.items() if p.kind is p.POSITIONAL_OR_KEYWORD}


def given_by_name(call: str, known: inspect.Signature, args: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were given, by name. None is not given: it stands for the default everywhere."""
    if unknown := given.keys() - known.parameters.keys():
        name = min(unknown)
        takes = ", ".join(known.parameters)
        raise TypeError(f"`{call}` has no argument `{name}`.{did_you_mean(name, known.parameters)} It takes: {takes}.")
    return {k: v for k, v in by_name(call, known, args, given).items() if v is not None}
