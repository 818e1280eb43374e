"""AMSGrad: Reddi et al., arXiv 1904.09237, Algorithm 2, which is Adam's twin with another default."""

import functools

from . import adam
from ._walk import as_is, walk


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, functools.partial(adam.step, amsgrad=True), hyper=hyper, store=store)
