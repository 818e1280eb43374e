"""How a check ends: it passes, fails with what was expected and what came, or does not apply for a reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


class CheckFailed(AssertionError):
    """The optimizer does not do what a check expects."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected, self.came = expected, came


class NotApplicable(Exception):
    """A check has no meaning for this optimizer or framework; the message says why."""


class SubjectError(ValueError):
    """What was asked for cannot be checked at all: it cannot be imported, or cannot be made.

    The message names the options of `scirs2 check`.
    """

    def spelled(self, options: Mapping[str, str]) -> SubjectError:
        """The same error, with options as they are called elsewhere."""
        return SubjectError(re.sub(r"`--(framework|against|with)\b", lambda flag: f"`{options[flag[1]]}", str(self)))


@dataclass(frozen=True)
class Outcome:
    """What became of one check. `why` is said where it does not apply."""

    name: str
    says: str
    expected: str = ""
    came: str = ""
    why: str = ""
    seconds: float = 0.0

    @property
    def status(self) -> str:
        """ "pass", "FAIL" or "not applicable"."""
        return "FAIL" if self.expected else "not applicable" if self.why else "pass"


def expect(true: bool, expected: str, came: str) -> None:
    """Fail unless something is true."""
    if not true:
        raise CheckFailed(expected, came)


def told(error: BaseException) -> str:
    """An exception on one line, its text bounded."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:157] + '...'}"
