"""GaLore and APOLLO by transformers' names project what `optim_target_modules` names, as transformers reads it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

import scirs2_adapters.torch as adapter
from scirs2_adapters.hf import optim, register, with_optimizer
from tests.adapters.hf_support import MODELS, arguments, bert, gpt2, llama, same_bits, trainer, weights
from tests.adapters.test_hf_presets import TARGETED, their_keywords

pytestmark = pytest.mark.usefixtures("one_thread")
each_name = pytest.mark.parametrize("name", TARGETED)
#: Of a small model.
TEXT = "rank=4,update_proj_gap=2"


def made(way: str, name: str, model: torch.nn.Module, folder: Path, **changes: Any) -> Trainer:
    """A Trainer by one of our ways."""
    if way == "register":
        register()
        return trainer(model, arguments(folder, optim=f"scirs2_{name}", **changes))
    args = arguments(folder, **changes)
    if way == "optim":
        return trainer(model, args, optimizer_cls_and_kwargs=optim(name, args))
    return trainer(model, args, with_optimizer(Trainer, name))


def projected(model: torch.nn.Module, groups: list[dict[str, Any]]) -> dict[str, int]:
    """The names of the parameters that are projected, and their rank."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group["rank"] for group in groups if group.get("rank") for p in group["params"]}


@pytest.mark.parametrize("way", ["optim", "register", "with_optimizer"])
@pytest.mark.parametrize("model", ["bert", "llama"])
@pytest.mark.parametrize(
    "modules", ["all-linear", "all_linear", r".*\.[qk]_proj|.*query", ["attn", "attention", "mlp"]]
)
def test_what_is_projected_is_what_transformers_projects(
    model: str, modules: Any, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, changes = MODELS[model](), {"optim_target_modules": modules, "optim_args": TEXT, "adam_beta2": 0.95}
    for name in ("galore_adamw", "apollo_adamw"):
        theirs = their_keywords(name, tmp_path, monkeypatch, net, **changes)["params"]
        ours = made(way, name, net, tmp_path, weight_decay=0.1, **changes).create_optimizer().param_groups
        expected = projected(net, theirs)
        assert expected
        assert projected(net, ours) == expected
        words = {"rank", "update_proj_gap", "scale", "scale_type", "proj_type", "betas", "eps"} & theirs[1].keys()
        for group in ours:
            if group["rank"]:
                assert {word: group[word] for word in words} == {word: theirs[1][word] for word in words}
        assert {group["weight_decay"] for group in ours} == {0.0, 0.1}
        assert sorted({group["name"].removesuffix(", no decay") for group in ours}) == ["not projected", "projected"]


@each_name
def test_a_run_is_that_of_the_torch_optimizer_with_these_groups(name: str, tmp_path: Path) -> None:
    changes = {"optim_target_modules": ["mlp"], "optim_args": TEXT, "weight_decay": 0.1, "max_grad_norm": 0.0}
    ours, groups = made("optim", name, llama(), tmp_path, **changes), []
    ours.train()
    other = trainer(llama(), arguments(tmp_path, **changes))
    decayed = other.get_decay_parameter_names(other.model)
    for part, p in other.model.named_parameters():
        rank, decay = 4 if "mlp" in part else 0, 0.1 if part in decayed else 0.0
        groups.append({"params": [p], "rank": rank, "weight_decay": decay})
    cls, betas = (adapter.GaLore, {}) if name.startswith("galore") else (adapter.APOLLO, {"eps": 1e-8})
    stored = {"state_dtype": "int8"} if name.endswith("8bit") else {}
    other.optimizer = cls(groups, lr=other.args.learning_rate, update_proj_gap=2, **betas, **stored)
    other.train()
    for a, b in zip(weights(ours.model).values(), weights(other.model).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    changes = {"optim_target_modules": "all-linear", "optim_args": TEXT, "save_strategy": "steps", "save_steps": 2}
    whole = made("register", "galore_adamw", bert(), tmp_path / "a", **changes)
    whole.train()
    again = made("register", "galore_adamw", bert(seed=1), tmp_path / "b", **changes)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert same_bits(whole.model, again.model)


def test_learning_rates_by_pattern_divide_the_groups_further(tmp_path: Path) -> None:
    args = arguments(tmp_path, optim_target_modules=["attn", "mlp"], optim_args=TEXT)
    cls = with_optimizer(Trainer, "galore_adamw", lr_by={"embed": 1e-5, "down_proj": 2e-3})
    groups = trainer(llama(), args, cls).create_optimizer().param_groups
    assert {group["name"]: (group["lr"], group["rank"]) for group in groups} == {
        "projected": (4e-3, 4),
        "not projected": (4e-3, 0),
        "not projected, no decay": (4e-3, 0),
        "projected, down_proj": (2e-3, 4),
        "not projected, embed": (1e-5, 0),
    }
    assert groups[0]["lr"] == args.learning_rate


@pytest.mark.parametrize(
    ("modules", "model", "message"),
    [
        (None, bert, r"optim_target_modules=...\)` must say which linear.*Received: None. Write .*attn"),
        (["attn", 3], bert, r"must say which linear layers.*Received: \['attn', 3\]"),
        (["nothing"], bert, r"must name linear layers.*\['nothing'\]. Its linear layers are named like `bert\."),
        ("all-linear", gpt2, r"must name linear layers of the model that are trained.*'all-linear'"),
        (["(", "attn"], llama, r"must have regular expressions \(.*Received"),
    ],
)
def test_modules_that_cannot_be_are_refused(modules: Any, model: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        made("with_optimizer", "galore_adamw", model(), tmp_path, optim_target_modules=modules).create_optimizer()


def test_without_a_trainer_nothing_is_projected_by_mistake(tmp_path: Path) -> None:
    cls, keywords = optim("apollo_adamw", arguments(tmp_path, optim_target_modules="all-linear"))
    with pytest.raises(ValueError, match=r"must be made by a Trainer.*torch\.APOLLO with a group of `\"rank\": 0`"):
        cls(bert().parameters(), **keywords)
