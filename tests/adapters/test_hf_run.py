"""What a run does: models learn, schedules act, batches may be split, the same seed gives the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

import scirs2_adapters as s2
from scirs2_adapters.hf import optim, with_optimizer
from tests.adapters.hf_support import KINDS, MODELS, arguments, gpt2, rows, same_bits, trainer, weights

pytestmark = pytest.mark.usefixtures("one_thread")
each_kind = pytest.mark.parametrize("name", KINDS)


def run(folder: Path, name: str, seed: int = 0, **changes: Any) -> Trainer:
    args = arguments(folder, **changes)
    made = trainer(gpt2(seed), args, optimizer_cls_and_kwargs=optim(name, args))
    made.train()
    return made


def logged(made: Trainer, key: str) -> list[float]:
    return [row[key] for row in made.state.log_history if key in row]


@each_kind
@pytest.mark.parametrize("kind", MODELS)
def test_a_tiny_model_learns(kind: str, name: str, tmp_path: Path) -> None:
    # A rule that scales its own steps is meant to be used at its default of 1.
    rate = 1.0 if s2.get(name)().learning_rate == 1.0 else 1e-2
    args = arguments(tmp_path, max_steps=24, learning_rate=rate, lr_scheduler_type="constant")
    made = trainer(MODELS[kind](), args, with_optimizer(Trainer, name))
    made.train()
    losses = logged(made, "loss")
    assert sum(losses[-4:]) < sum(losses[:4])


def test_a_linear_schedule_acts_and_is_logged(tmp_path: Path) -> None:
    made = run(tmp_path, "adamw")
    assert logged(made, "learning_rate") == pytest.approx([4e-3, 3e-3, 2e-3, 1e-3])


def test_a_schedule_reaches_every_group(tmp_path: Path) -> None:
    made = run(tmp_path, "lion", lr_scheduler_type="constant_with_warmup", warmup_steps=8)
    assert [group["lr"] for group in made.optimizer.param_groups] == pytest.approx([2e-3, 2e-3])


def test_a_rate_falls_on_a_plateau(tmp_path: Path) -> None:
    plateau = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "threshold": 1e9}}
    args = arguments(tmp_path, **plateau, eval_strategy="steps", eval_steps=1, metric_for_best_model="loss")
    model = gpt2()
    made = trainer(
        model, args, with_optimizer(Trainer, "adamw"), train_dataset=rows(model), eval_dataset=rows(model, 4)
    )
    made.train()
    assert made.optimizer.param_groups[0]["lr"] < args.learning_rate


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_two_batches_of_two_equal_one_of_four(name: str, tmp_path: Path) -> None:
    start, smooth = gpt2(), {"adam_epsilon": 1e-3}
    whole = weights(run(tmp_path, name, **smooth).model)
    split = weights(run(tmp_path, name, per_device_train_batch_size=2, gradient_accumulation_steps=2, **smooth).model)
    path = max((whole[k] - p).abs().max() for k, p in start.named_parameters())
    assert max((whole[k] - split[k]).abs().max() for k in whole) < 1e-4 * path


@each_kind
def test_the_same_seed_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    assert same_bits(run(tmp_path, name).model, run(tmp_path, name).model)


def test_training_again_goes_on_from_the_first(tmp_path: Path) -> None:
    made = run(tmp_path, "adamw")
    before = weights(made.model)
    moment = next(iter(made.optimizer.state.values()))["exp_avg_sq"].clone()
    made.train()
    assert any(not torch.equal(before[k], p) for k, p in made.model.named_parameters())
    steps = {float(state["step"]) for state in made.optimizer.state.values()}
    assert steps == {8.0}
    assert not torch.equal(next(iter(made.optimizer.state.values()))["exp_avg_sq"], moment)


@each_kind
def test_only_what_trains_has_state(name: str, tmp_path: Path) -> None:
    model = gpt2()
    for key, p in model.named_parameters():
        p.requires_grad_("mlp" in key and key.endswith("weight"))
    args = arguments(tmp_path)
    made = trainer(model, args, optimizer_cls_and_kwargs=optim(name, args))
    before = weights(model)
    made.train()
    groups = made.optimizer.param_groups
    assert [len(group["params"]) for group in groups] == [2, 0]
    assert all(p.requires_grad for p in made.optimizer.state)
    assert all(p.requires_grad or torch.equal(before[k], p) for k, p in model.named_parameters())


def test_tied_parameters_are_stepped_once(tmp_path: Path) -> None:
    made = run(tmp_path, "adamw")
    assert made.model.lm_head.weight is made.model.transformer.wte.weight
    listed = [id(p) for group in made.optimizer.param_groups for p in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(made.model.parameters()))
    assert float(made.optimizer.state[made.model.lm_head.weight]["step"]) == 4.0


def test_the_optimizer_is_called_through_accelerate(tmp_path: Path) -> None:
    made = run(tmp_path, "lion", max_grad_norm=0.5)
    assert type(made.optimizer).__name__ == "AcceleratedOptimizer"
    assert isinstance(made.optimizer.optimizer, torch.optim.Optimizer)
