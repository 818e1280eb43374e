"""Where two recorded runs part, and which known difference between frameworks explains it."""

from .compare import Drift, compare

__all__ = ["Drift", "compare"]
