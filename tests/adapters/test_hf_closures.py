"""The Trainer calls no closure, so optimizers that need one are refused at the door."""

import pytest
from transformers import Trainer, TrainingArguments

from scirs2_adapters.core import with_closure
from scirs2_adapters.hf import optim, with_optimizer

WORDS = r"must be an optimizer that needs no closure.* scirs2_adapters\.torch\.\w+ "


@pytest.mark.parametrize("name", with_closure())
def test_an_optimizer_that_needs_a_closure_is_refused_before_there_is_a_trainer(name: str) -> None:
    with pytest.raises(ValueError, match=WORDS):
        with_optimizer(Trainer, name)
    with pytest.raises(ValueError, match=WORDS):
        optim(name, TrainingArguments(use_cpu=True))
