"""Memory in torch's form: `optimizer.state[p]` holds `step` and the slots under torch's names.

Numbers of the whole model stand in the groups, equal in all of them, because state may have no keys but parameters.
`memory` makes it, `saving` and `loading` take it out and in; `names` says which parameter is which, `origin` whose dict
it is.
"""

from .loading import fill, load
from .matching import Report
from .memory import Held, arrays_of, begin_counts, count_dtype, remember
from .names import Names, known_names, leaves_of, remember_names
from .origin import group_marks, model_numbers
from .saving import export, of_groups
from .tensors import dtype_name, is_spread, kinds, leaf_of, local, parts, spread_class
from .vectors import reordered

__all__ = [
    "Held",
    "Names",
    "Report",
    "arrays_of",
    "begin_counts",
    "count_dtype",
    "dtype_name",
    "export",
    "fill",
    "group_marks",
    "is_spread",
    "kinds",
    "known_names",
    "leaf_of",
    "leaves_of",
    "load",
    "model_numbers",
    "of_groups",
    "local",
    "parts",
    "remember",
    "remember_names",
    "reordered",
    "spread_class",
]
