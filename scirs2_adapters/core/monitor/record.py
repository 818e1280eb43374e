"""What is said of a step: the norms of gradients, update and parameters by group, and what stands beside them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

#: The norms of a group, which a record also has for all groups together.
NORMS = ("gradient_norm", "update_norm", "parameter_norm")


@dataclasses.dataclass(frozen=True)
class GroupRecord:
    """One group of parameters in a step; None is what cannot be seen.

    `learning_rate` is that of the step. Norms are Euclidean, over all numbers of the group: `gradient_norm` of the
    gradients that the optimizer has seen, `update_norm` of the change of the parameters, learning rate included, and
    `parameter_norm` of the parameters after it.
    """

    name: str
    learning_rate: float | None
    gradient_norm: float | None
    update_norm: float | None
    parameter_norm: float

    @property
    def update_ratio(self) -> float | None:
        """The norm of the update over that of the parameters; 0 where these are 0."""
        if self.update_norm is None:
            return None
        return self.update_norm / self.parameter_norm if self.parameter_norm else 0.0


class Seen(NamedTuple):
    """What a framework's side has measured of a step."""

    groups: Sequence[GroupRecord]
    nonfinite_gradients: int | None
    skipped_steps: int
    state_bytes: int | None


@dataclasses.dataclass(frozen=True)
class Record:
    """One step of an optimizer; None is what cannot be seen. `print` shows it in one line.

    `step` counts the steps that the monitor has seen, from 1 on. `seconds` is how long the call of the step took.
    `nonfinite_gradients` counts numbers that are infinite or NaN in the gradients of this step. `skipped_steps` counts
    all that the optimizer has left out so far, and `state_bytes` are those of its state.
    """

    optimizer: str
    step: int
    seconds: float | None
    groups: tuple[GroupRecord, ...]
    nonfinite_gradients: int | None
    skipped_steps: int
    state_bytes: int | None

    @property
    def gradient_norm(self) -> float | None:
        """The norm of the gradients of all groups."""
        return _together(group.gradient_norm for group in self.groups)

    @property
    def update_norm(self) -> float | None:
        """The norm of the updates of all groups."""
        return _together(group.update_norm for group in self.groups)

    @property
    def parameter_norm(self) -> float | None:
        """The norm of the parameters of all groups."""
        return _together(group.parameter_norm for group in self.groups)

    def as_dict(self) -> dict[str, object]:
        """All of it as plain data, for JSON and trackers of experiments."""
        groups = [dataclasses.asdict(group) for group in self.groups]
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, **{name: getattr(self, name) for name in NORMS}, "groups": groups}

    def numbers(self) -> Iterator[tuple[str, str, float]]:
        """Each number that is known: what it is, the group it is of, or "", and the number."""
        names = ("seconds", "nonfinite_gradients", "skipped_steps", "state_bytes")
        rows = [(name, "", getattr(self, name)) for name in ("step", *names)]
        for group in self.groups:
            rows += [(name, group.name, getattr(group, name)) for name in ("learning_rate", *NORMS)]
        return ((name, group, float(x)) for name, group, x in rows if x is not None)

    def __str__(self) -> str:
        shown = {"gradient": self.gradient_norm, "update": self.update_norm, "parameters": self.parameter_norm}
        rates = dict.fromkeys(f"{g.learning_rate:.4g}" for g in self.groups if g.learning_rate is not None)
        cells = [f"lr {' '.join(rates)}"] if rates else []
        cells += [f"{name} {value:.4g}" for name, value in shown.items() if value is not None]
        cells += [f"{self.seconds * 1e3:.3g} ms"] if self.seconds is not None else []
        cells += [f"{self.nonfinite_gradients} not finite"] if self.nonfinite_gradients else []
        cells += [f"{self.skipped_steps} skipped"] if self.skipped_steps else []
        return f"{self.optimizer} step {self.step}: {', '.join(cells)}"


def _together(norms: Iterable[float | None]) -> float | None:
    """The norm of all numbers of which these are norms."""
    known = [x for x in norms if x is not None]
    return math.hypot(*known) if known else None


def norm(arrays: Iterable[np.ndarray]) -> float:
    """The norm of all numbers of these arrays together, in float64."""
    with np.errstate(all="ignore"):
        return math.hypot(*(float(np.linalg.norm(_wide(x))) for x in arrays))


def _wide(x: np.ndarray) -> np.ndarray:
    x = np.ravel(x)
    return np.abs(x.astype(np.complex128)) if np.iscomplexobj(x) else x.astype(np.float64)


def group_record(
    name: str, rate: float | None, grads: Sequence[np.ndarray], before: Iterable[np.ndarray], after: list[np.ndarray]
) -> GroupRecord:
    """The record of a group of numpy arrays."""
    with np.errstate(all="ignore"):
        update = norm(_exact(p) - _exact(q) for p, q in zip(after, before, strict=True))
    return GroupRecord(name, rate, norm(grads) if grads else None, update, norm(after))


def _exact(x: np.ndarray) -> np.ndarray:
    return x if x.dtype.itemsize >= 8 else x.astype(np.float64)


def nonfinite(arrays: Iterable[np.ndarray]) -> int:
    """How many numbers of these arrays are infinite or NaN."""
    return sum(x.size - int(np.isfinite(x).sum()) for x in arrays)


def labels(groups: Sequence[Mapping[str, object]]) -> list[str]:
    """A name for each group, as trackers of experiments take them: that of the group, else whether it is decayed."""
    names: list[str] = []
    split = len({bool(group.get("weight_decay")) for group in groups}) > 1
    for i, group in enumerate(groups):
        decay = "decay" if group.get("weight_decay") else "no decay"
        name = str(group.get("name") or (decay if split else f"group {i}"))
        plain = re.sub(r"[^\w./-]+", " ", name.replace("\\", "")).strip(" ._")
        while not plain or plain in names:
            plain = f"{plain} {i}".strip()
        names.append(plain)
    return names
