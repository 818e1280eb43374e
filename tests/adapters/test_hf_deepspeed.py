"""DeepSpeed replaces a custom optimizer in some configurations: these are refused, naming the key."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import Trainer

import scirs2_adapters
from scirs2_adapters.core.program.recorded import needs_whole
from scirs2_adapters.hf import optim, with_optimizer
from tests.adapters.hf_support import NAMES, arguments

OFFLOAD = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
REPLACED = [
    (OFFLOAD, "zero_force_ds_cpu_optimizer"),
    ({**OFFLOAD, "zero_force_ds_cpu_optimizer": True}, "zero_force_ds_cpu_optimizer"),
    ({"zero_optimization": {"stage": 2, "cpu_offload": True}}, "zero_force_ds_cpu_optimizer"),
    ({"optimizer": {"type": "AdamW"}}, "optimizer"),
]
KEPT: list[dict[str, Any]] = [
    {},
    {"zero_optimization": {"stage": 2}},
    {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "none"}}},
    {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}},
    {**OFFLOAD, "zero_force_ds_cpu_optimizer": False},
]


@pytest.mark.parametrize(("config", "key"), REPLACED)
def test_a_configuration_that_replaces_the_optimizer_is_refused(config: Any, key: str, tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args.deepspeed = config
    with pytest.raises(ValueError, match=key):
        optim("lion", args)


@pytest.mark.parametrize("config", KEPT)
def test_a_configuration_that_keeps_the_optimizer_is_accepted(config: Any, tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args.deepspeed = config
    assert optim("lion", args)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_zero_is_refused_for_optimizers_of_whole_parameters_alone(name: str, stage: int, tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args.deepspeed = {"zero_optimization": {"stage": stage}}
    if not needs_whole(scirs2_adapters.get(name)()):
        assert optim(name, args)
        return
    for door in (lambda: optim(name, args), lambda: with_optimizer(Trainer, name).get_optimizer_cls_and_kwargs(args)):
        with pytest.raises(ValueError, match=r'ZeRO.*flat pieces.*"stage": 0'):
            door()
    args.deepspeed = {"zero_optimization": {"stage": 0}}
    assert optim(name, args)


def test_zero_is_refused_where_all_gradients_are_clipped_together(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args.deepspeed = {"zero_optimization": {"stage": 2}}
    with pytest.raises(ValueError, match="max_grad_norm"):
        optim("adamw", args, max_grad_norm=1.0)


def test_the_configuration_is_found_in_a_file(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args.deepspeed = str(tmp_path / "zero.json")
    Path(args.deepspeed).write_text(json.dumps(OFFLOAD))
    with pytest.raises(ValueError, match="zero_force_ds_cpu_optimizer"):
        optim("lion", args)


@pytest.mark.parametrize(
    ("holder", "attribute"), [("hf_deepspeed_config", "config"), ("deepspeed_plugin", "deepspeed_config")]
)
def test_the_configuration_is_found_where_a_launcher_keeps_it(holder: str, attribute: str, tmp_path: Path) -> None:
    args = arguments(tmp_path)
    setattr(args, holder, SimpleNamespace(**{attribute: OFFLOAD}))
    with pytest.raises(ValueError, match="zero_force_ds_cpu_optimizer"):
        with_optimizer(Trainer, "lion").get_optimizer_cls_and_kwargs(args)
