"""Keras optimizers made from rules, one class for each: `rules` steps and keeps its settings, `evaluation` exchanges
what is trained for what is evaluated, `classes` makes the class of a name.
"""

from .classes import optimizer
from .rules import RuleOptimizer

__all__ = ["RuleOptimizer", "optimizer"]
