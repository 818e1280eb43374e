"""The Trainer keeps the loss to itself, so an optimizer whose step depends on it is refused when it is asked for."""

import pytest
from transformers import Trainer, TrainingArguments

from scirs2_adapters.core import get
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.hf import optim, register, with_optimizer

WORDS = r"must be an optimizer whose step does not depend on the loss, which the Trainer does not hand to it"


@pytest.mark.parametrize("name", with_value())
def test_one_that_needs_the_loss_is_refused(name: str) -> None:
    args = TrainingArguments(use_cpu=True)
    for optimizer in (name, get(name)()):
        with pytest.raises(ValueError, match=WORDS):
            with_optimizer(Trainer, optimizer)
        with pytest.raises(ValueError, match=WORDS):
            optim(optimizer, args)
    with pytest.raises(ValueError, match=WORDS):
        optim("lookahead", args, base=name)
    register()
    with pytest.raises(ValueError, match=WORDS):
        TrainingArguments(optim=f"scirs2_{name}", use_cpu=True)
