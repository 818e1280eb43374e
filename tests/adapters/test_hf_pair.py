"""`optim(name, args, **hyper)`: where each value comes from, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from scirs2_adapters.core import get
from scirs2_adapters.hf import optim
from tests.adapters.hf_support import NAMES, arguments, gpt2, trainer

pytestmark = pytest.mark.usefixtures("one_thread")
each_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def args(tmp_path: Path) -> TrainingArguments:
    return arguments(tmp_path, weight_decay=0.03)


def optimizer(args: TrainingArguments, name: str, **hyper: Any) -> torch.optim.Optimizer:
    return trainer(gpt2(), args, optimizer_cls_and_kwargs=optim(name, args, **hyper)).create_optimizer()


@each_name
def test_the_learning_rate_is_that_of_the_arguments_in_every_group(name: str, args: TrainingArguments) -> None:
    assert [group["lr"] for group in optimizer(args, name).param_groups] == [args.learning_rate] * 2


@each_name
def test_weight_decay_is_split_as_the_trainer_splits_it(name: str, args: TrainingArguments) -> None:
    model = gpt2()
    made = trainer(model, args, optimizer_cls_and_kwargs=optim(name, args))
    names = {id(p): n for n, p in model.named_parameters()}
    decayed = set(made.get_decay_parameter_names(model)) & set(names.values())
    groups = made.create_optimizer().param_groups
    assert [group["weight_decay"] for group in groups] == [args.weight_decay, 0.0]
    assert {names[id(p)] for p in groups[0]["params"]} == decayed
    assert {names[id(p)] for p in groups[1]["params"]} == set(names.values()) - decayed


@each_name
def test_every_call_gives_a_fresh_dict_and_leaves_the_arguments_alone(name: str, args: TrainingArguments) -> None:
    before = args.to_dict()
    first, second = optim(name, args)[1], optim(name, args)[1]
    assert first == second
    assert first is not second
    assert args.to_dict() == before


@each_name
def test_one_pair_serves_two_trainers(name: str, args: TrainingArguments) -> None:
    pair = optim(name, args)
    kept = dict(pair[1])
    made = [trainer(gpt2(), args, optimizer_cls_and_kwargs=pair).create_optimizer() for _ in range(2)]
    assert made[0] is not made[1]
    assert made[0].param_groups[0]["params"][0] is not made[1].param_groups[0]["params"][0]
    assert pair[1] == kept


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_takes_betas_and_epsilon_from_the_arguments(name: str, tmp_path: Path) -> None:
    args = arguments(tmp_path, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-5)
    group = optimizer(args, name).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.8, 0.95), 1e-5)


def test_other_rules_keep_their_papers_defaults(tmp_path: Path) -> None:
    args = arguments(tmp_path, adam_beta1=0.8, adam_beta2=0.95)
    assert optimizer(args, "lion").param_groups[0]["betas"] == (0.9, 0.99)


def test_explicit_betas_win_over_those_of_the_arguments(args: TrainingArguments) -> None:
    assert optimizer(args, "adamw", betas=(0.5, 0.6)).param_groups[0]["betas"] == (0.5, 0.6)


def test_hyperparameters_are_spelled_as_in_torch(args: TrainingArguments) -> None:
    group = optimizer(args, "sgd", momentum=0.9, nesterov=True).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.9, True)


def test_options_of_the_torch_adapter_are_passed_on(args: TrainingArguments) -> None:
    model = gpt2().to(torch.bfloat16)
    made = trainer(model, args, optimizer_cls_and_kwargs=optim("adamw", args, state_dtype="float32", kernel="traced"))
    made.train()
    state = next(iter(made.optimizer.state.values()))
    assert state["exp_avg"].dtype == torch.float32


MATCHES = [(name, match) for name in NAMES for match in (None, *get(name).matches)]


@pytest.mark.parametrize(("name", "match"), MATCHES)
def test_what_the_trainer_does_not_decay_has_no_decay_of_any_kind(
    name: str, match: str | None, args: TrainingArguments
) -> None:
    """A match may bring a decay of its own for a part of an optimizer, which no argument of the run has asked for."""
    for group in optimizer(args, name, match=match).param_groups:
        others = {k: v for k, v in group.items() if k.endswith("_weight_decay") and not isinstance(v, bool)}
        assert set(others.values()) <= {None}, others


@each_name
@pytest.mark.parametrize(("word", "argument"), [("weight_decay", "weight_decay"), ("lr", "learning_rate")])
def test_what_the_trainer_would_hide_is_refused(name: str, word: str, argument: str, args: TrainingArguments) -> None:
    with pytest.raises(ValueError, match=rf"{word}=.*Received: 0\.5\..*TrainingArguments\({argument}=0\.5\)"):
        optim(name, args, **{word: 0.5})


def test_a_weight_decay_equal_to_that_of_the_arguments_is_no_conflict(args: TrainingArguments) -> None:
    assert optimizer(args, "adamw", weight_decay=0.03).param_groups[0]["weight_decay"] == 0.03


def test_keywords_name_the_decay_for_groups_that_bring_none(args: TrainingArguments) -> None:
    cls, keywords = optim("adamw", args)
    assert cls([torch.zeros(2, requires_grad=True)], **keywords).param_groups[0]["weight_decay"] == 0.03


@pytest.mark.parametrize(
    ("name", "hyper", "error", "message"),
    [
        ("lino", {}, ValueError, r"`optim\(name=...\)` must be .*'lino'. Did you mean `lion`"),
        ("lion_16bit", {}, ValueError, r"'lion_16bit'. Did you mean `lion_8bit`"),
        ("qwertz", {}, ValueError, r"'qwertz'. There are: acprop, .*, paged_adamw_8bit, "),
        (3, {}, TypeError, "Received: 3"),
        ("lion", {"momentun": 0.9}, TypeError, "momentun"),
        ("sgd", {"momentun": 0.9}, TypeError, "momentun.*Did you mean `momentum`"),
        ("lion", {"betas": (1.5, 0.9)}, ValueError, r"betas\[0\].*1\.5"),
        ("lion", {"betas": 0.9}, TypeError, "betas.*0.9"),
        ("lion", {"kernel": "gpu"}, ValueError, "kernel.*gpu"),
        ("adamw", {"weight_decay": "much"}, ValueError, "weight_decay.*much"),
        ("lookahead", {"base": "lino"}, ValueError, "lino"),
    ],
)
def test_bad_hyperparameters_are_refused_at_the_door(
    name: Any, hyper: dict[str, Any], error: type[Exception], message: str, args: TrainingArguments
) -> None:
    with pytest.raises(error, match=message):
        optim(name, args, **hyper)


@pytest.mark.parametrize("wrong", [None, {"learning_rate": 1e-3}, 1e-3, TrainingArguments])
def test_arguments_of_another_type_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"`optim\(args=\.\.\.\)` must be the `TrainingArguments`"):
        optim("lion", wrong)


@pytest.mark.parametrize(
    ("argument", "value"), [("learning_rate", -1.0), ("learning_rate", float("nan")), ("adam_beta1", 1.5)]
)
def test_a_bad_value_in_the_arguments_is_named_as_it_stands_there(argument: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"`TrainingArguments\({argument}=\.\.\.\)` must be .*Received: {value}"):
        optim("adamw", arguments(tmp_path, **{argument: value}))


def test_matrices_are_routed_by_the_names_the_model_gives_them(args: TrainingArguments) -> None:
    model = gpt2()
    made = trainer(model, args, optimizer_cls_and_kwargs=optim("muon", args))
    made.train()
    kept = {n: set(made.optimizer.state[p]) for n, p in model.named_parameters()}
    assert "momentum_buffer" in kept["transformer.h.0.mlp.c_fc.weight"]
    assert "exp_avg_sq" in kept["transformer.wte.weight"]
    assert "exp_avg_sq" in kept["transformer.h.0.mlp.c_fc.bias"]


def test_a_factory_can_be_called_as_a_class(args: TrainingArguments) -> None:
    cls, keywords = optim("muon", args)
    assert isinstance(cls([torch.zeros(2, 2, requires_grad=True)], **keywords), torch.optim.Optimizer)
