"""Which path runs: `traced`, the formula in `keras.ops`; `skip` leaves out steps that are not finite."""

from . import skip
from .traced import dense, distributed, merged, step, step_together

__all__ = ["dense", "distributed", "merged", "skip", "step", "step_together"]
