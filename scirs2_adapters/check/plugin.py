"""pytest's option `--scirs2-check package.module:Class`: each check of an optimizer as a test.

pytest imports this file in every run of an environment where scirs2 is installed, so it imports nothing but pytest,
and does nothing unless the option is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .run import Check


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, those of `scirs2 check`."""
    group = parser.getgroup("scirs2", "checks of an optimizer")
    group.addoption("--scirs2-check", metavar="PACKAGE.MODULE:CLASS", help="an optimizer's class or factory to check")
    group.addoption("--scirs2-framework", default="torch", help="torch, keras, optax or sklearn (default: torch)")
    group.addoption("--scirs2-against", default="", metavar="NAME", help="an optimizer of scirs2 to walk beside")
    group.addoption("--scirs2-with", default="", metavar="ARGUMENTS", help="arguments, such as lr=0.1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the checks before others choose among the tests."""
    path = config.getoption("--scirs2-check")
    if path:
        items += Checks.from_parent(session, name=path).collect()


class Checks(pytest.Collector):
    """All checks of one optimizer."""

    def collect(self) -> Iterator[pytest.Item]:
        from .outcome import SubjectError
        from .run import checks, driver_of

        option = self.config.getoption
        try:
            driver = driver_of(self.name, option("--scirs2-framework"), option("--scirs2-with"))
            selected = checks(driver, option("--scirs2-against"))
        except SubjectError as error:
            options = {name: f"--scirs2-{name}" for name in ("framework", "against", "with")}
            raise pytest.UsageError(str(error.spelled(options))) from error
        for check in selected:
            yield CheckItem.from_parent(self, name=check.name, check=check)


class CheckItem(pytest.Item):
    """One check."""

    def __init__(self, name: str, parent: pytest.Collector, check: Check) -> None:
        super().__init__(name, parent)
        self.check = check

    def runtest(self) -> None:
        from .outcome import NotApplicable

        try:
            self.check.function()
        except NotApplicable as reason:
            pytest.skip(str(reason))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        return f"{self.check.says}\n{excinfo.value}"

    def reportinfo(self) -> tuple[str, None, str]:
        return f"{self.parent and self.parent.name}", None, self.name
