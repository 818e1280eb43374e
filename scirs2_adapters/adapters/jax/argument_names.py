"""optax's words for the core's: argument names and their order; `optax_states` has the state classes.

Arguments that optax's function takes by position are taken so, in its order as far as we have them all; the rest by
name only. An argument that optax does not know has the default None, which means the default of the rule:
`inject_hyperparams` turns every number it sees into a traced array, and must see only those that the user has set.
"""

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import optax
from optax import contrib

from scirs2_adapters.core.argument_names import ArgumentNames, Values, merge_arguments, signature
from scirs2_adapters.core.fields import Field, Value
from scirs2_adapters.core.registry import get, plain
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.synonyms import unknown_argument
from scirs2_adapters.core.wrapper import Wrapper

from .optax_states import chain_of


@dataclass(frozen=True)
class Words(ArgumentNames):
    """Argument names in which the values of the core words `turned` have the other sign."""

    turned: tuple[str, ...] = ()

    def seen(self, fields: Mapping[str, Field]) -> dict[str, Field]:
        """The fields with the values that optax has for them."""
        return {core: _turned(core, f) if core in self.turned else f for core, f in fields.items()}

    def parameters(self, fields: Mapping[str, Field]) -> dict[str, inspect.Parameter]:
        return super().parameters(self.seen(fields))

    def to_framework(self, values: Values, fields: Mapping[str, Field]) -> dict[str, Value]:
        return super().to_framework({k: -v if k in self.turned else v for k, v in values.items()}, fields)

    def to_core(self, arguments: Values, fields: Mapping[str, Field], call: str) -> dict[str, Value]:
        values, seen = super().to_core(arguments, fields, call), self.seen(fields)
        for k in values.keys() & set(self.turned):
            values[k] = -seen[k].check(call, self.spell(k, fields), values[k])
        return values


def _turned(core: str, field: Field) -> Field:
    """The field whose values have the other sign."""
    worded = " ".join({"<=": ">=", ">=": "<="}.get(word, word) for word in field.requirement.split(" "))
    means, accepts = f"-{core}, {field.means}", field.accepts
    return replace(field, default=-field.default, requirement=worded, means=means, accepts=lambda v: accepts(-v))


WORDS = {"beta1": "b1", "beta2": "b2", "beta3": "b3", "rho": "decay", "decay_rate": "rho"}
ADAFACTOR = {
    "beta2_decay": "decay_rate", "eps1": "eps", "eps2": "min_scale", "clip_threshold": "clipping_threshold",
    "beta1": "momentum", "scale_parameter": "multiply_by_parameter_scale", "weight_decay": "weight_decay_rate",
    "mask": "weight_decay_mask",
}  # fmt: skip
MUON = {
    "mask": "weight_decay_mask", "momentum": "beta", "ns_coefficients": "ns_coeffs",
    "adamw_learning_rate": "adam_learning_rate", "adamw_beta1": "adam_b1", "adamw_beta2": "adam_b2",
    "adamw_eps": "adam_eps", "adamw_weight_decay": "adam_weight_decay", "adamw_ratio": "adam_ratio",
    "dimensions": "muon_weight_dimension_numbers",
}  # fmt: skip
NAMES_OF = {
    "dadaptadamw": Words(names={"d0": "estim_lr0"}, tuples={"betas": ("beta1", "beta2")}),
    "dog": Words(tuples={"init_step": ("init_step_type", "init_step_value")}),
    "adadelta": Words(names=WORDS | {"mask": "weight_decay_mask"}),
    "adafactor": Words(names=ADAFACTOR, turned=("beta2_decay",)),
    "lars": Words(names=WORDS | {"mask": "weight_decay_mask"}),
    "muon": Words(names=WORDS | MUON),
    "momo": Words(names={"momentum": "beta"}),
    "noisysgd": Words(names=WORDS | {"seed": "key"}),
    "polyaksgd": Words(names={"learning_rate": "scaling", "max_step_size": "max_learning_rate"}),
    "prodigy": Words(names={"d0": "estim_lr0", "d_coef": "estim_lr_coef"}, tuples={"betas": ("beta1", "beta2")}),
    "signum": Words(names={"momentum": "beta"}),
}

