"""The arguments of a run are those that hold when the Trainer makes its optimizer, by all three ways in."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import HPSearchBackend

from scirs2_adapters.hf import optim, register, with_optimizer
from tests.adapters.hf_support import NAMES, arguments, gpt2, rows, trainer

pytestmark = pytest.mark.usefixtures("one_thread")
each_name = pytest.mark.parametrize("name", NAMES)
CHANGED = {"learning_rate": 9e-3, "weight_decay": 0.07, "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6}


def by_pair(name: str, folder: Path, **keywords: Any) -> Trainer:
    args = arguments(folder)
    return trainer(gpt2(), args, optimizer_cls_and_kwargs=optim(name, args), **keywords)


def by_class(name: str, folder: Path, **keywords: Any) -> Trainer:
    return trainer(gpt2(), arguments(folder), with_optimizer(Trainer, name), **keywords)


def by_name(name: str, folder: Path, **keywords: Any) -> Trainer:
    register()
    return trainer(gpt2(), arguments(folder, optim=f"scirs2_{name}"), **keywords)


each_way = pytest.mark.parametrize("way", [by_pair, by_class, by_name])
Way = Callable[..., Trainer]


@each_name
@each_way
def test_arguments_that_change_before_training_are_followed(way: Way, name: str, tmp_path: Path) -> None:
    made = way(name, tmp_path)
    for word, value in CHANGED.items():
        setattr(made.args, word, value)
    groups = made.create_optimizer().param_groups
    assert [group["lr"] for group in groups] == [9e-3] * 2
    assert [group["weight_decay"] for group in groups] == [0.07, 0.0]
    assert groups[0].get("betas") == (0.8, 0.95) or name not in ("adam", "adamw")
    assert groups[0].get("eps") == 1e-6 or name not in ("adam", "adamw")


@each_way
def test_each_trial_of_a_search_has_its_own_learning_rate(way: Way, tmp_path: Path) -> None:
    made = way("lion", tmp_path)
    made.model_init = lambda: gpt2()
    made.hp_search_backend = HPSearchBackend.OPTUNA
    made.hp_space = lambda trial: trial.params
    rates = []
    for rate in (1e-3, 9e-3):
        made._hp_search_setup(SimpleNamespace(params={"learning_rate": rate}))
        made.train()
        rates.append(made.state.log_history[0]["learning_rate"])
    assert rates == pytest.approx([1e-3, 9e-3])


def copied(args: TrainingArguments, **changes: Any) -> TrainingArguments:
    return dataclasses.replace(args, **changes)


def test_equal_arguments_in_another_object_are_taken(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    made = trainer(gpt2(), copied(args), optimizer_cls_and_kwargs=optim("lion", args))
    assert made.create_optimizer().param_groups[0]["lr"] == args.learning_rate


@each_name
@pytest.mark.parametrize("word", ["learning_rate", "weight_decay"])
def test_other_arguments_than_the_trainers_are_refused(word: str, name: str, tmp_path: Path) -> None:
    args = arguments(tmp_path, **{word: 0.5})
    made = trainer(gpt2(), copied(args, **{word: 0.25}), optimizer_cls_and_kwargs=optim(name, args))
    with pytest.raises(ValueError, match=rf"args=.*arguments of the Trainer, whose `{word}` is 0.25.*{word}=0.5"):
        made.create_optimizer()
    assert made.optimizer is None


def test_a_search_changes_the_trainers_own_arguments_where_it_has_a_copy(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    made = trainer(gpt2(), copied(args), optimizer_cls_and_kwargs=optim("lion", args))
    made.hp_search_backend = HPSearchBackend.OPTUNA
    made.args.learning_rate = 9e-3
    assert made.create_optimizer().param_groups[0]["lr"] == 9e-3


def test_a_value_that_has_become_bad_is_named_as_it_stands_in_the_arguments(tmp_path: Path) -> None:
    made = by_pair("lion", tmp_path)
    made.args.learning_rate = -1.0
    with pytest.raises(ValueError, match=r"`TrainingArguments\(learning_rate=...\)` must be .*Received: -1.0"):
        made.create_optimizer()


def test_what_the_user_changes_in_the_dict_counts(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    cls, keywords = optim("lion", args)
    keywords["betas"] = (0.5, 0.6)
    made = trainer(gpt2(), args, optimizer_cls_and_kwargs=(cls, keywords))
    args.learning_rate = 9e-3
    group = made.create_optimizer().param_groups[0]
    assert (group["betas"], group["lr"]) == ((0.5, 0.6), 9e-3)
    keywords["lr"] = 0.5
    made.optimizer = None
    with pytest.raises(ValueError, match=r"lr=.*Received: 0\.5\..*TrainingArguments\(learning_rate=0\.5\)"):
        made.create_optimizer()


@each_name
def test_the_decay_split_of_a_pair_is_that_of_the_trainers_class(name: str, tmp_path: Path) -> None:
    class OneDecay(Trainer):
        def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
            return ["transformer.wpe.weight"]

    args = arguments(tmp_path, weight_decay=0.1)
    groups = trainer(gpt2(), args, OneDecay, optimizer_cls_and_kwargs=optim(name, args)).create_optimizer().param_groups
    assert [len(groups[0]["params"]), groups[0]["weight_decay"]] == [1, 0.1]


def test_a_pair_serves_a_trainer_that_makes_its_optimizer_by_hand(tmp_path: Path) -> None:
    class ByHand(Trainer):
        def create_optimizer(self, model: Any = None) -> Any:
            cls, keywords = optim("muon", self.args)
            self.optimizer = cls(self.model.parameters(), **keywords)
            return self.optimizer

    model = gpt2()
    made = trainer(model, arguments(tmp_path), ByHand, train_dataset=rows(model))
    made.train()
    kept = {n: set(made.optimizer.state[p]) for n, p in model.named_parameters()}
    assert "momentum_buffer" in kept["transformer.h.0.mlp.c_fc.weight"]
    assert "exp_avg_sq" in kept["transformer.wte.weight"]
