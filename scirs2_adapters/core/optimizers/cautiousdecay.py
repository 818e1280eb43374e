"""Cautious weight decay of any optimizer."""

from ..wrapper import Wrapper


class CautiousDecay(Wrapper):
    """The base with weight decay only where its step does not lead away from zero. It is the argument
    cautious_decay=True of every optimizer whose decay acts beside its step, under a name.

    p = p - (lr * weight_decay * p where u * p >= 0, and u, the step of the base optimizer without decay)

    Paper: Chen et al. 2025, arXiv 2510.12402.
    Differs from the paper: nothing.
    """

    presets = {"cautious_decay": True}
