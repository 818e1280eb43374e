"""The HTTP interface: what may be asked of a model, and how answers and refusals look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import scirs2_adapters
from scirs2_adapters.core.portable import host
from scirs2_adapters.core.portable.state import save

from .bodies import MEDIA_TYPE, decode, encode
from .desk import Desk
from .model import Model, check_finite, created, digest
from .refusals import Refusal
from .store import Store

#: Says in an answer with parameters which step they are of.
STEP = "Scirs2-Step"
#: Seconds in which a body must have come, for it holds a place in the queue.
BODY_SECONDS = 60.0


def application(store: Store, *, queue: int = 8, max_body: int = 1 << 28) -> FastAPI:
    """The service of a store.

    Arguments:
      store: where models are, and who may use them.
      queue: requests of one model that may wait or be worked on.
      max_body: most bytes of a request's body.
    """
    service = Service(store, queue, max_body)
    app = FastAPI(title="scirs2", version=scirs2_adapters.__version__, docs_url=None, redoc_url=None)
    app.add_api_route("/health", _health, methods=["GET"])
    app.add_api_route("/model", service.create, methods=["PUT"])
    app.add_api_route("/model", service.describe, methods=["GET"])
    app.add_api_route("/model", service.delete, methods=["DELETE"])
    app.add_api_route("/model/steps/{number}", service.step, methods=["POST"])
    app.add_api_route("/model/parameters", service.parameters, methods=["GET"])
    app.add_api_route("/model/state", service.state, methods=["GET"])
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _failed)
    return app


class Service:
    """What is done for each route. Work with arrays is done in threads, one request of a model at a time."""

    def __init__(self, store: Store, queue: int, max_body: int) -> None:
        self._store, self._max_body = store, max_body
        self._desks = {key: Desk(store, key, queue) for key in store.keys}

    async def create(self, request: Request, optimizer: str, hyperparameters: str = "{}") -> Response:
        """Make a model of the parameters in the body."""

        def make() -> Model:
            sent = digest(optimizer.encode(), hyperparameters.encode(), body)
            params = _arrays(request, body)
            check_finite("parameter", params)
            return created(optimizer, _object(hyperparameters), params, sent)

        async with self._admitted(request) as (desk, body):
            new = await desk.do(lambda: desk.create(make))
            return JSONResponse({"created": new}, 201 if new else 200)

    async def step(self, request: Request, number: int, value: float | None = None) -> Response:
        """Take a step by the gradients in the body, and answer with the new parameters."""

        def take(model: Model) -> bool:
            return model.step(number, _arrays(request, body), value, digest(repr(value).encode(), body))

        async with self._admitted(request) as (desk, body):
            return await desk.do(lambda: _parameters(desk.step(take)))

    async def parameters(self, request: Request) -> Response:
        """The parameters as they are."""
        async with self._admitted(request) as (desk, _):
            return await desk.do(lambda: _parameters(desk.model()))

    async def state(self, request: Request) -> Response:
        """The optimizer's state, as a file that `scirs2_adapters.state.load` takes."""
        async with self._admitted(request) as (desk, _):
            return await desk.do(lambda: _state(desk.model()))

    async def describe(self, request: Request) -> Response:
        """What the model is, and how many steps it has taken."""
        async with self._admitted(request) as (desk, _):
            return await desk.do(lambda: JSONResponse(desk.model().describe()))

    async def delete(self, request: Request) -> Response:
        """Forget the model."""
        async with self._admitted(request) as (desk, _):
            await desk.do(desk.delete)
            return Response(status_code=204)

    @asynccontextmanager
    async def _admitted(self, request: Request) -> AsyncIterator[tuple[Desk, bytes]]:
        """The desk of the request's token, where it has a place inside the block, and the request's body.

        The body of a refused request is read too and dropped: an answer that comes before the body has been sent is
        lost to most clients.
        """
        try:
            desk = self._desks[self._store.key(request.headers.get("Authorization"))]
            desk.enter()
        except Refusal:
            await _body(request, 0)
            raise
        try:
            body = await _body(request, self._max_body)
            if body is None:
                message = f"A body must have {self._max_body} bytes at most. Send fewer parameters, or serve with "
                raise Refusal(413, "body_too_large", f"{message}a higher `--max-body`.")
            yield desk, body
        finally:
            desk.leave()


async def _body(request: Request, limit: int) -> bytes | None:
    """The body, read to its end; None if it is longer than the limit, and then no more of it is kept."""
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size <= limit:
                    pieces.append(piece)
                else:
                    pieces.clear()
    except TimeoutError:
        message = f"The body must come within {BODY_SECONDS:.0f} s. Received: {size} bytes of it."
        raise Refusal(408, "body_too_slow", message, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Refusal(400, "disconnected", f"The connection ended after {size} bytes of the body.") from None
    return b"".join(pieces) if size <= limit else None


def _arrays(request: Request, body: bytes) -> dict[str, np.ndarray]:
    content = request.headers.get("Content-Type", "none")
    if content.partition(";")[0].strip().lower() != MEDIA_TYPE:
        message = f"`Content-Type` must be {MEDIA_TYPE}, with a body in the safetensors format. Received: {content}."
        raise Refusal(415, "wrong_content_type", message)
    try:
        return decode(body)
    except ValueError as error:
        message = f"The body must be in the safetensors format. Received: {len(body)} bytes ({error})."
        raise Refusal(400, "wrong_body", message) from None


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        message = f'`hyperparameters` must be a JSON object such as {{"learning_rate": 0.01}}. Received: {text[:100]}.'
        raise Refusal(422, "invalid_hyperparameters", message)
    return value


def _parameters(model: Model) -> Response:
    body = encode("scirs2 serve", "params", model.params)
    return Response(body, media_type=MEDIA_TYPE, headers={STEP: str(model.step_count)})


def _state(model: Model) -> Response:
    with TemporaryDirectory(prefix="scirs2-serve-") as folder:
        path = Path(folder) / "state.safetensors"
        save(host.read(model.optimizer), path, durable=False)
        return Response(path.read_bytes(), media_type=MEDIA_TYPE, headers={STEP: str(model.step_count)})


async def _health() -> dict[str, str]:
    return {"status": "ok", "version": scirs2_adapters.__version__}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.content, error.status, error.headers)


async def _malformed(request: Request, error: Exception) -> Response:
    """Words of the address that are missing or of another type."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    message = f"`{first['loc'][-1]}` cannot be used: {first['msg']}. Received: {str(first.get('input'))[:100]}."
    return JSONResponse({"error": "malformed", "message": message}, 422)


async def _unknown(request: Request, error: Exception) -> Response:
    """A path or a method that there is not."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}. `/openapi.json` has all there is."
    return JSONResponse({"error": "no_route", "message": message}, error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of the service, whose traceback goes to its log."""
    message = f"The service failed ({type(error).__name__}); its log says where. The model is as it was before."
    return JSONResponse({"error": "internal", "message": message}, 500)
