"""What a request is refused with: a status, a word for programs, and a sentence for people, as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scirs2_adapters.core.errors import ArgumentTypeError, ArgumentValueError


class Refusal(Exception):
    """A request is answered with `{"error": code, "message": message}` and, where it helps, further `facts`."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, **facts: object
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.content = {"error": code, "message": message, **facts}


@contextmanager
def refusing(code: str) -> Iterator[None]:
    """Errors of arguments, which say themselves what to do, as status 422."""
    try:
        yield
    except (ArgumentValueError, ArgumentTypeError) as error:
        raise Refusal(422, code, str(error)) from None
