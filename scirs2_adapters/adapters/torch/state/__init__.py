"""Memory in torch's form: `optimizer.state[p]` holds `step` and the slots under torch's names.

Numbers of the whole model stand in the groups, equal in all of them, because state may have no keys but parameters.
`memory` makes it, `saving` and `loading` take it out and in; `names` says which parameter is which, `origin` whose dict
it is.
"""

from .loading import fill, load
from .matching import Report
from .memory import arrays_of, begin_counts, count_dtype, init_state
from .names import known_names, leaves_of, remember_names
from .origin import group_marks, model_numbers
from .protocols import Group, GroupRuleLike, GroupValues, Names, ParamState, RuleOptimizerLike, Saved
from .saving import export, of_groups
from .tensors import dtensor_class, dtype_name, is_dtensor, kinds, leaf_of, local, placements
from .vectors import reordered

__all__ = [
    "Group",
    "GroupRuleLike",
    "GroupValues",
    "ParamState",
    "RuleOptimizerLike",
    "Saved",
    "Names",
    "Report",
    "arrays_of",
    "begin_counts",
    "count_dtype",
    "dtype_name",
    "export",
    "fill",
    "group_marks",
    "is_dtensor",
    "kinds",
    "known_names",
    "leaf_of",
    "leaves_of",
    "load",
    "model_numbers",
    "of_groups",
    "local",
    "placements",
    "init_state",
    "remember_names",
    "reordered",
    "dtensor_class",
]
