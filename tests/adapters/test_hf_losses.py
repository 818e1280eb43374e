"""What trains besides the model: a loss with parameters of its own, and groups that a Trainer adds."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

import scirs2_adapters.torch as adapter
from scirs2_adapters.core import get
from scirs2_adapters.hf import optim, register, with_optimizer
from tests.adapters.hf_support import NAMES, arguments, gpt2, trainer, weights
from tests.conformance.options import still_steps

pytestmark = pytest.mark.usefixtures("one_thread")


def run_of(name: str, folder: Path, **changes: Any) -> TrainingArguments:
    """Arguments under which every optimizer moves: one that learns the size of its steps is used at the rate 1."""
    rate = 1.0 if get(name).first_step else max(4e-3, get(name)().learning_rate)
    return arguments(folder, weight_decay=0.1, learning_rate=rate, max_steps=2, **changes)


def by_pair(name: str, folder: Path, cls: type[Trainer] = Trainer, **keywords: Any) -> Trainer:
    args = run_of(name, folder)
    return trainer(gpt2(), args, cls, optimizer_cls_and_kwargs=optim(name, args), **keywords)


def by_class(name: str, folder: Path, cls: type[Trainer] = Trainer, **keywords: Any) -> Trainer:
    return trainer(gpt2(), run_of(name, folder), with_optimizer(cls, name), **keywords)


def by_name(name: str, folder: Path, cls: type[Trainer] = Trainer, **keywords: Any) -> Trainer:
    register()
    return trainer(gpt2(), run_of(name, folder, optim=f"scirs2_{name}"), cls, **keywords)


WAYS = [by_pair, by_class, by_name]
each_way = pytest.mark.parametrize("way", WAYS)
#: Every optimizer, each by one of the ways in turn: how parameters get into groups does not depend on the rule.
each_by_one_way = pytest.mark.parametrize(("way", "name"), [(WAYS[i % 3], name) for i, name in enumerate(NAMES)])
Way = Callable[..., Trainer]


class Loss(torch.nn.Module):
    """A cross entropy with a learnable matrix and offset; notes the gradients that it finds before a step."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Linear(16, 16)
        self.frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.left: list[bool] = []

    def forward(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        self.left.append(any(p.grad is not None for p in self.parameters()))
        logits = self.mix(outputs.logits).flatten(0, 1) * self.frozen
        return torch.nn.functional.cross_entropy(logits, labels.flatten())


class Chosen(Trainer):
    """A Trainer whose hook adds a learnable weight of the loss, as sentence-transformers' does."""

    def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:
        cls, keywords = super().get_optimizer_cls_and_kwargs(args, model)
        self.scale, self.left = torch.nn.Parameter(torch.ones(())), []
        return cls, {**keywords, "optimizer_dict": [{"params": [*model.parameters(), self.scale]}]}

    def compute_loss(self, *args: Any, **keywords: Any) -> Any:
        self.left.append(self.scale.grad is not None)
        return self.scale**2 * super().compute_loss(*args, **keywords)


@each_by_one_way
def test_a_loss_with_parameters_trains(way: Way, name: str, tmp_path: Path) -> None:
    loss = Loss()
    before = weights(loss)
    made = way(name, tmp_path, compute_loss_func=loss)
    made.train()
    moved = {n for n, p in loss.named_parameters() if not torch.equal(before[n], p)}
    assert moved == ({"mix.weight", "mix.bias"} if still_steps(name) < 2 else set())
    groups = made.optimizer.param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups[2:]] == [(1, 0.1), (1, 0.0)]
    assert loss.left == [False] * 2


def called(loss: Loss) -> Any:
    return loss.forward


def partial(loss: Loss) -> Any:
    return functools.partial(loss, num_items_in_batch=None)


@pytest.mark.parametrize("form", [called, partial])
def test_the_module_behind_a_loss_function_is_seen(form: Any, tmp_path: Path) -> None:
    loss = Loss()
    made = by_pair("lion", tmp_path, compute_loss_func=form(loss))
    assert len(made.create_optimizer().param_groups) == 4


@each_way
def test_a_plain_loss_function_adds_nothing(way: Way, tmp_path: Path) -> None:
    made = way("lion", tmp_path, compute_loss_func=lambda outputs, labels, num_items_in_batch: outputs.loss)
    assert len(made.create_optimizer().param_groups) == 2


def test_a_loss_that_holds_the_model_adds_only_its_own(tmp_path: Path) -> None:
    loss = Loss()
    made = by_pair("lion", tmp_path, compute_loss_func=loss)
    loss.model = made.model
    groups = made.create_optimizer().param_groups
    assert [len(group["params"]) for group in groups[2:]] == [1, 1]


