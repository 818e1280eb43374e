"""What is done between steps in a Trainer's run with our optimizers, as callbacks of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import Trainer, TrainerCallback, TrainerControl


class ClearGradients(TrainerCallback):
    """Clears, after each step, the gradients that the Trainer does not: it clears those of the model alone."""

    def __init__(self, params: Sequence[torch.Tensor]) -> None:
        self.params = params

    def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
        for p in self.params:
            p.grad = None


class EvaluatedWeights(TrainerCallback):
    """Puts the weights to evaluate into the model before it is saved and when training ends.

    The Trainer calls `optimizer.eval()` when it evaluates and `optimizer.train()` when it trains, and saves whichever
    weights are there.
    """

    def __init__(self, _: bool) -> None: ...

    def on_step_end(self, args: object, state: object, control: TrainerControl, **objects: object) -> None:
        if control.should_save or control.should_training_stop:
            self.on_epoch_end(args, state, control, **objects)

    def on_epoch_end(self, args: object, state: object, control: object, **objects: object) -> None:
        objects["optimizer"].eval()  # type: ignore[attr-defined]


def replace_callback(trainer: Trainer, kind: type[TrainerCallback], needed: object) -> None:
    """Give the Trainer a callback of this class where it is needed, in place of an earlier one."""
    trainer.pop_callback(kind)
    if needed:
        trainer.add_callback(kind(needed))
