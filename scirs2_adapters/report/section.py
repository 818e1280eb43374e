"""A part of the report: what was measured and how, as text, a table and figures. `page.py` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Effort:
    """How much is measured: numbers of steps, sizes of models."""

    #: Parameters and steps of each way of integration.
    numbers: int = 1_000_000
    pattern_steps: int = 100
    #: Powers of ten of the model sizes, and for how many seconds each is stepped.
    powers: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9)
    seconds: float = 1.0
    #: The models that are trained, by adapter, and their steps.
    models: tuple[str, ...] = ("torch", "tf", "jax", "sklearn", "hf")
    learn_steps: int = 300
    #: Optimizers that learn the digits, all of them if none is named, and their steps.
    optimizers: tuple[str, ...] = ()
    digits_steps: int = 450
    #: Whether both forms of torch's AdamW are measured, and ours with 8-bit state.
    variants: bool = True
    #: Width, layers and steps of the torch model.
    width: int = 256
    layers: int = 4
    model_steps: int = 60


FULL = Effort()
#: Under two minutes on two cores, also where no kernel has been compiled yet: most of it is starting frameworks. Keras
#: and the Trainer take longest to start.
QUICK = Effort(
    numbers=100_000, pattern_steps=20, powers=(3, 4, 5, 6), seconds=0.1, models=("torch", "jax", "sklearn"),
    learn_steps=60, optimizers=("adafactor", "adamw", "lion", "muon", "schedulefreeadamw", "sgd"), digits_steps=90,
    variants=False, width=64, layers=2, model_steps=20,
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """`name` begins the names of its figures; each figure has a text for those who do not see it. `left_out` says in a
    sentence each what is not here and what brings it; `failed` what should have run and did not.
    """

    name: str
    title: str
    text: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figures: Mapping[str, tuple[Figure, str]] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    failed: Sequence[str] = ()


class MeasurementError(RuntimeError):
    """A process that should have measured something ended early."""


def shown(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
