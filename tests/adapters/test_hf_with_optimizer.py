"""`with_optimizer`: a Trainer class whose hook chooses the optimizer, and that is otherwise its base."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters.hf import with_optimizer
from tests.adapters.hf_support import NAMES, arguments, gpt2, rows, trainer

pytestmark = pytest.mark.usefixtures("one_thread")
each_name = pytest.mark.parametrize("name", NAMES)


class Criterion(Trainer):
    """A Trainer whose hook is an instance method that adds a learnable weight of the loss, and a trick of its own."""

    def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:
        cls, keywords = super().get_optimizer_cls_and_kwargs(args, model)
        self.scale = torch.nn.Parameter(torch.ones(()))
        return cls, {**keywords, self.word: [{"params": [*model.parameters(), self.scale]}]}

    word = "params"

    def compute_loss(self, *args: Any, **keywords: Any) -> Any:
        return self.scale**2 * super().compute_loss(*args, **keywords)


@each_name
def test_a_subclass_trains_with_the_optimizer(name: str, tmp_path: Path) -> None:
    made = trainer(gpt2(), arguments(tmp_path, weight_decay=0.1), with_optimizer(Trainer, name))
    made.train()
    assert type(made.optimizer.optimizer) is getattr(adapter, s2.get(name).__name__)
    assert [g["weight_decay"] for g in made.optimizer.param_groups] == [0.1, 0.0]


def test_a_subclass_looks_like_its_base() -> None:
    made = with_optimizer(Trainer, "lion")
    assert issubclass(made, Trainer)
    assert inspect.signature(made) == inspect.signature(Trainer)
    assert (made.__doc__, made.__name__) == (Trainer.__doc__, Trainer.__name__)


def test_the_hook_is_static_where_the_base_has_it_so(tmp_path: Path) -> None:
    cls, keywords = with_optimizer(Trainer, "lion").get_optimizer_cls_and_kwargs(arguments(tmp_path))
    assert cls is adapter.Lion
    assert keywords["lr"] == 4e-3


@pytest.mark.parametrize("name", ["lion", "muon"])
@pytest.mark.parametrize("word", ["params", "model", "optimizer_dict"])
def test_parameters_that_the_base_adds_are_trained(name: str, word: str, tmp_path: Path) -> None:
    cls = with_optimizer(type("Spelled", (Criterion,), {"word": word}), name)
    made = trainer(gpt2(), arguments(tmp_path), cls)
    made.train()
    assert made.scale.item() != 1.0


def test_the_decay_split_is_that_of_the_subclass(tmp_path: Path) -> None:
    class OneDecay(Trainer):
        def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
            return ["transformer.wpe.weight"]

    for name in ("lion", "muon"):
        made = trainer(gpt2(), arguments(tmp_path, weight_decay=0.1), with_optimizer(OneDecay, name))
        groups = made.create_optimizer().param_groups
        assert [len(groups[0]["params"]), groups[0]["weight_decay"]] == [1, 0.1]


def test_an_explicit_optimizer_is_kept(tmp_path: Path) -> None:
    model = gpt2()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    made = trainer(model, arguments(tmp_path), with_optimizer(Trainer, "muon"), optimizers=(sgd, None))
    made.train()
    assert made.optimizer.optimizer is sgd
    assert "param_names" not in sgd.param_groups[0]


def test_weight_decay_among_the_hyperparameters_is_refused(tmp_path: Path) -> None:
    made = trainer(gpt2(), arguments(tmp_path), with_optimizer(Trainer, "lion", weight_decay=0.5))
    with pytest.raises(ValueError, match=r"weight_decay=.*0\.5.*TrainingArguments\(weight_decay=0\.5\)"):
        made.train()


@pytest.mark.parametrize("wrong", [None, "Trainer", dict, Trainer.train])
def test_what_is_no_trainer_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"`with_optimizer\(trainer=\.\.\.\)` must be `transformers.Trainer`"):
        with_optimizer(wrong, "lion")


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("lino", {}, "Did you mean `lion`"),
        ("lion", {"beta": 0.9}, "beta"),
        ("lion", {"betas": (2.0, 0.9)}, r"betas\[0\]"),
    ],
)
def test_bad_hyperparameters_are_refused_before_there_is_a_trainer(name: str, hyper: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        with_optimizer(Trainer, name, **hyper)


def test_a_model_made_anew_gets_a_new_optimizer_and_the_same_run(tmp_path: Path) -> None:
    made = trainer(
        None,
        arguments(tmp_path),
        with_optimizer(Trainer, "adamw"),
        model_init=lambda: gpt2(),
        train_dataset=rows(gpt2()),
    )
    ends, optimizers = [], []
    for _ in range(2):
        made.train()
        ends.append([p.detach().clone() for p in made.model.parameters()])
        optimizers.append(made.optimizer)
    assert optimizers[0] is not optimizers[1]
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
