"""Keras' own tests of its optimizers over our classes (see keras_suite/), and strictly, with reasons, what does not
pass. On whatever backend Keras has; `test_tf_backends` runs this file on the others.
"""

from __future__ import annotations

import contextlib
import unittest
from collections.abc import Iterator

import keras
import pytest

import scirs2_adapters

from .keras_suite.cases import Case, cases
from .keras_suite.classes import ABSENT, NAMES
from .keras_suite.expected import DIFFERS, LEFT_OUT, RAISED, expected, left_out, on_every_backend
from .tf_support import KERAS_READS
from .wheel_suite import Reason, outcome, why

pytestmark = KERAS_READS
#: Tests that train a model.
FITS = ("test_ema", "test_ema_with_model_fit", "test_model_fit", "test_with_model")
CASES, REASONS = cases(), (*DIFFERS, *LEFT_OUT)


def marked(case: Case) -> object:
    """The case, expected to fail where there is a reason for it."""
    reason = why(case, DIFFERS)
    marks = [pytest.mark.xfail(reason=reason, strict=True, raises=RAISED)] if reason else []
    return pytest.param(case, id=str(case), marks=marks)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Keras' tests turn the filtering of tracebacks off."""
    before = keras.config.is_traceback_filtering_enabled()
    yield
    (keras.config.enable_traceback_filtering if before else keras.config.disable_traceback_filtering)()


def by_operation(case: Case) -> contextlib.AbstractContextManager[object]:
    """On JAX one operation after another is compiled, where otherwise every step of a loop would be anew."""
    if keras.backend.backend() != "jax" or case.test in FITS:
        return contextlib.nullcontext()
    import jax

    return jax.disable_jit()


@pytest.mark.parametrize("case", [marked(case) for case in CASES if not left_out(case)])
def test_keras_test_passes(case: Case) -> None:
    try:
        with by_operation(case):
            case.run()
    except unittest.SkipTest as why_not:
        pytest.fail(f"Keras leaves this out, and no reason says so: {why_not}")
    except RAISED as error:
        if expected(case) == "fails":  # nobody reads the traceback, which takes longer than the test
            raise error.with_traceback(None) from None
        raise


@pytest.mark.parametrize("case", [pytest.param(c, id=str(c)) for c in CASES if left_out(c)])
def test_keras_leaves_out_what_is_said(case: Case) -> None:
    assert outcome(case.run, RAISED) == expected(case) == "left out"


@pytest.mark.parametrize("reason", REASONS, ids=[f"{i}-{r.file}" for i, r in enumerate(REASONS)])
def test_every_reason_is_of_some_case(reason: Reason) -> None:
    assert any(why(case, REASONS) == reason.reason and reason.covers(case) for case in on_every_backend())


def test_every_optimizer_of_keras_is_tested() -> None:
    assert {name for case in CASES for name in case.names} == {*NAMES}


def test_what_is_not_in_the_catalogue_is_what_is_said() -> None:
    assert {name for name in NAMES if name.casefold() not in scirs2_adapters.names()} == {*ABSENT}
