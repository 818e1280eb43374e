"""torch optimizers made from rules, one class for each; where torch has the optimizer, a subclass of torch's own.

`rules` steps by a formula, `closures` evaluates the model inside a step, `classes` makes the class of a name.
"""

from .classes import optimizer

__all__ = ["optimizer"]
