"""Tiger: Su, kexue.fm/archives/9512. Differs from it as pytorch_optimizer's does: no rate of its own by parameter.

That is Signum's twin with other defaults.
"""

import functools

from . import signum
from ._walk import as_is, walk


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    step = functools.partial(signum.step, learning_rate=1e-3, momentum=0.965, weight_decay=1e-2)
    return walk(params, grads, step, hyper=hyper, store=store)
