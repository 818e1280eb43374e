"""Who steps what: `step` gives every variable to the traced executor, `skip` leaves out steps that are not finite."""

from . import skip
from .step import distributed, step, step_together

__all__ = ["distributed", "skip", "step", "step_together"]
