"""APOLLO-Mini: Zhu et al., arXiv 2412.05270, section 4.2, which is APOLLO's twin with other defaults."""

import functools

from . import apollo
from ._walk import as_is, walk

DEFAULTS = {"rank": 1, "scale": 128.0, "scale_type": "tensor"}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, functools.partial(apollo.step, **DEFAULTS), hyper=hyper, store=store)
