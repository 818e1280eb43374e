"""`register`: our names in `TrainingArguments(optim=...)`, and hyperparameters in the flat string `optim_args`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser, Trainer, TrainingArguments, training_args
from transformers.training_args import OptimizerNames

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters.hf import register
from tests.adapters.hf_support import NAMES, arguments, gpt2, trainer

pytestmark = pytest.mark.usefixtures("one_thread")
each_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def registered() -> None:
    register()


@each_name
@pytest.mark.usefixtures("registered")
def test_a_registered_name_trains(name: str, tmp_path: Path) -> None:
    made = trainer(gpt2(), arguments(tmp_path, optim=f"scirs2_{name}", weight_decay=0.1))
    made.train()
    assert type(made.optimizer.optimizer) is getattr(adapter, s2.get(name).__name__)
    assert [g["weight_decay"] for g in made.optimizer.param_groups] == [0.1, 0.0]


@pytest.mark.usefixtures("registered")
def test_a_registered_name_is_read_from_a_command_line_and_from_json(tmp_path: Path) -> None:
    line = ["--output_dir", str(tmp_path), "--optim", "scirs2_lion", "--optim_args", "beta1=0.5", "--use_cpu", "true"]
    (tmp_path / "args.json").write_text(
        json.dumps({"output_dir": str(tmp_path), "optim": "scirs2_lion", "use_cpu": True})
    )
    (from_line,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(line)
    (from_file,) = HfArgumentParser(TrainingArguments).parse_json_file(str(tmp_path / "args.json"))
    assert from_line.optim == from_file.optim == "scirs2_lion"
    assert Trainer.get_optimizer_cls_and_kwargs(from_line)[1]["betas"] == (0.5, 0.99)
    assert json.loads(from_file.to_json_string())["optim"] == "scirs2_lion"


def test_registering_twice_changes_nothing_and_no_built_in_name_ever() -> None:
    before = [n for n in OptimizerNames if not n.value.startswith("scirs2_")]
    register()
    once = list(OptimizerNames)
    register()
    assert list(OptimizerNames) == once
    assert [n for n in OptimizerNames if not n.value.startswith("scirs2_")] == before
    assert OptimizerNames("adamw_torch") is OptimizerNames.ADAMW_TORCH
    assert {n.value for n in OptimizerNames} >= {f"scirs2_{name}" for name in NAMES}


def test_parts_that_have_moved_are_an_error_that_tells_the_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    words = r"`register\(\)`.*optimizer_cls_and_kwargs=optim.*with_optimizer"
    with monkeypatch.context() as patch:
        patch.setattr(OptimizerNames, "_member_names_", ())
        with pytest.raises(ImportError, match=words):
            register()
    monkeypatch.delattr(training_args, "OptimizerNames")
    with pytest.raises(ImportError, match=words):
        register()


def chosen(tmp_path: Path, name: str, optim_args: str, **changes: Any) -> dict[str, Any]:
    register()
    args = arguments(tmp_path, optim=f"scirs2_{name}", optim_args=optim_args, **changes)
    return Trainer.get_optimizer_cls_and_kwargs(args)[1]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("adamw", "beta1=0.8,beta2=0.95,eps=1e-6", {"betas": (0.8, 0.95), "eps": 1e-6}),
        ("adamw", "beta1=0.8", {"betas": (0.8, 0.97)}),
        ("lion", "beta2=0.9", {"betas": (0.9, 0.9)}),
        ("sgd", "momentum=0.9, nesterov=true", {"momentum": 0.9, "nesterov": True}),
        ("sgd", "momentum=0.9,nesterov=1,skip_nonfinite=yes", {"nesterov": True, "skip_nonfinite": True}),
        ("lion", "state_dtype=bfloat16,kernel=traced", {"state_dtype": "bfloat16", "kernel": "traced"}),
        ("adam", "match=keras", {"match": "keras"}),
        ("muon", "ns_steps=3", {"ns_steps": 3}),
        ("lookahead", "base=lion,sync_period=3,beta1=0.8", {"base": "lion", "sync_period": 3, "betas": (0.8, 0.99)}),
    ],
)
def test_optim_args_are_read(name: str, text: str, expected: dict[str, Any], tmp_path: Path) -> None:
    keywords = chosen(tmp_path, name, text, adam_beta2=0.97)
    assert {k: keywords[k] for k in expected} == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lion", "beta3=0.9", r"`scirs2_lion` has no argument `beta3`.*Did you mean `beta"),
        ("lion", "beta1=high", r"`scirs2_lion\(beta1=\.\.\.\)` must be in \[0, 1\)\. Received: 'high'"),
        ("lion", "beta1=1.5", r"`scirs2_lion\(beta1=\.\.\.\)` must be in \[0, 1\)\. Received: 1\.5"),
        ("lion", "betas=0.9", r"`scirs2_lion\(betas=.*must be `\(\.\.\.,\.\.\.\)`.*`beta1=\.\.\.,beta2=\.\.\.`"),
        ("sgd", "nesterov=perhaps", r"nesterov=\.\.\.\)` must be True or False. Received: 'perhaps'"),
        ("muon", "ns_steps=2.5", r"ns_steps=\.\.\.\)` must be a whole number"),
        ("muon", "ns_coefficients=1", r"ns_coefficients=\.\.\.\)` cannot be a string.*with_optimizer"),
        ("lion", "weight_decay=0.5", r"weight_decay=.*0\.5.*TrainingArguments\(weight_decay=0\.5\)"),
        ("lion", "kernel=gpu", "kernel.*gpu"),
        ("lookahead", "base=lino", "lino"),
    ],
)
def test_bad_optim_args_are_refused_by_name(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        chosen(tmp_path, name, text)


def test_the_arguments_remain_a_plain_dataclass(tmp_path: Path) -> None:
    register()
    args = arguments(tmp_path, optim="scirs2_lion")
    assert dataclasses.replace(args).optim == "scirs2_lion"
