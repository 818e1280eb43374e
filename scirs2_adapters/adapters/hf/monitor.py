"""What the optimizer of a Trainer does, as a callback: the plan when training begins, norms and rates as it goes."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scirs2_adapters.adapters.torch import monitor
from scirs2_adapters.adapters.torch.optimizer.group_report import GroupReport, group_reports
from scirs2_adapters.adapters.torch.optimizer.rules import RuleOptimizer
from scirs2_adapters.adapters.torch.state.protocols import Group
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.fields import flag
from scirs2_adapters.core.monitor.monitor import EVERY
from scirs2_adapters.core.monitor.record import labels

COLUMNS = ("group", "tensors", "parameters", "lr", "weight_decay", "dtype", "path")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class OptimizerMonitor(TrainerCallback):
    """Logs what the optimizer does, by parameter group, through `Trainer.log`; TensorBoard and others see it there.

    Every `every` steps it logs `optimizer/lr/GROUP`, `optimizer/grad_norm/GROUP` (after clipping),
    `optimizer/update_ratio/GROUP` (the norm of the step, learning rate included, over the norm of the parameters),
    `optimizer/skipped_steps` so far and `optimizer/state_bytes` of this process. In such a step a copy of the
    parameters is kept until the step is made; in all others nothing is. When training begins, the plan is printed:
    groups, rates, bytes of state, and whether a compiled kernel steps a group, and if not, why.

    Groups that `lr_by` makes have the names of their patterns. An optimizer of another package can be watched too; then
    the plan does not say how it is stepped, and `state_bytes` is left out.

    Arguments:
      every: steps from one log to the next, 1 or more
      plan: whether the plan is printed

    Example:
        Trainer(model, args, train_dataset=data, callbacks=[OptimizerMonitor(every=50)])
    """

    def __init__(self, every: int = 50, plan: bool = True) -> None:
        self.every = EVERY.check("OptimizerMonitor", "every", every)
        self.plan = flag(True, "").check("OptimizerMonitor", "plan", plan)
        self._shown = ""
        self._forget()

    def _forget(self) -> None:
        self._trainer: weakref.ref[Trainer] | None = None
        self._before: list[list[torch.Tensor]] = []
        self._logs: dict[str, float] = {}
        self._scaler_skipped = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: object
    ) -> None:
        self._forget()
        self._trainer = _running()
        if self.plan and state.is_world_process_zero:
            shown, self._shown = self._shown, plan(_plain(objects["optimizer"]))
            if self._shown != shown:  # once, however often the Trainer trains
                print(self._shown)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: object
    ) -> None:
        if (state.global_step + 1) % self.every:
            return
        groups = _plain(objects["optimizer"]).param_groups
        self._before = monitor.copies(groups)
        scaled = args.fp16 and not args.max_grad_norm  # then nobody has unscaled them yet
        for name, group in zip(labels(groups), groups, strict=True):
            grads = [p.grad.detach() for p in group["params"] if p.grad is not None]
            self._logs[f"optimizer/lr/{name}"] = float(group["lr"])
            if grads and not scaled:
                self._logs[f"optimizer/grad_norm/{name}"] = monitor.norm(grads)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: object
    ) -> None:
        self._scaler_skipped += bool(getattr(objects["optimizer"], "step_was_skipped", False))
        if not self._logs:
            return
        optimizer, before, self._before = _plain(objects["optimizer"]), self._before, []
        for record in monitor.group_records(optimizer.param_groups, before):
            self._logs[f"optimizer/update_ratio/{record.name}"] = record.update_ratio or 0.0
        self._logs["optimizer/skipped_steps"] = monitor.skipped(optimizer.param_groups) + self._scaler_skipped
        if (size := monitor.state_bytes(optimizer)) is not None:
            self._logs["optimizer/state_bytes"] = size

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: object
    ) -> None:
        logs, self._logs = self._logs, {}
        trainer = self._trainer and self._trainer()
        if logs and trainer is not None:
            wanted = control.should_log  # which ends with a log, and the Trainer's own of this step is still to come
            # Not a subclass's: those of TRL add the means of what they have gathered, and forget it.
            Trainer.log(trainer, logs)
            control.should_log = wanted

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: object
    ) -> None:
        self._forget()


def _running() -> weakref.ref[Trainer]:
    """The Trainer that calls; callbacks do not get it as an argument."""
    frame = sys._getframe(1)
    while frame is not None:
        if isinstance(trainer := frame.f_locals.get("self"), Trainer):
            return weakref.ref(trainer)
        frame = frame.f_back  # type: ignore[assignment]
    raise RuntimeError("`OptimizerMonitor` logs through the `transformers.Trainer` that calls it, and none does.")


def _plain(optimizer: object) -> torch.optim.Optimizer:
    """The optimizer inside the wrappers of accelerate."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise bad_type("OptimizerMonitor", "optimizer", "must be a Trainer's torch optimizer", optimizer)
    return optimizer


def plan(optimizer: torch.optim.Optimizer) -> str:
    """The plan as a table."""
    reports, groups = group_reports(optimizer), optimizer.param_groups
    rows = [COLUMNS, *map(_row, labels(groups), groups, reports)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_padded, row, widths, COLUMNS)).rstrip() for row in rows]
    total = sum(report.numbers for report in reports)
    title = f"{type(optimizer).__name__}: {total:,} parameters in {len(groups)} groups"
    return "\n".join([title, *(f"  {line}" for line in lines), *_state(optimizer, reports)])


def _row(name: str, group: Group, report: GroupReport) -> tuple[str, ...]:
    rate = group["initial_lr" if "initial_lr" in group else "lr"]  # schedules begin elsewhere, at 0 with warm-up
    numbers = (f"{report.tensors:,}", f"{report.numbers:,}", f"{float(rate):.4g}")
    return (name, *numbers, f"{group.get('weight_decay', 0):.4g}", report.dtypes, report.path)


def _padded(cell: str, width: int, column: str) -> str:
    return cell.rjust(width) if column in COLUMNS[1:5] else cell.ljust(width)


def _state(optimizer: torch.optim.Optimizer, reports: Iterable[GroupReport]) -> list[str]:
    """What is stored, and which algorithms step the groups of a rule that leaves some to another."""
    if not isinstance(optimizer, RuleOptimizer):
        return []
    memory = optimizer.memory()
    slots = [(name, each.items()) for name, each in memory.state.items()]
    stored = [f"{name} {dtype} {_bytes(size)}" for name, each in slots for dtype, size in each]
    stored += [f"corrections {_bytes(memory.corrections)}"] * bool(memory.corrections)
    average = memory.state_bytes / max(1, memory.numbers)
    lines = [f"  state: {', '.join(stored) or 'none'}; {average:.2f} bytes a parameter"]
    algorithms = dict.fromkeys(a for report in reports for a in report.algorithms.split(", ") if a)
    return [*lines, f"  algorithms: {', '.join(algorithms)} (optimizer.explain())"] if len(algorithms) > 1 else lines


def _bytes(count: float) -> str:
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.4g} {UNITS[unit]}"