def test_a_loss_with_parameters_is_refused_where_nothing_averages_its_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = by_pair("lion", tmp_path, compute_loss_func=Loss())
    monkeypatch.setattr(type(made.args), "world_size", property(lambda self: 2))
    with pytest.raises(ValueError, match=r"compute_loss_func=.*several processes.*mix\.weight"):
        made.create_optimizer()


@each_by_one_way
def test_parameters_that_a_hook_chooses_train(way: Way, name: str, tmp_path: Path) -> None:
    made = way(name, tmp_path, Chosen)
    made.train()
    assert still_steps(name) > 1 or made.scale.item() != 1.0
    assert made.left == [False] * 2


class Adds(Trainer):
    """A Trainer that lets the base make the optimizer and adds a group, of one parameter or of several."""

    def create_optimizer(self, *args: Any) -> Any:
        made = super().create_optimizer(*args)
        self.added = [torch.nn.Parameter(torch.arange(1.0, 7.0).reshape(3, 2)), torch.nn.Parameter(torch.ones(2))]
        made.add_param_group({"params": iter(self.added), "weight_decay": 0.0})
        self.one = torch.nn.Parameter(torch.ones(2))
        made.add_param_group({"params": self.one})
        return made

    def compute_loss(self, *args: Any, **keywords: Any) -> Any:
        return sum((p**2).sum() for p in [*self.added, self.one]) + super().compute_loss(*args, **keywords)


@each_by_one_way
def test_a_trainer_may_add_groups(way: Way, name: str, tmp_path: Path) -> None:
    made = way(name, tmp_path, Adds)
    made.train()
    starts = torch.arange(1.0, 7.0).reshape(3, 2), torch.ones(2), torch.ones(2)
    assert len(made.optimizer.param_groups) == 4
    moved = [not torch.equal(p, x) for p, x in zip([*made.added, made.one], starts, strict=True)]
    assert still_steps(name) > 1 or all(moved)


def test_a_parameter_that_is_already_there_is_still_refused(tmp_path: Path) -> None:
    made = by_pair("muon", tmp_path)
    optimizer = made.create_optimizer()
    known = optimizer.param_groups[0]["params"][0]
    with pytest.raises(ValueError, match="appear in more than one parameter group"):
        optimizer.add_param_group({"params": [known]})
    with pytest.raises(TypeError, match="ordered collections"):
        optimizer.add_param_group({"params": {torch.ones(2, requires_grad=True)}})


class Replaces(Trainer):
    """A Trainer that makes an optimizer of its own."""

    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        return self.optimizer


class Discards(Trainer):
    """A Trainer that asks the base for its optimizer and then takes another."""

    def create_optimizer(self, model: Any = None) -> Any:
        super().create_optimizer()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)


class Wraps(Trainer):
    """A Trainer that puts the optimizer into another object."""

    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = Around(super().create_optimizer())
        return self.optimizer


class Around(torch.optim.Optimizer):
    """An optimizer that has another one step."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner
        super().__init__([p for group in inner.param_groups for p in group["params"]], {"lr": 0.1})

    def step(self, closure: Any = None) -> Any:
        return self.inner.step(closure)


@pytest.mark.parametrize(("cls", "name"), [((Replaces, Discards)[i % 2], name) for i, name in enumerate(NAMES)])
def test_a_trainer_that_makes_an_optimizer_of_its_own_is_refused(cls: Any, name: str, tmp_path: Path) -> None:
    made = by_class(name, tmp_path, cls)
    before = weights(made.model)
    words = rf"`{cls.__name__}.create_optimizer` makes its own.*Received: 'SGD'.*super\(\).create_optimizer\(\)"
    with pytest.raises(ValueError, match=words):
        made.train()
    assert made.optimizer is None
    assert all(torch.equal(before[n], p) for n, p in made.model.named_parameters())


def test_an_optimizer_around_ours_is_ours(tmp_path: Path) -> None:
    made = by_class("lion", tmp_path, Wraps)
    made.train()
    assert type(made.optimizer.optimizer.inner) is getattr(adapter, get("lion").__name__)


def test_an_explicit_pair_on_such_a_class_is_kept(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    made = trainer(gpt2(), args, with_optimizer(Trainer, "muon"), optimizer_cls_and_kwargs=optim("lion", args))
    made.train()
    assert type(made.optimizer.optimizer) is adapter.Lion
