"""Who may do what with a model, and when: one request at a time, a few that wait, and the rest are sent away."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TypeVar

from .model import Model
from .refusals import Refusal
from .store import Store

T = TypeVar("T")


class Desk:
    """The requests of one token. At most `places` of them are in hand, the one that is worked on among them."""

    def __init__(self, store: Store, key: str, places: int) -> None:
        self._store, self._key, self._places = store, key, places
        self._waiting, self._seconds = 0, 0.0
        self._turn = asyncio.Lock()
        self._model: Model | None = None

    def enter(self) -> None:
        """Take a place in the queue, which `leave` frees; status 429 if all are taken."""
        if self._waiting >= self._places:
            wait = max(1, math.ceil(self._seconds * self._waiting))
            message = f"{self._waiting} requests of this model are waiting, and no more may. Try again in {wait} s."
            raise Refusal(429, "queue_full", message, {"Retry-After": str(wait)})
        self._waiting += 1

    def leave(self) -> None:
        """Give the place back."""
        self._waiting -= 1

    async def do(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread, after what came before."""
        async with self._turn:
            start = time.monotonic()
            try:
                return await asyncio.to_thread(self._safely, work)
            finally:
                self._seconds = time.monotonic() - start

    def _safely(self, work: Callable[[], T]) -> T:
        """After any error the model is read from the disk again: what is there was acknowledged, nothing else was."""
        try:
            return work()
        except OSError as error:
            self._model = None
            message = f"The model could not be written or read ({error.strerror}). It is as it was before."
            raise Refusal(507, "storage", message) from error
        except BaseException:
            self._model = None
            raise

    def model(self) -> Model:
        """The model; status 404 if there is none."""
        self._model = self._model or self._store.open(self._key)
        if self._model is None:
            raise Refusal(404, "no_model", "This token has no model. Create one with `PUT /model`.")
        return self._model

    def create(self, make: Callable[[], Model]) -> bool:
        """Make a model and write it; whether it is new. The same request again, before a step, is no error."""
        there, new = self._model or self._store.open(self._key), make()
        if there is not None:
            self._model = there
            if there.step_count == 0 and there.request == new.request:
                return False
            message = "This token has a model. Delete it with `DELETE /model` before another one is made."
            raise Refusal(409, "model_exists", message, step=there.step_count)
        new.save(self._store.path(self._key))
        self._model = new
        return True

    def step(self, take: Callable[[Model], bool]) -> Model:
        """Take a step and write the model. Nobody hears of a step that is not on the disk."""
        model = self.model()
        if take(model):
            model.save(self._store.path(self._key))
        return model

    def delete(self) -> None:
        """Forget the model."""
        self.model()
        self._model = None
        self._store.delete(self._key)
