"""Schedule-free in a Trainer: what is evaluated, saved and left at the end is the average; what is trained goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback

from scirs2_adapters.hf import optim, with_optimizer
from tests.adapters.hf_support import arguments, gpt2, rows, same_bits, trainer, weights

pytestmark = pytest.mark.usefixtures("one_thread")
SAVING = {"save_strategy": "steps", "save_steps": 2, "weight_decay": 0.1}
EVALUATING = {"eval_strategy": "steps", "eval_steps": 1}


def run(folder: Path, resume: int | None = None, pair: bool = False, **changes: Any) -> Trainer:
    args = arguments(folder, **{**SAVING, **changes})
    given = {"optimizer_cls_and_kwargs": optim("schedule_free_adamw", args)} if pair else {}
    cls = Trainer if pair else with_optimizer(Trainer, "schedule_free_adamw")
    model = gpt2()
    made = trainer(model, args, cls, train_dataset=rows(model), eval_dataset=rows(model, 4), **given)
    made.train(resume_from_checkpoint=str(folder / f"checkpoint-{resume}") if resume else None)
    return made


def saved(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoint-{step}" / "model.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a.keys() | b.keys() - {"lm_head.weight"})


@pytest.mark.parametrize("pair", [False, True])
def test_what_is_saved_is_what_is_evaluated_and_evaluating_changes_nothing(pair: bool, tmp_path: Path) -> None:
    plain, watched = run(tmp_path / "a", pair=pair), run(tmp_path / "b", pair=pair, **EVALUATING)
    silent = run(tmp_path / "c", pair=pair, save_strategy="no")
    assert same_bits(plain.model, watched.model)
    assert same_bits(plain.model, silent.model)
    assert all(equal(saved(tmp_path / "a", step), saved(tmp_path / "b", step)) for step in (2, 4))
    average = weights(plain.model)
    assert equal(saved(tmp_path / "a", 4), average)
    plain.optimizer.train()
    assert not equal(average, weights(plain.model))


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, resumed = run(tmp_path), run(tmp_path, resume=2)
    assert same_bits(whole.model, resumed.model)
    for made in (whole, resumed):
        made.optimizer.train()
    assert same_bits(whole.model, resumed.model)


def test_the_best_model_is_left_as_it_was_evaluated(tmp_path: Path) -> None:
    made = run(tmp_path, **{**EVALUATING, "eval_steps": 2}, load_best_model_at_end=True, learning_rate=10.0)
    best = int(made.state.best_model_checkpoint.rpartition("-")[2])
    assert equal(saved(tmp_path, best), weights(made.model))
    # Loss at the end is that of the saved weights, and not of the last ones.
    assert made.evaluate()["eval_loss"] == pytest.approx(made.state.best_metric)


class Seen(TrainerCallback):
    """The weights that the first step of a run is taken from."""

    found: dict[str, torch.Tensor] | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.found = self.found or weights(model)


def test_training_again_goes_on_from_what_was_trained(tmp_path: Path) -> None:
    made, seen = run(tmp_path, save_strategy="no"), Seen()
    made.optimizer.train()
    trained = weights(made.model)
    made.optimizer.eval()
    made.add_callback(seen)
    made.train()
    assert seen.found is not None
    assert equal(trained, seen.found)