#: The argument by which optax chooses the dtype of first moments: optimizer -> (argument, slots).
DTYPES = {
    **dict.fromkeys(("adam", "adamw", "adopt", "amsgrad", "lion", "nadam"), ("mu_dtype", "exp_avg")),
    **dict.fromkeys(("optimisticadam", "optimisticadamv2"), ("mu_dtype", "exp_avg")),
    "ademamix": ("mu_dtype", "exp_avg", "exp_avg_slow", "exp_avg_sq"),
    "adafactor": ("dtype_momentum", "exp_avg"),
    "muon": ("mu_dtype", "momentum_buffer", "exp_avg"),
    "sgd": ("accumulator_dtype", "momentum_buffer"),
    "signum": ("accumulator_dtype", "exp_avg"),
}
#: Arguments that every factory has besides those of a rule.
OURS = {
    "mask": None, "kernel": "auto", "state_dtype": None, "rounding": "nearest", "axis_name": None,
    "skip_nonfinite": False, "match": None,
}  # fmt: skip
#: Arguments whose None says something, and what that is here.
NONE: dict[str, Value] = {"clipping_threshold": math.inf, "dtype_momentum": None}
#: Arguments that stay None until they are set, where optax has no such argument.
SILENT = ("weight_decay", "dampening", "growth_rate", "lr_decay", "momentum_decay")


class Signature(inspect.Signature):
    """What a factory takes. Bound with a `match`, an argument that is not set has the default of that framework:
    `inject_hyperparams` binds a signature and fills in the defaults before it calls the factory, which cannot tell a
    default from a value that was set.
    """

    rule: type[Rule]

    def bind(self, /, *args: Value, **kwargs: Value) -> inspect.BoundArguments:
        """The arguments by name, with their defaults, and those of a base."""
        if (theirs := optax_wrapper(self.rule, (*args, *kwargs.values()))) is not None:
            return inspect.signature(theirs).bind(*args, **kwargs)
        takes = self if kwargs.get("base") is None else factory_signature(self.rule, kwargs["base"])
        bound = inspect.Signature.bind(takes, *args, **kwargs)
        defaults = {k: p.default for k, p in takes.parameters.items()}
        match, base = (bound.arguments.get(k, defaults.get(k)) for k in ("match", "base"))
        matched, plain = _defaults(self.rule, match, base), _defaults(self.rule, None, base)
        changed = {k for k, value in matched.items() if value != plain[k] and defaults.get(k) == plain[k]}
        filled = [p.replace(default=matched[k]) if k in changed else p for k, p in takes.parameters.items()]
        return inspect.BoundArguments(takes.replace(parameters=filled), bound.arguments)


def _defaults(rule: type[Rule], match: str | None, base: object) -> dict[str, Value]:
    """The values of a rule's arguments that are not set, by optax's names."""
    built = rule.build({} if base is None else {"base": base}, match=match)
    defaults = argument_names(rule).to_framework({k: getattr(built, k) for k in built.fields}, built.fields)
    chain = chain_of(rule.name, match)
    defaults |= {"learning_rate": None} if chain and "rate?" in chain.places else {}
    return defaults | ({DTYPES[rule.name][0]: dtype_default(rule, match)} if rule.name in DTYPES else {})


def dtype_default(rule: type[Rule], match: str | None) -> str | None:
    """The dtype of the slot that has an argument for it, if that is not set: None is the parameter's."""
    theirs = _optax(rule.name).get(DTYPES.get(rule.name, ("", ""))[0]) if match == "optax" else None
    return None if theirs is None or theirs.default is None else jnp.dtype(theirs.default).name


def argument_names(rule: type[Rule]) -> Words:
    """The words of this optimizer."""
    return NAMES_OF.get(rule.name, Words(names=WORDS))


