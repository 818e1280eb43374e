"""Words of other libraries, typed in JAX: each is taken, or answered by one that is."""

import inspect

import pytest

import scirs2_adapters as s2
import scirs2_adapters.jax as adapter
from scirs2_adapters.adapters.jax.argument_names import argument_names
from scirs2_adapters.core.synonyms import meant
from tests.adapters.foreign_words import WORDS, check_answers, check_installed
from tests.adapters.jax_support import theirs

each_name = pytest.mark.parametrize("name", s2.names())


@each_name
def test_every_foreign_word_is_taken_or_answered(name: str) -> None:
    factory = getattr(adapter, name)
    check_answers(name, inspect.signature(factory).parameters, factory)


@pytest.mark.parametrize("name", WORDS["optax"])
def test_the_words_of_optax_are_those_installed(name: str) -> None:
    check_installed("optax", name, theirs(name))


@each_name
def test_the_core_knows_what_each_word_of_this_framework_means(name: str) -> None:
    fields, words = s2.get(name).fields_with(), argument_names(s2.get(name))
    for core, host, _ in words.places(fields):
        members = words.tuples_of(fields).get(host, (core,)) if host != core else (core,)
        answer = meant(host, name, {k: k for k in fields})
        assert host in fields or all(f"`{m}`" in answer for m in members)
