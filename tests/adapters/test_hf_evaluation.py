"""Schedule-free in a Trainer: what is evaluated, saved and left at the end is the average; what is trained goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback

import scirs2_adapters.torch as adapter
from scirs2_adapters.core import get
from scirs2_adapters.hf import register, with_optimizer
from tests.adapters.hf_support import NAMES, arguments, gpt2, rows, same_bits, trainer, weights

pytestmark = pytest.mark.usefixtures("one_thread")
SAVING = {"save_strategy": "steps", "save_steps": 2, "weight_decay": 0.1}
EVALUATING = {"eval_strategy": "steps", "eval_steps": 1}


def run(folder: Path, resume: int | None = None, name: str = "schedule_free_adamw", **changes: Any) -> Trainer:
    args = arguments(folder, **{**SAVING, **changes})
    model = gpt2()
    cls = with_optimizer(Trainer, name)
    made = trainer(model, args, cls, train_dataset=rows(model), eval_dataset=rows(model, 4))
    made.train(resume_from_checkpoint=str(folder / f"checkpoint-{resume}") if resume else None)
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path, dict[str, torch.Tensor]]:
    """A run that saves and does not evaluate, its folder, and the weights it leaves."""
    folder, threads = tmp_path_factory.mktemp("plain"), torch.get_num_threads()
    torch.set_num_threads(1)
    made = run(folder)
    torch.set_num_threads(threads)
    return made, folder, weights(made.model)


def saved(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoint-{step}" / "model.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a.keys() | b.keys() - {"lm_head.weight"})


Plain = tuple[Trainer, Path, dict[str, torch.Tensor]]


def test_what_is_saved_is_what_is_evaluated_and_evaluating_changes_nothing(plain: Plain, tmp_path: Path) -> None:
    made, folder, average = plain
    watched = run(tmp_path, **EVALUATING)
    assert equal(average, weights(watched.model))
    assert all(equal(saved(folder, step), saved(tmp_path, step)) for step in (2, 4))
    assert equal(saved(folder, 4), average)
    made.optimizer.train()
    assert not equal(average, weights(made.model))


def test_a_registered_name_saves_and_leaves_the_same(plain: Plain, tmp_path: Path) -> None:
    register()
    model = gpt2()
    made = trainer(model, arguments(tmp_path, **SAVING, optim="scirs2_schedule_free_adamw"))
    made.train()
    assert equal(plain[2], weights(model))
    assert equal(saved(tmp_path, 4), plain[2])


def test_a_resumed_run_ends_with_the_same_bits(plain: Plain) -> None:
    whole, folder, average = plain
    resumed = run(folder, resume=2)
    assert equal(average, weights(resumed.model))
    for made in (whole, resumed):
        made.optimizer.train()
    assert same_bits(whole.model, resumed.model)


AVERAGING = [name for name in NAMES if hasattr(getattr(adapter, get(name).__name__), "eval")]
AVERAGING.remove("schedulefreeadamw")  # whose tests are those above


@pytest.mark.parametrize("name", AVERAGING)
def test_every_optimizer_that_averages_saves_and_leaves_the_average(name: str, tmp_path: Path) -> None:
    # As many steps as the slowest to begin needs.
    made = run(tmp_path, name=name, learning_rate=1e-2, max_steps=8, save_steps=8, lr_scheduler_type="constant")
    left = weights(made.model)
    assert equal(saved(tmp_path, 8), left)
    made.optimizer.train()
    assert not equal(weights(made.model), left)


def test_the_best_model_is_left_as_it_was_evaluated(tmp_path: Path) -> None:
    made = run(tmp_path, **{**EVALUATING, "eval_steps": 2}, load_best_model_at_end=True, learning_rate=10.0)
    best = int(made.state.best_model_checkpoint.rpartition("-")[2])
    assert equal(saved(tmp_path, best), weights(made.model))
    # Loss at the end is that of the saved weights, and not of the last ones.
    assert made.evaluate()["eval_loss"] == pytest.approx(made.state.best_metric)


class Seen(TrainerCallback):
    """The weights that the first step of a run is taken from."""

    first: dict[str, torch.Tensor] | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.first = self.first or weights(model)


def test_training_again_goes_on_from_what_was_trained(plain: Plain, tmp_path: Path) -> None:
    made, seen = run(tmp_path, save_strategy="no"), Seen()
    assert equal(plain[2], weights(made.model))  # saving has changed nothing
    made.optimizer.train()
    trained = weights(made.model)
    made.optimizer.eval()
    made.add_callback(seen)
    made.train()
    assert seen.first is not None
    assert equal(trained, seen.first)
