"""All checks of one optimizer, and what became of each."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from inspect import getdoc

from .checks import against as walks
from .driver import Driver
from .outcome import CheckFailed, NotApplicable, Outcome, SubjectError, told
from .report import Report
from .subject import find
from .words import rule_of

#: Checks that every framework has, by file, and those of each framework.
COMMON = ("constructor", "gradients", "numbers", "state", "rates", "running")
FRAMEWORKS = {
    "torch": ("torch_groups", "torch_layouts", "torch_calls"),
    "keras": ("keras_training",),
    "optax": ("optax_transformations",),
    "sklearn": ("sklearn_estimators",),
}


@dataclass(frozen=True)
class Check:
    """One check: `state.resume`, what must be true, and the function that fails unless it is."""

    name: str
    says: str
    function: Callable[[], None]


def driver_of(path: str, framework: str, arguments: str = "") -> Driver:
    """The driver of the optimizer at `package.module:Class`."""
    if framework not in FRAMEWORKS:
        raise SubjectError(f"`--framework` must be one of {', '.join(FRAMEWORKS)}. Received: {framework!r}.")
    subject = find(path, arguments)
    try:
        module = import_module(f"{__package__}.drivers.{framework}")
    except ModuleNotFoundError as error:
        raise SubjectError(f"`--framework {framework}` needs {error.name}, which is not installed.") from error
    try:
        with _quiet():
            driver: Driver = module.DRIVER(subject)
            driver.start()
    except SubjectError:
        raise
    except (Exception, SystemExit) as error:
        raise SubjectError(f"`{path}` makes no optimizer of {framework}'s ({told(error)}).") from error
    return driver


def checks(driver: Driver, against: str = "") -> list[Check]:
    """Every check of this optimizer; with `against`, its walk beside that of a rule too."""
    selected = list(_of(driver, (*COMMON, *FRAMEWORKS[driver.framework])))
    if against:
        rules = rule_of(driver, against)
        selected.append(_check("against", partial(walks.same_walk, rules=rules), walks.same_walk.__doc__, driver))
    return selected


def _of(driver: Driver, files: tuple[str, ...]) -> Iterator[Check]:
    for file in files:
        for function in import_module(f"{__package__}.checks.{file}").CHECKS:
            name = f"{file.removeprefix(f'{driver.framework}_')}.{function.__name__}"
            yield _check(name, function, getdoc(function), driver)


def _check(name: str, function: Callable[[Driver], None], text: str | None, driver: Driver) -> Check:
    says = " ".join((text or "").split("\n\n")[0].split())
    return Check(name, says, partial(run_one, function, driver, name))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings, and without what loggers say below an error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def run_one(function: Callable[[Driver], None], driver: Driver, name: str) -> None:
    """Run a check; whatever the optimizer raises is a failure."""
    if name in driver.gaps:
        raise NotApplicable(driver.gaps[name])
    with _quiet():
        try:
            function(driver)
        except (CheckFailed, NotApplicable):
            raise
        except (Exception, SystemExit) as error:
            raise CheckFailed("no error", told(error)) from error


def outcome(check: Check) -> Outcome:
    """What becomes of a check."""
    start = time.perf_counter()
    expected = came = why = ""
    try:
        check.function()
    except CheckFailed as failed:
        expected, came = failed.expected, failed.came
    except NotApplicable as reason:
        why = str(reason)
    return Outcome(check.name, check.says, expected, came, why, time.perf_counter() - start)


def check(path: str, framework: str, *, against: str = "", arguments: str = "") -> Report:
    """Check the optimizer at `package.module:Class`.

    Raises a SubjectError if it cannot be imported or made.
    """
    try:
        selected = checks(driver_of(path, framework, arguments), against)
    except SubjectError as error:
        raise error.spelled({"framework": "framework", "against": "against", "with": "arguments"}) from error
    return Report(path, framework, tuple(map(outcome, selected)))
