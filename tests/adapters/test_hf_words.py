"""Words of other libraries, typed for the Trainer: each is taken, or answered by one that is."""

import inspect
from pathlib import Path

import pytest
from transformers import Adafactor, Trainer, TrainingArguments

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters.adapters.hf.optim_args import read
from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.hf import optim, with_optimizer
from tests.adapters.foreign_words import check_answers, check_installed
from tests.adapters.hf_support import NAMES, arguments

each_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def args(tmp_path: Path) -> TrainingArguments:
    return arguments(tmp_path)


@each_name
def test_every_foreign_word_is_taken_or_answered(name: str, args: TrainingArguments) -> None:
    takes = {*inspect.signature(getattr(adapter, s2.get(name).__name__)).parameters} - {"params"}
    held = {"learning_rate", "params", "name"}  # the first has an error of its own; the others are no hyperparameters
    check_answers(name, takes | held, lambda **given: optim(name, args, **given))
    check_answers(name, takes | held, lambda **given: with_optimizer(Trainer, name, **given))


@each_name
def test_every_foreign_word_in_optim_args_is_taken_or_answered(name: str) -> None:
    cls, fields = getattr(adapter, s2.get(name).__name__), s2.get(name).fields_with()
    options = inspect.signature(cls).parameters.keys() - TORCH.parameters(fields).keys() - {"params"}
    takes = {core if place is not None else host for core, host, place in TORCH.places(fields)} | options
    # A tuple has an error of its own, which names its members.
    check_answers(
        name, takes | TORCH.tuples.keys() | {"learning_rate"}, lambda **given: read("scirs2", name, cls, given)
    )


def test_the_words_of_transformers_are_those_installed() -> None:
    check_installed("transformers", "adafactor", Adafactor.__init__)


@each_name
def test_a_learning_rate_by_any_word_is_left_to_the_arguments(name: str, args: TrainingArguments) -> None:
    for word in ("lr", "learning_rate"):
        with pytest.raises(ValueError, match=rf"{word}=.*TrainingArguments\(learning_rate=0.5\)"):
            optim(name, args, **{word: 0.5})
