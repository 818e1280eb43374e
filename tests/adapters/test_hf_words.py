"""Words of other libraries, typed for the Trainer: each is taken, or answered by one that is."""

import inspect
from pathlib import Path

import pytest
from transformers import Adafactor, Trainer, TrainingArguments

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters.adapters.hf.optim_args import pairs, read
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
    check_answers(name, takes | held, lambda **keywords: optim(name, args, **keywords))
    check_answers(name, takes | held, lambda **keywords: with_optimizer(Trainer, name, **keywords))


@each_name
def test_every_foreign_word_in_optim_args_is_taken_or_answered(name: str) -> None:
    cls, fields = getattr(adapter, s2.get(name).__name__), s2.get(name).fields_with()
    options = inspect.signature(cls).parameters.keys() - TORCH.parameters(fields).keys() - {"params"}
    takes = {core if place is not None else host for core, host, place in TORCH.places(fields)} | options
    # A tuple has an error of its own, which names its members.
    check_answers(
        name, takes | TORCH.tuples.keys() | {"learning_rate"}, lambda **keywords: read("scirs2", name, cls, keywords)
    )


@each_name
def test_a_tuple_is_written_in_four_ways_and_once(name: str) -> None:
    """With parentheses, brackets or neither, or as its members; and not as a tuple and a member too."""
    rule = s2.get(name)
    cls, fields = getattr(adapter, rule.__name__), rule.fields_with()

    def values(text: str) -> object:
        return read("scirs2", name, cls, pairs(text)).values

    for word, members in TORCH.tuples_of(fields).items():
        each = [f"{getattr(rule(), member)}" for member in members]
        joined = ",".join(each)
        by_member = [f"{member}={value}" for member, value in zip(members, each, strict=True)]
        expected = values(",".join(by_member))
        assert set(expected) == set(members)
        assert all(values(f"{word}={text}") == expected for text in (joined, f"({joined})", f"[{joined}]"))
        for text in (f"{word}=({joined}),{by_member[-1]}", f"{by_member[0]},{word}=({joined})"):
            with pytest.raises(ValueError, match=r"must have one value of (" + "|".join(members) + ")"):
                values(text)


def test_the_words_of_transformers_are_those_installed() -> None:
    check_installed("transformers", "adafactor", Adafactor.__init__)


@each_name
def test_a_learning_rate_by_any_word_is_left_to_the_arguments(name: str, args: TrainingArguments) -> None:
    for word in ("lr", "learning_rate"):
        with pytest.raises(ValueError, match=rf"{word}=.*TrainingArguments\(learning_rate=0.5\)"):
            optim(name, args, **{word: 0.5})
