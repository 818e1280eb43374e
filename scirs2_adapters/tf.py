"""Keras optimizers: the very objects of `scirs2_adapters.adapters.tf`, at a path one can type."""

import sys

from scirs2_adapters.adapters import tf as _adapter
from scirs2_adapters.adapters.tf import *
from scirs2_adapters.adapters.tf import __all__ as __all__

# The adapter itself, which makes optimizers of other distributions when asked for; type checkers see the fixed names.
sys.modules[__name__] = _adapter
