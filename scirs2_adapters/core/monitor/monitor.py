"""Who takes the records of an optimizer: `Monitor`, and how it is put around a method of one object and off again."""

from __future__ import annotations

import functools
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from ..errors import bad_type
from ..fields import Field
from .record import Record, Seen

log = logging.getLogger("scirs2_adapters")
#: Takes each record.
Sink = Callable[[Record], object]
#: Measures a step that has been made.
Finish = Callable[..., Seen]

_CALL = "monitor"
EVERY = Field(100, "", "must be a whole number >= 1", lambda n: n >= 1, kind=int)


class Monitor:
    """Takes a record of each N-th step of one optimizer, until `remove`, or to the end of a `with` block.

    `records` holds the last ones. Each is logged, level INFO, by the logger "scirs2_adapters", and passed to the
    functions that `to` names. Neither the optimizer nor its parameters are kept alive.
    """

    def __init__(self, name: str, every: int, to: Sink | Iterable[Sink], keep: int) -> None:
        self.optimizer, self.every = name, EVERY.check(_CALL, "every", every)
        self.records: deque[Record] = deque(maxlen=EVERY.check(_CALL, "keep", keep))
        self.steps = 0
        self._sinks = _sinks(to)
        self._open: tuple[Finish, float] | None = None
        self._off: list[Callable[[], None]] = []

    @property
    def recording(self) -> bool:
        """Whether the step that is being made is recorded."""
        return self._open is not None

    def before(self, begin: Callable[[], Finish]) -> None:
        """A step begins. Where it is one that is recorded, `begin` keeps what there is before it, and returns the
        function that measures after it.
        """
        self._open = None
        self.steps += 1
        if self.steps % self.every == 0:
            self._open = begin(), time.perf_counter()

    def after(self, *arguments: object) -> None:
        """The step has been made; the function that measures it is called with these arguments."""
        if self._open is not None:
            seconds = time.perf_counter() - self._open[1]
            (finish, _), self._open = self._open, None
            self.take(self.steps, seconds, finish(*arguments))

    def take(self, step: int, seconds: float | None, seen: Seen) -> Record:
        """Keep and pass on the record of this step."""
        record = Record(self.optimizer, step, seconds, tuple(seen.groups), *seen[1:])
        self.records.append(record)
        log.info("%s", record)
        for sink in self._sinks:
            sink(record)
        return record

    def until(self, off: Callable[[], None]) -> Self:
        """What `remove` is to do."""
        self._off.append(off)
        return self

    def remove(self) -> None:
        """Watch no more: the optimizer is as it was before. The records stay."""
        while self._off:
            self._off.pop()()
        self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def _sinks(to: Sink | Iterable[Sink]) -> tuple[Sink, ...]:
    sinks = (to,) if callable(to) else tuple(to) if isinstance(to, (list, tuple)) else None
    if sinks is None or not all(map(callable, sinks)):
        raise bad_type(_CALL, "to", "must be a function that takes a record, or a list of such", to)
    return sinks


class _Watched:
    """Replaces a method of one object while watchers are around it."""

    def __init__(self, owner: object, method: str) -> None:
        self._owner, self._method = weakref.ref(owner), method
        self.replaced = vars(owner).get(method)
        self.watchers: list[Watcher] = []
        functools.update_wrapper(self, getattr(type(owner), method))

    def __call__(self, *arguments: object, **keywords: object) -> object:
        owner = self._owner()
        run = self.replaced or functools.partial(getattr(type(owner), self._method), owner)
        watchers = tuple(self.watchers)
        for before, _ in watchers:
            before(owner, *arguments, **keywords)
        result = run(*arguments, **keywords)
        for _, after in watchers:
            after(owner, *arguments, **keywords)
        return result


#: What is called before and after, with the object and the arguments of its method.
Watcher = tuple[Callable[..., None], Callable[..., None]]


def around(owner: object, method: str, watcher: Watcher) -> Callable[[], None]:
    """Have a method of this object watched; what is returned ends it. The object is not kept alive."""
    current = vars(owner).get(method)
    watched = current if isinstance(current, _Watched) else _Watched(owner, method)
    vars(owner)[method] = watched
    watched.watchers.append(watcher)
    known = weakref.ref(owner)

    def off() -> None:
        here = known()
        watched.watchers.remove(watcher)
        if here is None or watched.watchers or vars(here).get(method) is not watched:
            return
        if watched.replaced is None:
            del vars(here)[method]
        else:
            vars(here)[method] = watched.replaced

    return off
