"""Memory in torch's form: `optimizer.state[p]` holds `step` and the slots under torch's names.

Numbers of the whole model stand in the groups, equal in all of them, because state may have no keys but parameters.
`memory` makes it, `state_dict` takes it out and in; `tensors` says which parameter is which, `origin` whose dict it is,
`matching` what of it belongs to which parameter, and `group_rule` is the rule that the values of a group make.
"""
