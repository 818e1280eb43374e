"""The optimizer's state in Keras' files: `reading` takes whole models, and weights with ours; `unnamed` takes weights
with Keras' optimizers, whose variables have no names there.
"""

from .reading import read

__all__ = ["read"]
