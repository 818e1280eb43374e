"""The waist in numpy. scikit-learn's arrays are numpy's, and the core's plain runner has bound it: hence one line."""

from scirs2_adapters.core.execute.plain import NUMPY as WAIST

__all__ = ["WAIST"]
