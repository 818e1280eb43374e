"""Words of other libraries, typed in Keras: each is taken, or answered by one that is."""

import inspect

import keras
import pytest

import scirs2_adapters as s2
import scirs2_adapters.tf as adapter
from scirs2_adapters.adapters.tf.argument_names import KERAS, spelling
from scirs2_adapters.core.synonyms import meant
from tests.adapters.foreign_words import WORDS, check_answers, check_installed

each_name = pytest.mark.parametrize("name", s2.names())


@each_name
def test_every_foreign_word_is_taken_or_answered(name: str) -> None:
    cls = getattr(adapter, spelling(s2.get(name)))
    check_answers(name, inspect.signature(cls).parameters, cls)


@pytest.mark.parametrize("name", WORDS["keras"])
def test_the_words_of_keras_are_those_installed(name: str) -> None:
    check_installed("keras", name, getattr(keras.optimizers, spelling(s2.get(name))).__init__)


@each_name
def test_the_core_knows_what_each_word_of_this_framework_means(name: str) -> None:
    fields = s2.get(name).fields_with()
    for core, host, _ in KERAS.places(fields):
        if core == "adamw_eps":  # of the two that `epsilon` may mean, the core has another by default
            continue
        assert host in fields or f"Did you mean `{core}`?" in meant(host, name, {k: k for k in fields})
