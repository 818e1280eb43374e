"""`OptimizerMonitor`: what it logs is so, it keeps nothing, it changes nothing, and the plan can be read."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback

from scirs2_adapters.hf import OptimizerMonitor, with_optimizer
from tests.adapters.hf_support import KINDS, arguments, gpt2, same_bits, trainer, weights

pytestmark = pytest.mark.usefixtures("one_thread")


class Spy(TrainerCallback):
    """A tracker of experiments that is added before the monitor, and what it sees before and after each step."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.norms: list[float] = []
        self.monitor: OptimizerMonitor | None = None
        self.kept: list[int] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.weights.append(weights(model))
        tensors = [x for x in vars(self.monitor).values() if isinstance(x, list)]
        self.kept.append(sum(map(len, tensors)))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        grads = torch.cat([p.grad.flatten() for p in model.parameters()])
        self.norms.append(float(grads.norm()))


def run(folder: Path, name: str | None = "adamw", monitor: Any = None, hyper: Any = None, **changes: Any) -> Any:
    spy = Spy()
    spy.monitor = monitor or OptimizerMonitor(every=1, plan=False)
    cls = Trainer if name is None else with_optimizer(Trainer, name, **(hyper or {}))
    made = trainer(gpt2(), arguments(folder, **changes), cls, callbacks=[spy, spy.monitor])
    made.train()
    return made, spy


def ours(spy: Spy) -> list[dict[str, float]]:
    return [row for row in spy.logs if any(key.startswith("optimizer/") for key in row)]


def test_the_numbers_are_those_of_the_step(tmp_path: Path) -> None:
    # A gradient of one group in a plain step: the step is lr * gradient.
    made, spy = run(tmp_path, "sgd", hyper={"lr_by": {"": 1e-2}}, lr_scheduler_type="constant", max_grad_norm=0.0)
    spy.weights.append(weights(made.model))
    logs = ours(spy)
    assert len(logs) == 4
    for i, row in enumerate(logs):
        kinds = {key.rsplit("/", 1)[0] for key in row if key.startswith("optimizer/") and key.count("/") == 2}
        assert kinds == {"optimizer/lr", "optimizer/grad_norm", "optimizer/update_ratio"}
        groups = [key.rsplit("/", 1)[1] for key in row if key.startswith("optimizer/lr/")]
        assert len(groups) == 2
        assert {row[f"optimizer/lr/{name}"] for name in groups} == {1e-2}
        square = sum(row[f"optimizer/grad_norm/{name}"] ** 2 for name in groups)
        assert square**0.5 == pytest.approx(spy.norms[i], rel=1e-4)
        decayed = {*made.get_decay_parameter_names(made.model)}
        for name in groups:
            inside = [k for k in spy.weights[i] if (k in decayed) is ("no decay" not in name)]
            size = sum(float(spy.weights[i + 1][k].square().sum()) for k in inside) ** 0.5
            ratio = 1e-2 * row[f"optimizer/grad_norm/{name}"] / size
            assert row[f"optimizer/update_ratio/{name}"] == pytest.approx(ratio, rel=1e-3)
        assert row["optimizer/skipped_steps"] == 0


@pytest.mark.parametrize("name", KINDS)
def test_it_changes_nothing_and_tells_the_bytes_of_state(name: str, tmp_path: Path) -> None:
    made, spy = run(tmp_path, name, OptimizerMonitor(every=2), max_steps=2)
    plain = trainer(gpt2(), arguments(tmp_path, max_steps=2), with_optimizer(Trainer, name))
    plain.train()
    assert same_bits(made.model, plain.model)
    (row,) = ours(spy)
    if hasattr(made.optimizer.optimizer, "train"):
        made.optimizer.train()
    held = [x for state in made.optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)]
    assert row["optimizer/state_bytes"] == sum(x.nbytes for x in held)


def test_it_logs_every_so_many_steps_and_keeps_nothing(tmp_path: Path) -> None:
    monitor = OptimizerMonitor(every=2, plan=False)
    made, spy = run(tmp_path, monitor=monitor, max_steps=5)
    steps = [row["step"] for row in made.state.log_history if "optimizer/state_bytes" in row]
    assert steps == [2, 4]
    assert [row["step"] for row in made.state.log_history if "loss" in row] == [1, 2, 3, 4, 5]
    assert spy.kept == [0] * 5
    assert not any(isinstance(x, torch.Tensor) for x in gc.get_referents(*vars(monitor).values()))
    assert monitor._trainer is None
    made.train()
    assert [row["step"] for row in made.state.log_history if "optimizer/state_bytes" in row] == [2, 4]


