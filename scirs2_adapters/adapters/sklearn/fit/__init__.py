"""How the linear estimators are trained; networks need nothing of this, for their loop is scikit-learn's."""

from .linear import Linear

__all__ = ["Linear"]
