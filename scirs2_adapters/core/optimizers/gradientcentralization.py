"""Gradient centralization before any optimizer."""

from ..errors import bad_value
from ..slots import LAST
from ..wrapper import Wrapper
from ._outputs import LAYOUT, centered, layer_view


class GradientCentralization(Wrapper, by_output=True):
    """The base with gradients whose mean is 0 for each output of a layer, so that steps leave the mean of its weights
    as it is.

    g = g - mean of g over the inputs of each output                (of matrices and kernels; vectors stay as they are)

    Around what sums over all parameters, as Prodigy and DoG do, it is refused.

    Paper: Yong et al. 2020, arXiv 2004.01461.
    Differs from the paper: nothing. Its embeddings are centralized too, token by token, as in its authors' code.
    """

    layout = LAYOUT
    looks_at_names = True

    def check(self, spell, call):
        if self.base.model_slots() or self.name in self.base.label:
            worded = "must be an optimizer that sums nothing over the model, and not centralized already"
            raise bad_value(call, "base", worded, self.base.label)

    def view(self, leaf):
        view, layer = self.base.view(leaf), layer_view(self.layout, leaf)
        if view is not None and view.projected and len(leaf.shape) == 2:
            return layer._replace(rank=view.rank, share=view.share, projected=view.projected)
        return layer if view is None else view

    def wrap_gradient(self, xp, g, p, /):
        others = any(slot.axis for slot in self.base.all_slots())
        return centered(xp, g, along_rows=not others or xp.view.lines == LAST)
