"""What does not pass, as data with reasons: where ours differs, what optax leaves out, and what optax itself fails.

All of it is strict: a case of which it is said must do so, and no other may.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp

from scirs2_adapters import get, names
from scirs2_adapters.adapters.jax.argument_names import factory_name

from .. import wheel_suite
from ..wheel_suite import Reason, why
from .cases import Case

#: What a case raises that fails.
RAISED = (AssertionError, AttributeError, TypeError, ValueError)


def _decays(case: Case) -> bool:
    """Ours as typed, where optax's decays less by default, and the distance to the minimum shows it."""
    return case.name == "adamw" and case.match is None and case.keywords["target"].__name__ == "_setup_rosenbrock"


def _complex(case: Case) -> bool:
    return case.keywords["dtype"].__name__.startswith("complex")


def _half_complex(case: Case) -> bool:
    """A complex state is asked for real parameters, or a real one for complex parameters."""
    params, state = case.keywords["params_dtype"], case.keywords["state_dtype"]
    return state is not None and (params == "complex64") != (state == "complex64")


#: What learns its rate from its first steps.
_LEARNING = {factory_name(name) for name in names() if get(name).first_step}
_LOST = (
    "In 16 bits its first small steps are lost to rounding, and with them what it learns its rate from: here that"
    " is an error. The tests ask for dtypes alone, and let it stand still."
)
_EVALUATED = (
    "The test evaluates by `optax.contrib.schedule_free_eval_params`, which reads optax's own state; ours is evaluated"
    " by `scirs2_adapters.jax.evaluation_params`."
)
_DECAY = (
    "As typed it decays by 1e-2, PyTorch's default and the paper's, and not by 1e-4: that holds the parameters 0.05 or"
    " more from the minimum that the test asks for."
)
DIFFERS = (
    Reason(
        "common_test.py",
        ("test_optimizers_can_be_wrapped_in_inject_hyperparams",),
        "A partial of our `schedule_free` or `mechanize` that has what it wraps has used up its first argument,"
        " which is the learning rate where it is no transformation: `inject_hyperparams` finds none to give.",
        lambda c: c.keywords["wrapper_name"] in ("mechanize", "schedule_free"),
    ),
    Reason(
        "alias_test.py",
        (),
        "The test asks for the warning that optax's own `optimistic_adam` is deprecated.",
        lambda c: c.name == "optimistic_adam",
    ),
    Reason(
        "alias_test.py",
        ("test_explicit_dtype",),
        "A moment is complex if its gradients are, whether or not `mu_dtype` is. optax keeps complex moments of real"
        " gradients, and of complex ones the real part alone.",
        _half_complex,
    ),
    Reason("alias_test.py", ("test_optimization",), _DECAY, lambda c: _decays(c) and _complex(c)),
    Reason(
        "common_test.py",
        ("test_optimizers",),
        _DECAY,
        lambda c: _decays(c) and c.keywords["wrapper_name"] == "mechanize",
    ),
    Reason(
        "common_test.py",
        ("test_optimizers",),
        _EVALUATED,
        lambda c: c.name in ("schedule_free_adamw", "schedule_free_sgd") and "float32" in c.words,
    ),
    Reason(
        "combin",
        ("test_extra_args",),
        "The parameters of the test are integers, which a step would be cut to; here that is an error.",
    ),
    Reason(
        "common_test.py",
        ("test_optimizers",),
        "The test's vectors are stepped by the AdamW part, which by default has 0.015 times the learning rate: so many"
        ' steps do not end at the minimum. (With `match="optax"` it has all of it.)',
        lambda c: c.name == "muon" and c.match is None and "parabola" in c.words,
    ),
    Reason(
        "muon_test.py",
        ("test_dim_nums_combinations",),
        "Muon's state is our own, and the test looks into optax's.",
    ),
    Reason(
        "muon_test.py",
        (
            "test_aol_numerical_difference",
            "test_callable_weight_dim_nums",
            "test_muon_orthogonalization_modes",
            "test_orthogonality",
            "test_reshape_and_update_single_param",
            "test_reshape_update_for_square_parameter_matches_muon_without_dim_nums",
        ),
        "Ours divides by the Frobenius norm, as its author's does, and takes no other `preconditioning`.",
        lambda c: not c.words or c.words[0].startswith(("aol", "schatten")),
    ),
    Reason(
        "muon_test.py",
        ("test_complex_mixed_target",),
        "Ours has no `adaptive` scale of the step by its dual norm.",
        lambda c: c.keywords["adaptive"],
    ),
    Reason(
        "galore_test.py",
        (
            "test_left_vs_right_projection_state_shapes",
            "test_memory_reduction_vs_full_moments",
            "test_projector_orthonormality_after_update",
            "test_projector_update_gap_behavior",
            "test_projector_updates_when_gap_is_one",
            "test_rank_is_clipped_to_min_dimension",
        ),
        "GaLore's state is our own, and the test looks into optax's.",
    ),
    Reason(
        "galore_test.py",
        (
            "test_3d_attention_weights_with_dimension_numbers",
            "test_3d_memory_reduction_with_dimension_numbers",
            "test_dimension_numbers_convergence",
            "test_dimension_numbers_right_projection",
            "test_mixed_2d_and_3d_params_with_dimension_numbers",
            "test_single_dimension_number_applied_to_all",
        ),
        "Ours takes no `weight_dimension_numbers`: `layout` says which axes of a kernel are inputs, and groups by name"
        " what is projected.",
    ),
    Reason(
        "galore_test.py",
        ("test_mixed_pytree_shapes_jittable_regression", "test_mu_dtype_controls_moment_dtype"),
        "Ours takes no `base_optimizer`: its moments are Adam's, in the dtype that `state_dtype` says.",
    ),
    Reason(
        "common_test.py",
        ("test_gradient_accumulation", "test_preserve_dtype", "test_state_shape_dtype_shard_stability"),
        _LOST,
        lambda c: c.name in _LEARNING and jnp.dtype(c.keywords["dtype"]).itemsize == 2,
    ),
    Reason(
        "sharding_test.py",
        ("test_state_sharding_type_init_match_update", "test_state_sharding_type_preserved_with_jit"),
        _LOST,
        lambda c: c.name in _LEARNING and (c.name, c.match) != ("dog", "optax"),  # which begins with a rate there
    ),
)
#: Optimizers of optax that take no complex parameters.
_REAL = ("adadelta", "adan", "fromage", "lion", "rprop", "sign_sgd", "signum")
_REAL += ("noisy_sgd", "optimistic_adam", "optimistic_gradient_descent", "polyak_sgd", "sm3")
LEFT_OUT = (
    Reason(
        "alias_test.py",
        ("test_optimization", "test_state_shape_dtype_shard_stability"),
        "Complex parameters, which optax's do not support.",
        lambda c: c.name in _REAL and _complex(c),
    ),
    Reason(
        "alias_test.py",
        ("test_optimization",),
        "No learning rate, without which optax's do not get to the minimum.",
        lambda c: c.name in ("adadelta", "adafactor") and "learning_rate" not in c.keywords["opt_kwargs"],
    ),
    Reason(
        "alias_test.py",
        ("test_optimization",),
        "The Rosenbrock function, whose minimum the sign of a gradient finds by a falling learning rate alone.",
        lambda c: c.name in ("sign_sgd", "signum") and c.keywords["target"].__name__ == "_setup_rosenbrock",
    ),
    Reason(
        "schedule_test.py",
        ("test_optimization",),
        "Polyak's step, which bounds its learning rate itself and has no argument of that name.",
        lambda c: c.name == "polyak_sgd",
    ),
    Reason(
        "common_test.py",
        ("test_optimizers_can_be_wrapped_in_inject_hyperparams",),
        "`reduce_on_plateau` under `inject_hyperparams`, which it does not support.",
        lambda c: c.keywords["wrapper_name"] == "reduce_on_plateau",
    ),
    Reason(
        "schedule_free_test.py",
        ("test_explicit_dtype",),
        "Complex parameters under `schedule_free` with a real state, which it does not support.",
        lambda c: c.keywords["params_dtype"] == "complex64" and c.keywords["state_dtype"] != "complex64",
    ),
)
#: Optimizers of optax whose `init` computes with the parameters.
_LOOKING = ("dadapt_adamw", "dog", "dowg", "prodigy", "schedule_free_adamw", "schedule_free_sgd")
#: What passes here.
FAILS_ITSELF = (
    Reason(
        "float64_test.py",
        ("test_mixed_dtype_input_outputs",),
        "The numbers that its state has for all parameters together begin as float32 and come back as float64.",
        lambda c: c.name == "prodigy",
    ),
    Reason(
        "sharding_test.py",
        ("test_init_with_abstract_input",),
        "Its `init` makes arrays of the parameters to learn their dtype, so that it takes no abstract ones.",
        lambda c: c.name in _LOOKING,
    ),
    Reason(
        "sharding_test.py",
        ("test_state_sharding_type_init_match_update", "test_state_sharding_type_preserved_with_jit"),
        "Its sums flatten the parameters, which JAX refuses where the axes of a mesh are explicit.",
        lambda c: c.name in ("dadapt_adamw", "prodigy"),
    ),
)
#: What does not pass with any factory, whosever it is.
FAILS_ANYHOW = (
    Reason(
        "freezing_test.py",
        ("test_selective_bad_structure",),
        "The test asks for the words that an older JAX had for trees that do not match.",
    ),
)


def expected(case: Case, theirs: bool = False) -> str:
    """How the case is said to end, with our factories or optax's."""
    if why(case, LEFT_OUT):
        return "left out"
    return "fails" if why(case, (*FAILS_ANYHOW, *(FAILS_ITSELF if theirs else DIFFERS))) else "passes"


def outcome(case: Case, theirs: bool = False) -> str:
    """How the case ends."""
    return wheel_suite.outcome(functools.partial(case.run, theirs), RAISED)
