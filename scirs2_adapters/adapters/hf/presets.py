"""The names of transformers' `OptimizerNames`, as data: which rule serves each, and what the name says besides.

A name of 8 bits is `state_dtype="int8"`, one of 32 bits or of bitsandbytes without bits `state_dtype="float32"`; a
paged one is the same without paging. The fields of `TrainingArguments` that transformers reads for a name are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scirs2_adapters.core import names
from scirs2_adapters.core.errors import ArgumentValueError, bad_value

BETAS = {"beta1": "adam_beta1", "beta2": "adam_beta2"}
ADAM = {**BETAS, "eps": "adam_epsilon"}
INT8, FLOAT32 = {"state_dtype": "int8"}, {"state_dtype": "float32"}
#: That of transformers, for names of either package.
RANK = {"rank": 128}
#: What a word of `optim_args` stands for: it adds to the keywords so far.
Translation = Callable[[str, Mapping[str, object]], Mapping[str, object]]


def boolean(text: str) -> bool | None:
    """What a word means that is True or False in `optim_args`, as transformers reads it; None for any other text."""
    words = {True: ("true", "1", "yes", "y", "t", "on"), False: ("false", "0", "no", "n", "f", "off")}
    return next((value for value, known in words.items() if text.casefold() in known), None)


def _rounding(word: str, choice: str) -> Translation:
    def translate(text: str, _: Mapping[str, object]) -> Mapping[str, object]:
        if (value := boolean(text)) is None:
            raise bad_value("TrainingArguments", "optim_args", f"must have True or False as {word}", f"{word}={text}")
        return {"rounding": choice} if value else {}

    return translate


def _stored(slot: str) -> Translation:
    def translate(text: str, so_far: Mapping[str, object]) -> Mapping[str, object]:
        stored = so_far["state_dtype"]
        both = stored if isinstance(stored, Mapping) else dict.fromkeys(("exp_avg", "exp_avg_sq"), stored)
        return {"state_dtype": {**both, slot: text}}

    return translate


def _fixed(word: str, value: object, why: str) -> Translation:
    """A word that may only say what is done in any case."""

    def translate(text: str, _: Mapping[str, object]) -> Mapping[str, object]:
        same = boolean(text) is value if isinstance(value, bool) else text.casefold() == str(value).casefold()
        if not same:
            worded = f"must have {word}={value}, or leave {word} out"
            raise bad_value("TrainingArguments", "optim_args", worded, f"{word}={text}", why)
        return {}

    return translate


@dataclass(frozen=True)
class Preset:
    """What a name stands for: a rule, keywords of the torch adapter, fields of `TrainingArguments` by core name, words
    of `optim_args` that are not the torch adapter's, and defaults by core name that are not the rule's. With `targets`,
    what `TrainingArguments(optim_target_modules=...)` does not name is not projected.
    """

    rule: str
    keywords: Mapping[str, object] = field(default_factory=dict)
    from_args: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Translation] = field(default_factory=dict)
    values: Mapping[str, object] = field(default_factory=dict)
    targets: bool = False


_DECAYS = "Weight decay is multiplied by the learning rate here."
_COMPENSATED = "What rounding takes is stored in the dtype of the parameters."
_ORDER = "beta1 does not depend on the position of a parameter here."
_ANYPRECISION = {
    "momentum_dtype": _stored("exp_avg"),
    "variance_dtype": _stored("exp_avg_sq"),
    "use_kahan_summation": _rounding("use_kahan_summation", "compensated"),
    "compensation_buffer_dtype": _fixed("compensation_buffer_dtype", "bfloat16", _COMPENSATED),
}
_TORCHAO = {
    "bf16_stochastic_round": _rounding("bf16_stochastic_round", "stochastic"),
    "block_size": _fixed("block_size", 256, "Blocks of 8-bit state have 256 numbers here."),
}
_STABLE = {
    "kahan_sum": _rounding("kahan_sum", "compensated"),
    "decouple_lr": _fixed("decouple_lr", False, _DECAYS),
    "max_lr": _fixed("max_lr", None, _DECAYS),
}
_PROJECTION = {"proj": _fixed("proj", "random", "Directions are chosen by chance here.")}
#: Words of a name that is also a rule's.
WORDS_OF = {"grokadamw": {"gamma": _fixed("gamma", 0, _ORDER)}}
_ADAMW, _ADAMW_8BIT, _ADAMW_32BIT = (Preset("adamw", k, ADAM) for k in ({}, INT8, FLOAT32))
_LION_8BIT, _LION_32BIT = (Preset("lion", k, BETAS) for k in (INT8, FLOAT32))
_ADEMAMIX_8BIT, _ADEMAMIX_32BIT = (Preset("ademamix", k, ADAM) for k in (INT8, FLOAT32))

#: Names that a rule of ours has too (adafactor, adagrad, ademamix, rmsprop, sgd) are that rule, and stand nowhere here.
PRESETS: dict[str, Preset] = {
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused"), _ADAMW),
    **dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"), _ADAMW_8BIT),
    "paged_adamw_32bit": _ADAMW_32BIT,
    "adamw_torch_8bit": Preset("adamw", INT8, ADAM, _TORCHAO),
    "adamw_anyprecision": Preset("adamw", FLOAT32, ADAM, _ANYPRECISION),
    **dict.fromkeys(("lion_8bit", "paged_lion_8bit"), _LION_8BIT),
    **dict.fromkeys(("lion_32bit", "paged_lion_32bit"), _LION_32BIT),
    **dict.fromkeys(("ademamix_8bit", "paged_ademamix_8bit"), _ADEMAMIX_8BIT),
    "paged_ademamix_32bit": _ADEMAMIX_32BIT,
    **dict.fromkeys(("rmsprop_bnb", "rmsprop_bnb_32bit"), Preset("rmsprop", FLOAT32)),
    "rmsprop_bnb_8bit": Preset("rmsprop", INT8),
    "stable_adamw": Preset("stableadamw", {}, ADAM, _STABLE),
    "schedule_free_adamw": Preset("schedulefreeadamw", {}, {**ADAM, "warmup_steps": "warmup_steps"}),
    "schedule_free_radam": Preset("schedulefreeradam", {}, ADAM),
    "schedule_free_sgd": Preset("schedulefreesgd", {}, {"warmup_steps": "warmup_steps"}),
    "galore_adamw": Preset("galore", values=RANK, targets=True),
    "galore_adamw_8bit": Preset("galore", INT8, values=RANK, targets=True),
    "apollo_adamw": Preset("apollo", {}, ADAM, _PROJECTION, RANK, targets=True),
}

#: Which package has what no rule here is, by the beginning of the names.
PACKAGES = {
    "adamw_torch_4bit": "torchao",
    "galore": "galore-torch",
    "apollo": "apollo-torch",
    "lomo": "lomo-optim",
    "adalomo": "lomo-optim",
}


def served() -> dict[str, Preset]:
    """The names of transformers that a rule of ours serves and that are no rule's."""
    known = names()
    return {name: preset for name, preset in PRESETS.items() if preset.rule in known and name not in known}


def unserved(call: str, argument: str, name: str, typed: str) -> ArgumentValueError | None:
    """The error for a name of transformers that no rule here serves; None for others."""
    package = next((package for begin, package in PACKAGES.items() if name.startswith(begin)), None)
    if package is None:
        return None
    worded = f"must be an optimizer of this package; `{name}` is in the package {package}"
    way_out = f'Install {package} and use `TrainingArguments(optim="{name}")` with a plain Trainer.'
    return bad_value(call, argument, worded, typed, way_out)
