"""The name under which pickles of version 0.1 know `HostOptimizer`."""

from ..numpy_optimizer import HostOptimizer

__all__ = ["HostOptimizer"]
