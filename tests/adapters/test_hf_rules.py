"""An optimizer given as a rule, what can never train in a Trainer, and torch's options, by all three ways in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters.adapters.torch.argument_names import FLAGS, OURS, TORCH, refuse
from scirs2_adapters.core import Rule, with_closure
from scirs2_adapters.core.optimizers.adamw import AdamW
from scirs2_adapters.core.optimizers.lion import Lion
from scirs2_adapters.core.optimizers.lookahead import Lookahead
from scirs2_adapters.core.optimizers.sgd import SGD
from scirs2_adapters.hf import optim, register, with_optimizer
from tests.adapters.hf_support import NAMES, arguments, gpt2, trainer
from tests.conformance.options import other

pytestmark = pytest.mark.usefixtures("one_thread")
each_name = pytest.mark.parametrize("name", NAMES)
Group = dict[str, Any]
Way = Callable[..., Group]


@pytest.fixture
def args(tmp_path: Path) -> TrainingArguments:
    return arguments(tmp_path, weight_decay=0.03)


def model(hyper: dict[str, Any]) -> torch.nn.Module:
    """GPT-2, in 16 bits for an optimizer that keeps what rounding takes."""
    return gpt2().to(torch.bfloat16) if hyper.get("rounding") else gpt2()


def by_pair(optimizer: Any, args: TrainingArguments, **hyper: Any) -> Group:
    made = trainer(model(hyper), args, optimizer_cls_and_kwargs=optim(optimizer, args, **hyper))
    return made.create_optimizer().param_groups[0]


def by_class(optimizer: Any, args: TrainingArguments, **hyper: Any) -> Group:
    return trainer(model(hyper), args, with_optimizer(Trainer, optimizer, **hyper)).create_optimizer().param_groups[0]


def by_name(optimizer: str, args: TrainingArguments, **hyper: Any) -> Group:
    register()
    args.optim, args.optim_args = f"scirs2_{optimizer}", ",".join(f"{k}={v}" for k, v in hyper.items())
    return trainer(model(hyper), args).create_optimizer().param_groups[0]


each_way = pytest.mark.parametrize("way", [by_pair, by_class])


@each_name
@each_way
def test_a_rule_brings_all_but_what_the_arguments_hold(way: Way, name: str, args: TrainingArguments) -> None:
    cls = s2.get(name)
    for key, field in cls.fields.items():
        if key in ("learning_rate", "weight_decay"):
            continue
        try:
            rule = cls(**{key: other(field)})
            refuse(rule)
        except ValueError:  # not without another one, as nesterov without momentum
            continue
        words = TORCH.to_framework({k: getattr(rule, k) for k in rule.fields}, rule.fields)
        words |= {"lr": args.learning_rate, "weight_decay": 0.03}
        group = way(rule, args)
        assert {k: group[k] for k in words} == words


@each_way
def test_a_rule_around_another_keeps_the_inner_ones_values(way: Way, args: TrainingArguments) -> None:
    group = way(Lookahead(SGD(momentum=0.9), sync_period=3), args)
    assert (group["base"], group["momentum"], group["sync_period"]) == ("sgd", 0.9, 3)
    assert (group["lr"], group["weight_decay"]) == (args.learning_rate, 0.03)


@each_way
def test_a_rule_keeps_its_match(way: Way, args: TrainingArguments) -> None:
    assert way(AdamW(match="keras"), args)["match"] == "keras"


@each_way
def test_keywords_come_before_those_of_a_rule(way: Way, args: TrainingArguments) -> None:
    assert way(Lion(beta1=0.5), args, betas=(0.6, 0.7))["betas"] == (0.6, 0.7)


@each_way
def test_the_arguments_hold_where_a_rule_has_its_default(way: Way, tmp_path: Path) -> None:
    args = arguments(tmp_path, adam_beta1=0.8, adam_beta2=0.95)
    assert way(AdamW(beta2=0.5), args)["betas"] == (0.8, 0.5)


@each_name
@each_way
@pytest.mark.parametrize("word", ["learning_rate", "weight_decay"])
def test_a_value_of_a_rule_that_the_arguments_hold_is_refused(
    word: str, way: Way, name: str, args: TrainingArguments
) -> None:
    rule = s2.get(name)(**{word: 0.5})
    with pytest.raises(ValueError, match=rf"\({word}=...\)` must be left to .*Received: 0.5.*\({word}=0.5\)"):
        way(rule, args)


@each_way
def test_a_value_of_a_base_that_the_arguments_hold_is_refused(way: Way, args: TrainingArguments) -> None:
    for asked in ((Lookahead(SGD(learning_rate=0.5)), {}), ("lookahead", {"base": SGD(learning_rate=0.5)})):
        with pytest.raises(ValueError, match=r"`SGD\(learning_rate=...\)` must be left to `args.learning_rate`"):
            way(asked[0], args, **asked[1])


@each_way
def test_the_value_of_the_arguments_may_stand_in_a_rule_too(way: Way, args: TrainingArguments) -> None:
    rule = AdamW(learning_rate=args.learning_rate, weight_decay=args.weight_decay)
    assert way(rule, args)["lr"] == args.learning_rate


@each_way
@pytest.mark.parametrize(("wrong", "way_out"), [(AdamW, '"adamw"'), (adapter.AdamW, '"adamw"'), (dict, ""), (None, "")])
def test_what_is_neither_name_nor_rule_is_refused(wrong: Any, way_out: str, way: Way, args: TrainingArguments) -> None:
    with pytest.raises(TypeError, match=rf"name=...\)` must be the name of an optimizer, or a rule.*{way_out}"):
        way(wrong, args)


@each_way
def test_a_rule_without_a_name_is_refused(way: Way, args: TrainingArguments) -> None:
    class Mine(Rule):
        def update(self, xp: Any, p: Any, g: Any, /) -> Any:
            return g

    with pytest.raises(ValueError, match=r"must be an optimizer with a name .*adamw.*Received: Mine"):
        way(Mine(), args)


UNFIT = [*with_closure(), *(name for name in s2.names() if name not in NAMES)]


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("way", [by_pair, by_class])
@pytest.mark.parametrize("form", [str, lambda name: s2.get(name)()])
def test_what_can_never_train_is_refused_at_the_door(form: Any, way: Way, name: str, args: TrainingArguments) -> None:
    call = "optim" if way is by_pair else "with_optimizer"
    with pytest.raises(ValueError, match=rf"`{call}\(name=...\)` must be an optimizer that .*{name}.*torch\.\w+ in a"):
        way(form(name), args)


@pytest.mark.parametrize("name", UNFIT)
def test_what_can_never_train_is_not_registered(name: str, tmp_path: Path) -> None:
    register()
    with pytest.raises(ValueError, match=r"`TrainingArguments\(optim=...\)` must be an optimizer that "):
        arguments(tmp_path, optim=f"scirs2_{name}")


@pytest.mark.parametrize(("word", "meant"), [("lyon", "lion"), ("adamV_torch", "adamw_torch"), ("adam_8", "adam")])
def test_a_misspelled_name_of_ours_is_answered(word: str, meant: str) -> None:
    register()
    register()
    with pytest.raises(
        ValueError, match=rf"optim=...\)` must be the name .*scirs2_{word}'. Did you mean `scirs2_{meant}`"
    ):
        TrainingArguments(optim=f"scirs2_{word}")


@pytest.mark.parametrize(("word", "meant"), [("AdamW-8bit", "adamw_8bit"), ("stable-adam-w", "stableadamw")])
def test_capitals_and_separators_of_a_name_do_not_count(word: str, meant: str, args: TrainingArguments) -> None:
    register()
    assert TrainingArguments(optim=f"scirs2_{word}", use_cpu=True).optim == f"scirs2_{meant}"
    assert optim(word, args)[1] == optim(meant, args)[1]


def test_a_name_that_is_not_ours_has_the_lists_own_error(tmp_path: Path) -> None:
    register()
    with pytest.raises(ValueError, match="adamv is not a valid OptimizerNames, please select one of"):
        arguments(tmp_path, optim="adamv")


#: A value of each option of the torch adapter that is not its default.
OPTIONS = {**FLAGS, **OURS} | {
    "max_grad_norm": 0.5,
    "state_dtype": "float32",
    "kernel": "traced",
    "match": "torch",
    "skip_nonfinite": True,
    "rounding": "compensated",
    "offload": True,
}
OPTIONS |= dict.fromkeys(FLAGS, True)


@pytest.mark.parametrize("option", [*FLAGS, *OURS])
@pytest.mark.parametrize("way", [by_pair, by_class, by_name])
def test_every_option_of_the_torch_adapter_is_passed_on(way: Way, option: str, args: TrainingArguments) -> None:
    value = OPTIONS[option]
    assert value != {**FLAGS, **OURS}[option]
    assert way("adamw", args, **{option: value})[option] == value
