"""Cautious steps of any optimizer."""

from ..wrapper import Wrapper


class Cautious(Wrapper):
    """The base without what goes against the gradient of the moment: C-AdamW, C-Lion and all others. It is the argument
    cautious=True of every optimizer, under a name.

    k of the n elements of u, the step of the base optimizer without decay, have u * g > 0
    u = u * n / (k + 1) where u * g > 0, else 0

    Paper: Liang, Chen, Liu, Liu 2024, arXiv 2411.16085.
    Differs from the paper: nothing. Its authors' later code and timm have n / max(k, n / 1000) in the place of
    n / (k + 1).
    """

    presets = {"cautious": True}
