"""The folder of a service: tokens, and a file for each model. One process has it at a time."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from pathlib import Path
from typing import TextIO

from scirs2_adapters.core.errors import ArgumentValueError, bad_value
from scirs2_adapters.core.portable.file import replacing

from .model import Model, opened
from .refusals import Refusal

_CALL = "scirs2 serve"
#: Shorter ones could be guessed.
_SHORTEST = 16


class Store:
    """Models by token. A file is named by the hash of its token, so that a listing of the folder tells no token."""

    def __init__(self, folder: Path, tokens: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._lock = folder, _locked(folder)
        self.tokens_file = tokens or folder / "tokens"
        if tokens is None and not self.tokens_file.exists():
            with replacing(self.tokens_file) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_text(secrets.token_urlsafe(32) + "\n")
        self.keys = {file_key(token) for token in _tokens(self.tokens_file)}
        for left in folder.glob(".*.safetensors.*.tmp"):  # of a process that was killed while it wrote
            left.unlink()

    def key(self, authorization: str | None) -> str:
        """What a token is known by here; status 401 for one that is not."""
        scheme, _, token = (authorization or "").partition(" ")
        key = file_key(token.strip())
        if scheme.lower() != "bearer" or key not in self.keys:
            came = "no `Authorization` header" if authorization is None else "another token or scheme"
            message = f"`Authorization` must be `Bearer TOKEN` with a token of this service. Received: {came}."
            raise Refusal(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})
        return key

    def path(self, key: str) -> Path:
        """Where the model of a token is, or would be."""
        return self._folder / f"{key}.safetensors"

    def open(self, key: str) -> Model | None:
        """The model as it is on the disk, if there is one."""
        try:
            return opened(self.path(key))
        except FileNotFoundError:
            return None
        except (ArgumentValueError, KeyError, Refusal) as error:
            logging.getLogger(__name__).error("a model cannot be read: %s", error)
            message = "The file of this model cannot be read; the operator has to look at the log."
            raise Refusal(500, "damaged", message) from error

    def delete(self, key: str) -> None:
        """Delete the file of a model."""
        self.path(key).unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()


def file_key(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _tokens(path: Path) -> list[str]:
    words = path.read_text().split()
    if not words or min(map(len, words)) < _SHORTEST:
        worded = f"must be a file with a token of {_SHORTEST} characters or more on each line"
        raise bad_value(_CALL, "tokens", worded, str(path))
    return words


def _locked(folder: Path) -> TextIO:
    """A file whose lock the system takes back when the process ends, in whatever way."""
    import fcntl

    handle = (folder / "lock").open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        holder = handle.read().strip()
        handle.close()
        worded = "must be a folder that no other process serves"
        raise bad_value(_CALL, "folder", worded, str(folder), f"Process {holder} has it.") from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