def factory_signature(rule: type[Rule], base: object = None) -> inspect.Signature:
    """The factory's signature; a wrapper's is that of its base as well."""
    names, fields, theirs = argument_names(rule), rule.fields_with(base), _optax(rule.name)
    options: dict[str, Value] = {DTYPES[rule.name][0]: None} if rule.name in DTYPES else {}
    options |= {names.names.get(k, k): default for k, default in OURS.items()}
    if of_matrices(rule):
        options[names.names.get("dimensions", "dimensions")] = None
    accepted = {**names.parameters(fields), **options}
    rate = names.spell("learning_rate", fields)
    order = list(itertools.takewhile(accepted.__contains__, theirs)) if rate in theirs else []
    order = order if rate in order else [rate, *order]
    default = getattr(rule, "default_base", None)
    known = signature(fields, names, order=order, options=options, base=default).parameters.values()
    silent = {names.names.get(core, core) for core, f in fields.items() if f.kind in (int, float) and f.static}
    silent |= {word for word in SILENT if word not in theirs}
    optional = {word for word, p in theirs.items() if p.default is None}
    parameters = [_shown(p, rate, silent, optional) for p in known if p.kind is not p.VAR_KEYWORD]
    cls: type[Signature] = type("Signature", (Signature,), {"rule": rule})
    return cls(parameters)


def _shown(
    parameter: inspect.Parameter, rate: str, silent: Container[str], optional: Container[str]
) -> inspect.Parameter:
    """The parameter as a factory shows it: with the default None where it is `optional`, which it is in optax, or
    `silent`, which it is here alone.
    """
    name, annotation = parameter.name, parameter.annotation
    if name == rate:
        return parameter.replace(annotation=optax.ScalarOrSchedule)
    if name in silent or (name in NONE and annotation is not parameter.empty):
        parameter = parameter.replace(annotation=f"{annotation} | None")
    return parameter.replace(default=None) if name in silent or name in optional else parameter


def of_matrices(rule: type[Rule]) -> bool:
    """Whether it takes dimension numbers, which say what matrix a parameter is."""
    return rule.view is not Rule.view and not issubclass(rule, Wrapper)


@functools.cache
def _optax_spellings() -> dict[str, str]:
    """The public names of optax by the names that ours would have."""
    return {plain(name): name for module in (contrib, optax) for name in dir(module) if not name.startswith("_")}


def factory_name(name: str) -> str:
    """What the factory of an optimizer is called: as in optax, where that has it, as `schedule_free_adamw`."""
    return _optax_spellings().get(name, name)


def optax_function(name: str) -> Callable[..., Value] | None:
    """optax's function of this name, if it has one."""
    spelled = factory_name(name)
    return getattr(optax, spelled, None) or getattr(contrib, spelled, None)


def optax_wrapper(rule: type[Rule], arguments: Iterable[Value]) -> Callable[..., Value] | None:
    """optax's wrapper of this name, if there is a transformation among the arguments; ours wraps rules."""
    wraps = issubclass(rule, Wrapper) and any(isinstance(x, optax.GradientTransformation) for x in arguments)
    return optax_function(rule.name) if wraps else None


def _optax(name: str) -> dict[str, inspect.Parameter]:
    """What optax's function of this name takes by position, in order."""
    theirs = optax_function(name)
    parameters = inspect.signature(theirs).parameters if theirs else {}
    return {k: p for k, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}


def arguments_by_name(call: str, known: inspect.Signature, args: Sequence[Value], keywords: Values) -> dict[str, Value]:
    """The arguments that the user has set, by name. None stands for the default and counts as not set, except where it
    has a meaning.
    """
    if unknown := keywords.keys() - known.parameters.keys():
        words, fields = argument_names(get(call)), get(call).fields_with(keywords.get("base"))
        spelled = words.spelled(fields) | {k: words.names.get(k, k) for k in OURS}
        spelled |= {"base": "base"} if "base" in known.parameters else {}
        raise unknown_argument(call, min(unknown), get(call).name, spelled, known.parameters)
    merged = merge_arguments(call, known, args, keywords, none_is_default=known.parameters.keys() - NONE.keys())
    return {k: NONE[k] if v is None else v for k, v in merged.items()}
