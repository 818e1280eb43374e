"""Words of other libraries, typed in torch: each is taken, or answered by one that is."""

import inspect

import pytest
import torch

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.core import with_closure
from scirs2_adapters.core.synonyms import meant
from tests.adapters.foreign_words import WORDS, check_answers, check_installed

each_name = pytest.mark.parametrize("name", [*s2.names(), *with_closure()])


@each_name
def test_every_foreign_word_is_taken_or_answered(name: str) -> None:
    cls = getattr(adapter, s2.get(name).__name__)
    p = [torch.ones(2, requires_grad=True)]
    check_answers(name, inspect.signature(cls).parameters, lambda **keywords: cls(p, **keywords))


@pytest.mark.parametrize("name", WORDS["torch"])
def test_the_words_of_torch_are_those_installed(name: str) -> None:
    check_installed("torch", name, getattr(torch.optim, s2.get(name).__name__).__init__)


@each_name
def test_the_core_knows_what_each_word_of_this_framework_means(name: str) -> None:
    fields = s2.get(name).fields_with()
    for core, host, _ in TORCH.places(fields):
        members = TORCH.tuples_of(fields).get(host, (core,)) if host != core else (core,)
        answer = meant(host, name, {k: k for k in fields})
        assert host in fields or all(f"`{m}`" in answer for m in members)
