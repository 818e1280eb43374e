"""Bodies of requests and answers: arrays by name in the safetensors format, bfloat16 as ml_dtypes has it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scirs2_adapters.core.errors import bad_type, require
from scirs2_adapters.core.portable.file import DTYPES

require("serve", {"safetensors": ("safetensors", "0.5"), "ml_dtypes": ("ml_dtypes", "0.4")})

import ml_dtypes  # noqa: E402
import safetensors  # noqa: E402
from safetensors.numpy import save  # noqa: E402

#: The media type of every body that is not JSON.
MEDIA_TYPE = "application/octet-stream"
#: numpy's dtypes by the format's names.
_NUMPY = {theirs: np.dtype(carrier) for theirs, carrier in DTYPES.values()} | {"BF16": np.dtype(ml_dtypes.bfloat16)}


def encode(call: str, argument: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as a body. What is neither an array nor of a dtype that the format has is refused."""
    if not isinstance(arrays, Mapping):
        raise bad_type(call, argument, "must be a dict of numpy arrays by name", arrays)
    for name, x in arrays.items():
        if not isinstance(name, str) or not isinstance(x, np.ndarray) or x.dtype not in _NUMPY.values():
            worded = f"must be a numpy array, named by a string, of dtype {', '.join(DTYPES)}"
            raise bad_type(call, f"{argument}[{name!r}]", worded, x)
    # ascontiguousarray would make an array of no axes one of one axis
    return save({name: np.asarray(x, order="C") for name, x in arrays.items()})


def decode(body: bytes) -> dict[str, np.ndarray]:
    """Copies of the arrays in a body, in the order of their names; ValueError if it has none."""
    try:
        entries = sorted(safetensors.deserialize(body))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    return {name: _array(name, **entry) for name, entry in entries}


def _array(name: str, dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype not in _NUMPY:
        raise ValueError(f"{name!r} has dtype {dtype}, which is none of {', '.join(_NUMPY)}")
    return np.frombuffer(bytearray(data), _NUMPY[dtype]).reshape(shape)


def from_carrier(x: np.ndarray, dtype: str) -> np.ndarray:
    """An array as numpy has it, of what carries its numbers in a file."""
    return x.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else x
