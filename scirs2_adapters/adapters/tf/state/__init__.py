"""The memory of an optimizer: `memory` makes it as Keras variables, `coded` says how numbers of fewer bits lie in them,
`files` writes it with its names and takes it back, `keras_classes` reads what Keras' classes wrote.
"""

from .memory import Memory, RuleState, VariableEntry, leaf_of, overwritten, raw

__all__ = ["Memory", "RuleState", "VariableEntry", "leaf_of", "overwritten", "raw"]
