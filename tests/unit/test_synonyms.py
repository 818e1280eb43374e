"""What other libraries call an argument or an optimizer, answered in our words."""

import inspect

import pytest

import scirs2_adapters as s2
from scirs2_adapters.core import with_closure
from scirs2_adapters.core.synonyms import meant, similar_name
from scirs2_adapters.core.synonyms.tables import NAMES, SENTENCES, SENTENCES_OF
from tests.adapters.foreign_words import check_answers

ALL = [*s2.names(), *with_closure()]


@pytest.mark.parametrize("name", ALL)
def test_every_foreign_word_is_taken_or_answered(name: str) -> None:
    rule = s2.get(name)
    takes = {*inspect.signature(rule).parameters, *rule.fields_with()}
    check_answers(name, takes, rule)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("lr", " Did you mean `learning_rate`?"),
        ("LR", " Did you mean `learning_rate`?"),
        ("betas", " Did you mean `beta1` and `beta2`?"),
        ("lerning_rate", " Did you mean `learning_rate`?"),
        ("zzz", ""),
    ],
)
def test_a_word_is_answered_by_meaning_before_spelling(word: str, answer: str) -> None:
    spelled = {k: k for k in s2.get("adamw").fields}
    assert meant(word, "adamw", spelled, spelled) == answer


def test_words_that_are_one_argument_are_named_once() -> None:
    assert meant("b1", "adam", {"beta1": "betas", "beta2": "betas"}) == " Did you mean `betas`?"


def test_a_word_that_means_something_else_is_explained() -> None:
    assert "other sign" in meant("decay_rate", "adafactor", {"beta2_decay": "beta2_decay"})


def test_every_sentence_is_one_and_of_an_optimizer_there_is() -> None:
    said = [*SENTENCES.values(), *(text for words in SENTENCES_OF.values() for text in words.values())]
    assert [text for text in said if not (text[0].isupper() and text.endswith("."))] == []
    assert SENTENCES_OF.keys() <= set(ALL)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("AdamW8bit", "adamw"),
        ("sgdm", "sgd"),
        ("adamwscale", "adamw"),
        ("fusedadam", "adam"),
        ("FusedLAMB", "lamb"),
        ("adamw_torch", "adamw"),
        ("adamw_torch_fused", "adamw"),
        ("paged_lion_8bit", "lion"),
        ("rmsprop_bnb_8bit", "rmsprop"),
        ("DeepSpeedCPUAdam", "adam"),
        ("NesterovMomentum", "sgd"),
        ("lino", "lion"),
    ],
)
def test_an_optimizer_is_found_by_other_libraries_names(name: str, suggestion: str) -> None:
    assert similar_name(name, ALL) == f" Did you mean `{suggestion}`?"
    with pytest.raises(ValueError, match=rf"Did you mean `{suggestion}`\?"):
        s2.get(name)


def test_a_name_like_none_gets_no_guess() -> None:
    assert similar_name("zzz", ALL) == ""


def test_names_of_others_stand_for_optimizers_there_are() -> None:
    assert set(NAMES.values()) <= set(ALL)
    assert not NAMES.keys() & set(ALL)
