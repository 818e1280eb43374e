"""scikit-learn optimizers: the very objects of `scirs2_adapters.adapters.sklearn`, at a path one can type."""

import sys

from scirs2_adapters.adapters import sklearn as _adapter
from scirs2_adapters.adapters.sklearn import *
from scirs2_adapters.adapters.sklearn import __all__ as __all__

# The adapter itself, which makes optimizers of other distributions when asked for; type checkers see the fixed names.
sys.modules[__name__] = _adapter
