"""Optimizers for programs without python: `scirs2 export adamw -o DIR` writes the compiled kernel of a rule as object
files, with its C interface.
"""

from .export import Exported, export
from .objects import TARGETS

__all__ = ["TARGETS", "Exported", "export"]
