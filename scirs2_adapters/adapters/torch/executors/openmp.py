"""The OpenMP runtime of torch, whose threads have just computed the gradients and are awake."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

import torch

from scirs2_adapters.core.cpu.region import NO_REGION, ParallelRegion


@functools.cache
def parallel_region() -> ParallelRegion:
    """The parallel region of torch's runtime; that of no runtime if torch has threads of another kind."""
    if not torch.backends.openmp.is_available():
        return NO_REGION
    theirs = list(map(str, sorted(Path(torch.__file__).parent.glob("lib/libtorch_cpu.*"))))
    # in Linux torch's calls go to a runtime that is visible to all, as one that is preloaded, before the one that it
    # brings; elsewhere a name is of the library that it was linked with, and the visible one another package's
    for library in [None, *theirs] if sys.platform == "linux" else theirs:
        try:
            function = ctypes.CDLL(library).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ParallelRegion(ctypes.cast(function, ctypes.c_void_p).value or 0)
    return NO_REGION
