"""What the Trainer does with the pair it is given: the class, or factory, called over parameters with the keywords.

Learning rate and weight decay come from the arguments of a run, everything else from the call.
"""

from __future__ import annotations

import torch as framework
from transformers import TrainingArguments

import scirs2_adapters
from scirs2_adapters.adapters.torch.dialect import TORCH
from scirs2_adapters.hf import optim

from ..options import Hyper
from . import torch


class Optimizer(torch.Optimizer):
    """A rule in the Trainer."""

    def made(self, rule: str, hyper: Hyper, path: str) -> framework.optim.Optimizer:
        cls = scirs2_adapters.get(rule)
        fields = cls.fields_with()
        run = {k: hyper.get(k, fields[k].default) for k in ("learning_rate", "weight_decay")}
        args = TrainingArguments(output_dir="unused", report_to=[], use_cpu=True, **run)
        own = {k: v for k, v in torch.complete(cls, hyper).items() if k not in run}
        make, given = optim(rule, args, **TORCH.to_host(own, fields), kernel=path)
        return make(list(self.parameters.items()), **given)