def test_steps_that_are_left_out_are_counted(tmp_path: Path) -> None:
    class Broken(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step == 1:
                next(model.parameters()).grad.fill_(float("nan"))

    monitor = OptimizerMonitor(every=1, plan=False)
    cls = with_optimizer(Trainer, "adamw", skip_nonfinite=True)
    made = trainer(gpt2(), arguments(tmp_path), cls, callbacks=[Broken(), monitor])
    made.train()
    rows = [row for row in made.state.log_history if "optimizer/skipped_steps" in row]
    assert [row["optimizer/skipped_steps"] for row in rows] == [0, 1, 1, 1]
    still = [k for k in rows[1] if "update_ratio" in k]
    assert {rows[1][k] for k in still} == {0.0}


def test_what_a_subclass_gathers_for_its_log_is_left_to_it(tmp_path: Path) -> None:
    class Gathering(Trainer):
        """As those of TRL."""

        calls = 0

        def log(self, logs: Any, *args: Any, **keywords: Any) -> None:
            type(self).calls += 1
            super().log({**logs, "calls": self.calls}, *args, **keywords)

    made = trainer(gpt2(), arguments(tmp_path), Gathering, callbacks=[OptimizerMonitor(1, plan=False)])
    made.train()
    assert not [row for row in made.state.log_history if "calls" in row and "optimizer/skipped_steps" in row]


def test_the_plan_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyper = {"lr_by": {"wte|wpe": 1e-4}, "state_dtype": "bfloat16"}
    made, _ = run(
        tmp_path, "adamw", OptimizerMonitor(), hyper, weight_decay=0.1, lr_scheduler_type="linear", warmup_steps=2
    )
    made.train()
    text = capsys.readouterr().out
    assert text.count("AdamW: 3,696 parameters in 3 groups") == 1
    lines = [line.split("  ") for line in text.splitlines() if line.rstrip().endswith("kernel")]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["others", "4", "3,072", "0.004", "0.1", "float32", "kernel"],
        ["others no decay", "10", "240", "0.004", "0", "float32", "kernel"],
        ["wte wpe", "2", "384", "0.0001", "0.1", "float32", "kernel"],
    ]
    assert "exp_avg bfloat16 7.219 KiB" in text
    assert "4.02 bytes a parameter" in text


@pytest.mark.parametrize(
    ("name", "hyper", "words"),
    [
        ("adamw", {"kernel": "traced"}, ['traced (kernel="traced")']),
        ("muon", {}, ["algorithms: adamw, muon (optimizer.explain())", "momentum_buffer float32"]),
        (None, {}, ["AdamW: 3,696 parameters in 2 groups", "group 0", "group 1"]),
    ],
)
def test_the_plan_says_what_is_particular(
    name: str | None, hyper: dict[str, Any], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, spy = run(tmp_path, name, OptimizerMonitor(1), hyper, max_steps=1)
    text = capsys.readouterr().out
    assert [word for word in words if word not in text] == []
    assert ("optimizer/state_bytes" in ours(spy)[0]) is (name is not None)


def test_the_plan_names_the_obstacle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scirs2_adapters.adapters.hf.monitor import plan
    from scirs2_adapters.torch import Lion

    text = plan(Lion([torch.zeros(4, device="meta", requires_grad=True)]))
    assert "traced (the parameter is on meta" in text


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"every": 0}, r"every=...\)` must be a whole number >= 1. Received: 0"),
        ({"every": 2.5}, r"every=...\)` must be a whole number >= 1. Received: 2.5"),
        ({"every": True}, r"every=...\)` must be a whole number >= 1. Received: True"),
        ({"plan": "yes"}, r"plan=...\)` must be True or False. Received: 'yes'"),
    ],
)
def test_bad_arguments_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"`OptimizerMonitor\({message}"):
        OptimizerMonitor(**keywords)


def test_it_asks_for_a_trainer() -> None:
    with pytest.raises(RuntimeError, match=r"logs through the `transformers\.Trainer`"):
        OptimizerMonitor().on_train_begin(None, None, None, optimizer=None)
