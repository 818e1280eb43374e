"""The memory of an optimizer: `memory` makes it as Keras variables, `files` writes it with its names and takes it back,
`theirs` reads what Keras' own classes wrote.
"""

from .memory import Member, Memory, leaf_of, raw

__all__ = ["Member", "Memory", "leaf_of", "raw"]
