"""What does not pass, as data with reasons: where ours differs, and what Keras leaves out on a backend.

All of it is strict: a case of which it is said must do so, and no other may. To empty a list is to say that its cases
pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..wheel_suite import Reason, why
from .cases import Case, cases

#: What a case raises that fails.
RAISED = (AssertionError, AttributeError, TypeError, ValueError)
#: Backend -> what it is called on the page.
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
#: Cases of `optimizer_sparse_test.py` in which on JAX the update of a variable is dense where Keras' is sparse.
DENSE = ("adadelta", "adafactor", "adagrad", "loss_scale_optimizer_sgd", "rmsprop", "sgd")
#: Cases of it in which on TensorFlow rows are written where Keras writes the whole of a variable.
BY_ROWS = (
    "adadelta", "adam", "adam_amsgrad", "adamax", "adamw", "adamw_amsgrad", "ftrl", "lion", "rmsprop",
    "rmsprop_momentum", "rmsprop_momentum_centered", "sgd_momentum", "sgd_momentum_nesterov",
)  # fmt: skip


#: Tests that run once by `apply` and once by `stateless_apply`.
LOSS_SCALE = (
    "test_finite_step",
    "test_finite_step_with_inner_loss_scale",
    "test_infinite_step",
    "test_finite_step_with_overwrite",
    "test_downscaling",
    "test_upscaling",
    "test_iterations_update",
    "test_stateless_apply",
)


def _as_typed(case: Case) -> bool:
    """It fails as it comes; with `match="keras"` it passes."""
    return case.match is None


OTHER_DEFAULTS = (
    ("Adadelta", "test_single_step"),
    ("Adagrad", "test_single_step"),
    ("AdamW", "test_single_step"),
    ("Lion", "test_correctness_with_golden"),
    ("Muon", "test_muon_single_step"),
    ("RMSprop", "test_single_step"),
    ("RMSprop", "test_correctness_with_golden"),
    ("SGD", "test_correctness_with_golden"),
)
_GOLDEN = ("test_single_step", "test_correctness_with_golden", "test_muon_single_step")
DIFFERS = (
    Reason(
        "",
        ("test_weight_decay",),
        "Weight decay is added to the gradient, as in PyTorch; in Keras it is decoupled.",
        lambda c: _as_typed(c) and c.name in ("Adadelta", "Adagrad", "Adam", "Adamax", "Nadam", "RMSprop"),
    ),
    Reason(
        "lamb_test.py",
        ("test_weight_decay",),
        "Weight decay is part of the step that the trust ratio scales, as in the paper; in Keras it is decoupled.",
        _as_typed,
    ),
    Reason(
        "adamw_test.py",
        ("test_correctness_with_golden",),
        "epsilon is added to the corrected root; Keras adds it to the uncorrected one.",
        _as_typed,
    ),
    Reason(
        "",
        _GOLDEN,
        "Other defaults: those of PyTorch, or of the paper.",
        lambda c: _as_typed(c) and (c.name, c.test) in OTHER_DEFAULTS,
    ),
    Reason(
        "nadam_test.py",
        _GOLDEN,
        "Momentum is warmed up by `momentum_decay=4e-3`, as in PyTorch and the paper; in Keras by 1.",
        _as_typed,
    ),
    Reason(
        "adafactor_test.py",
        ("test_correctness_with_golden",),
        "`relative_step=False` takes the learning rate without a bound; in Keras it changes nothing.",
        _as_typed,
    ),
    Reason(
        "muon_test.py",
        ("test_muon_weight_decay", "test_adamw_weight_decay", "test_adamw_single_step"),
        "The test calls a part of a step, in which Keras does not decay or decays alone. Decay is in the step here.",
    ),
    Reason(
        "",
        (
            "test_Newton_Schulz",
            "test_build_with_empty_var_list",
            "test_should_use_adamw",
            "test_lr_adjust_none",
            "test_lr_adjust_2d",
        ),
        "The test asks for a private method or attribute of Keras' class.",
    ),
    Reason(
        "adamw_test.py",
        ("test_weight_decay_is_none",),
        "`weight_decay=None` means none, as it does in Keras' other classes.",
    ),
    Reason(
        "",
        (),
        "It is an error here too, in other words. Lion takes `beta_1=0` besides.",
        lambda c: c.test.startswith("test_invalid_"),
    ),
    Reason(
        "optimizer_sparse_test.py",
        ("test_sparse_gradients",),
        "JAX's sparse gradients are made dense; the result is the same.",
        lambda c: c.backend == "jax" and c.words[0] in DENSE,
    ),
    Reason(
        "optimizer_sparse_test.py",
        ("test_sparse_gradients",),
        "The rows of a gradient are written apart, where Keras writes all of a variable; the result is the same.",
        lambda c: c.backend == "tensorflow" and c.words[0] in BY_ROWS,
    ),
)
LEFT_OUT = (
    Reason(
        "optimizer_sparse_test.py",
        ("test_sparse_gradients", "test_sparse_correctness"),
        "Keras has no sparse tensors on this backend.",
        lambda c: c.backend == "torch",
    ),
    Reason(
        "",
        ("test_clipnorm_indexed_slices", "test_tf_checkpointing", "test_mixed_with_tf_variables"),
        "The test is about TensorFlow's tensors, variables or checkpoints.",
        lambda c: c.backend != "tensorflow",
    ),
    Reason(
        "",
        LOSS_SCALE,
        "On TensorFlow no optimizer has `stateless_apply`.",
        lambda c: c.backend == "tensorflow" and "stateful" not in c.words,
    ),
    Reason(
        "",
        (*LOSS_SCALE, "test_apply_with_no_vars", "test_stateful_apply"),
        "On JAX a `LossScaleOptimizer` or `MultiOptimizer` takes steps by `stateless_apply` alone.",
        lambda c: c.backend == "jax" and "stateless" not in c.words and c.test != "test_stateless_apply",
    ),
)


def left_out(case: Case) -> bool:
    """Whether Keras leaves the case out on its backend."""
    return why(case, LEFT_OUT) is not None


def expected(case: Case) -> str:
    """How the case is said to end."""
    if left_out(case):
        return "left out"
    return "fails" if why(case, DIFFERS) else "passes"


def on_every_backend() -> Iterator[Case]:
    """All cases, as they are on each backend; which of them is this process' makes no difference."""
    for backend in BACKENDS:
        yield from (dataclasses.replace(case, backend=backend) for case in cases())
