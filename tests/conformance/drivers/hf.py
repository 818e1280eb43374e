"""What the Trainer does with the pair it is given: the class called over parameters with the keywords.

Learning rate and weight decay come from the arguments of a run, everything else from the call. Optimizers that the
Trainer has by the same name take its betas and epsilon besides, of other defaults.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer as TorchOptimizer
from transformers import TrainingArguments

import scirs2_adapters
from scirs2_adapters.hf import optim

from . import torch

#: What the Trainer calls options of some rules.
WORDS = {"adam_beta1": "beta1", "adam_beta2": "beta2", "adam_epsilon": "eps"}


class Optimizer(torch.Optimizer):
    """A rule in the Trainer."""

    def made(self, rule: str, arguments: dict[str, Any]) -> TorchOptimizer:
        fields = scirs2_adapters.get(rule).fields_with(arguments.get("base"))
        run = {"learning_rate": arguments.pop("lr", None), "weight_decay": arguments.pop("weight_decay", None)}
        run = {k: fields[k].default if v is None else v for k, v in run.items()}
        run |= {word: fields[name].default for word, name in WORDS.items() if name in fields}
        args = TrainingArguments(output_dir="unused", report_to=[], use_cpu=True, **run)
        cls, keywords = optim(rule, args, **arguments)
        made: TorchOptimizer = cls(self.named, **keywords)
        return made
