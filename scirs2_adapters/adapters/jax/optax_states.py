"""The state classes in which optax keeps memory, and in which order: as data, for each optimizer that optax has."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import optax
from optax import contrib

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.registry import get


@dataclass(frozen=True)
class Place:
    """One member of a chain's state: its class, and for each field the slot in it, "count", or "-slot" for its
    negative. `present_if` is the argument without which optax takes another class, or none.

    In a `sparse` one rows and columns have not the axis that they are means over, and a single zero stands where a
    parameter has no such slot.
    """

    cls: Callable[..., Any]
    fields: Mapping[str, str] = field(default_factory=dict)
    present_if: str = ""
    sparse: bool = False


@dataclass(frozen=True)
class Chain:
    """The state of an optimizer of optax's. A place is a word or a list of alternatives. Of these the largest that the
    slots fill is taken, if there is any. The words "decay" and "rate" are the places of weight decay and learning rate,
    which have a count if they follow a schedule; with a "?" there is no place unless that argument is set.

    `alias` names slots that are always equal to another. `unless` names arguments that ask for memory optax has no
    place for.
    """

    places: tuple[str | tuple[Place, ...], ...]
    alias: Mapping[str, str] = field(default_factory=dict)
    unless: tuple[str, ...] = ()
    bare: bool = False


def _unnamed(make: str, argument: str, value: object, **memory: Any) -> Any:
    """A state of optax's whose class has no public name: of what `make` makes with this argument."""
    return _class(make, argument, value)(**memory)


@functools.cache
def _class(make: str, argument: str, value: object) -> type:
    return type(jax.eval_shape(getattr(optax, make)(**{argument: value}).init, ()))


def _corrected(make: str, fields: Mapping[str, str]) -> Place:
    """The place of an RMSprop of optax's that corrects its means."""
    return Place(functools.partial(_unnamed, make, "bias_correction", True), fields, "bias_correction")


_COUNT = {"count": "count"}
_decays = functools.partial(_unnamed, "add_decayed_weights", "weight_decay", lambda count: 0.0 * count)
#: The argument that a word of a chain stands for, and the place that counts for its schedule.
COUNTERS = {
    "decay": ("weight_decay", Place(_decays, _COUNT)),
    "rate": ("learning_rate", Place(optax.ScaleByScheduleState, _COUNT)),
}
_MOMENTS = _COUNT | {"mu": "exp_avg", "nu": "exp_avg_sq"}
_ADAM = (
    Place(optax.ScaleByAdamState, _MOMENTS),
    Place(optax.ScaleByAmsgradState, _MOMENTS | {"nu_max": "max_exp_avg_sq"}),
)
_RPROP = (Place(optax.ScaleByRpropState, {"step_sizes": "step_size", "prev_updates": "prev"}),)
_SQUARES = {"nu": "square_avg"}
_CENTERED = _SQUARES | {"mu": "grad_avg"}
_RMS = (
    Place(optax.ScaleByRmsState, _SQUARES),
    Place(optax.ScaleByRStdDevState, _CENTERED),
    _corrected("scale_by_rms", _COUNT | _SQUARES),
    _corrected("scale_by_stddev", _COUNT | _CENTERED),
)
_PRODIGY = Place(contrib.ProdigyState, {
    "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq", "grad_sum": "s", "params0": "p0", "estim_lr": "d",
    "numerator_weighted": "d_numerator", "count": "count",
})  # fmt: skip
_DADAPT = Place(contrib.DAdaptAdamWState, {
    "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq", "grad_sum": "s", "estim_lr": "d",
    "numerator_weighted": "numerator_weighted", "count": "count",
})  # fmt: skip
_COCOB = Place(contrib.COCOBState, {name: name for name in contrib.COCOBState._fields})
_MOMOS = {"momo": contrib.MomoState, "momoadam": contrib.MomoAdamState}
_MADGRAD = Place(contrib.MadgradState, _COUNT | {"grad_sum_sq": "grad_sum_sq", "s": "s", "x0": "x0"})
EMPTY = Place(optax.EmptyState)
_MASKED = Place(functools.partial(optax.MaskedState, optax.EmptyState()))
_FACTORED = _COUNT | {"v_row": "row_var", "v_col": "col_var", "v": "variance"}
_ADAFACTOR = (
    (Place(optax.FactoredState, _FACTORED, sparse=True),), (Place(optax.EmptyState, present_if="clips"),), "rate?",
    (Place(optax.EmptyState, present_if="scale_parameter"),), (Place(optax.EmaState, _COUNT | {"ema": "exp_avg"}),),
    "decay?", (EMPTY,),
)  # fmt: skip


def _trace(slot: str) -> tuple[Place, ...]:
    return EMPTY, Place(optax.TraceState, {"trace": slot})


#: Optimizers whose state is of several classes; one class is declared with the rule, as `optax_state`. By optimizer, or
#: by optimizer and match where that has another: optax's own RMSprop sums steps, which point downhill.
CHAINS = {
    "adafactor:optax": Chain(_ADAFACTOR),
    **dict.fromkeys(("adam", "amsgrad"), Chain((_ADAM, "rate"))),
    "adamw": Chain((_ADAM, "decay", "rate")),
    "cocob": Chain(("decay", "rate", (_COCOB,))),
    "dadaptadamw": Chain(((_DADAPT,),), unless=("growth_rate",), bare=True),
    "lamb": Chain((_ADAM, "decay", (EMPTY,), "rate")),
    "lars": Chain(("decay", (_MASKED,), "rate", _trace("-momentum_buffer"))),
    "madgrad": Chain(("decay", (_MADGRAD,))),
    "nadam": Chain((_ADAM[:1], "rate")),
    **{name: Chain(((Place(cls, {f: f for f in cls._fields}),),), bare=True) for name, cls in _MOMOS.items()},
    "prodigy": Chain(((_PRODIGY,),), alias={"d_max": "d"}, unless=("growth_rate",), bare=True),
    "radam": Chain((_ADAM[:1], "rate")),
    "rmsprop": Chain((_RMS, "rate", _trace("momentum_buffer"))),
    "rmsprop:optax": Chain((_RMS, "rate", _trace("-momentum_buffer"))),
    "rprop": Chain((_RPROP, "rate")),
    "sgd": Chain((_trace("momentum_buffer"), "rate"), unless=("dampening",)),
    "signum": Chain(((Place(optax.EmaState, _COUNT | {"ema": "exp_avg"}),), (EMPTY,), "rate")),
}


def chain_of(name: str, match: str | None) -> Chain | None:
    """The state of this optimizer under this match, or None if optax has none that fits it."""
    chain = CHAINS.get(f"{name}:{match}", CHAINS.get(name))
    return _declared(name) if chain is None else chain


@functools.cache
def _declared(name: str) -> Chain | None:
    """The chain of a rule's `optax_state`."""
    cls = get(name)
    state = cls.optax_state
    if state is None:
        return None
    state_class = getattr(optax, state.name, getattr(contrib, state.name, None))
    if state_class is None or not set(state.fields) <= set(getattr(state_class, "_fields", ())):
        raise bad_value(f"{cls.__name__}.optax_state", "", "must name a state class of optax and its fields", state)
    place = (Place(state_class, state.fields),)
    places = {"before": ("decay", place), "after": (place, "decay")}.get(state.decays, (place,))
    return Chain((*places, "rate"), unless=state.unless)
