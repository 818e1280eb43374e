"""What Muon takes, which parameters it leaves to AdamW, and what matrix each of the others is."""

import re
from collections.abc import Hashable, Sequence
from types import SimpleNamespace

from ..errors import bad_value
from ..fields import choice, count, flag, fraction, is_number, nonnegative, numbers_tuple, patterns, positive
from ..formulas import ema, nesterov_mix
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST, Matrix
from ..newton_schulz import SCHEDULES, orthogonalize
from ..ops import Array, Scalar
from ..rule import Rule
from ..slots import Leaf
from . import _muon_names as names
from .adamw import AdamW

#: AdamW's learning rate for Muon's, as its author has them: 3e-4 beside 0.02.
RATIO = 0.015
#: The polynomials by name.
NAMED = ("constant", *SCHEDULES)
#: How a step is scaled by the matrix's shape.
ADJUST = ("original", "match_rms_adamw", "spectral_norm", "none")
UNNAMED = (
    "cannot be told apart: pass named parameters, or give embeddings and heads a group with route_all=True; "
    "of hidden matrices alone nothing is wrong"
)
STACKED = "say batch_axes=1 of a stack"


class MatrixRule(Rule, time_dependence="none"):
    """Fields of Muon, and its routing: it steps hidden matrices, AdamW steps the rest."""

    momentum = fraction(0.95, "decay rate of the average of gradients")
    nesterov = flag(True, "look ahead along the average")
    ns_coefficients = numbers_tuple((3.4445, -4.7750, 2.0315), "polynomial of the Newton-Schulz iteration")
    ns_steps = count(5, "number of Newton-Schulz iterations", static=True)
    ns_schedule = choice(
        "constant", "polynomials of the iterations: ns_coefficients for all, or others by name", *NAMED
    )
    eps = positive(1e-7, "least norm by which the iteration divides")
    adjust = choice("original", "scale of the step by the matrix's shape", *ADJUST)
    rms_rate = nonnegative(0.2, "size of a step of match_rms_adamw; 0.2 is that of AdamW's")
    adamw_learning_rate = nonnegative(None, "learning rate of the AdamW part; None is adamw_ratio * learning_rate")
    adamw_beta1 = fraction(0.9, "beta1 of the AdamW part")
    adamw_beta2 = fraction(0.999, "beta2 of the AdamW part")
    adamw_eps = nonnegative(1e-8, "eps of the AdamW part")
    adamw_weight_decay = nonnegative(None, "weight decay of the AdamW part; None is weight_decay")
    route_all = flag(False, "step everything by AdamW: for groups of embeddings and heads")
    exclude_layers = patterns("what has a match of one of these in its name is stepped by AdamW")
    exclude_embeddings = flag(True, "step embeddings by AdamW", structural=False)
    weight_decay = nonnegative(0.1, "weight decay, times the learning rate; for both parts")
    adamw_ratio = nonnegative(
        None, "the AdamW part's rate for one of 1, where it has none; None is 0.015, and 1 with match_rms_adamw"
    )
    layout = choice(None, "how kernels lie; None is as the framework's layers have them", OUTPUTS_FIRST, INPUTS_FIRST)
    batch_axes = count(0, "so many first axes of a parameter of at least two more count matrices", static=True, least=0)
    #: Whether the look-ahead corrects the young average.
    early = False
    #: Whether names are looked at: those of a parameter's "layer", "embedding" anywhere in its path, or "none".
    by_name = "layer"
    #: Whether parameters of more axes than two are matrices.
    kernels = True
    #: The ratio if `adamw_ratio` is None and steps are not scaled to be as large as AdamW's.
    ratio = RATIO
    #: Whether the iteration runs in bfloat16.
    half = False
    #: Whether the AdamW part decays by Muon's learning rate.
    whole_decay = False

    def other(self):
        shared = {k: getattr(self, k) for k in ("weight_decay", "maximize")}
        adamw = {k: getattr(self, f"adamw_{k}") for k in ("beta1", "beta2", "eps", "weight_decay")}
        if self.whole_decay and is_number(self.adamw_ratio) and adamw["weight_decay"] is not None:
            adamw["weight_decay"] = adamw["weight_decay"] / self.adamw_ratio
        values = {k: v for k, v in adamw.items() if v is not None} | {"nesterov": self.early and self.nesterov}
        return AdamW.build(shared | {"learning_rate": self._adamw_rate()} | values, match=self.match)

    def check(self, spell, call):
        if self.whole_decay and is_number(self.adamw_ratio) and not self.adamw_ratio:
            worded = f"must be above 0 with match={self.match!r}, where decay does not follow it"
            raise bad_value(call, spell("adamw_ratio"), worded, self.adamw_ratio)

    def _adamw_rate(self):
        """The rate of the AdamW part: a part of Muon's, so that it follows its schedule and warm-up."""
        if is_number(self.learning_rate) and self.learning_rate == 0:  # a step that only makes the memory
            return 0.0
        if self.adamw_learning_rate is not None:
            return self.adamw_learning_rate
        usual = 1.0 if self.adjust == "match_rms_adamw" else self.ratio
        ratio = usual if self.adamw_ratio is None else self.adamw_ratio
        return self.learning_rate if is_number(ratio) and ratio == 1 else ratio * self.learning_rate

    def misfit(self, leaf: Leaf) -> str:
        if self.route_all:
            return "route_all is set"
        if leaf.matrix is not None:
            return "" if leaf.matrix.inputs else "its dimension numbers make it no matrix"
        return "fewer than two axes" if len(leaf.shape) < 2 else ""

    def unwanted(self, leaf: Leaf) -> str:
        if any(re.search(pattern, leaf.name) for pattern in self.exclude_layers):
            return "exclude_layers"
        if self.by_name == "embedding" and self.exclude_embeddings and "embedding" in leaf.name.lower():
            return "embedding"
        outer = [names.EMBEDDING] * self.exclude_embeddings + [names.HEAD]
        if self.by_name == "layer" and any(names.is_a(kind, leaf.name) for kind in outer):
            return "embedding or head"
        small = names.last_is_a(names.GAIN, leaf.name) or names.layer_is_a(names.NORM, leaf.name)
        if self.by_name == "layer" and small:
            return "bias or gain"
        if leaf.matrix is not None or len(leaf.shape) == 2:
            return ""
        if not self.kernels:
            return "more than two axes"
        return "vector with axes of length 1" if 1 in self.matrix(leaf).sides(leaf.shape) else ""

    def matrix(self, leaf: Leaf) -> Matrix:
        """The inputs and outputs of a parameter of two or more axes."""
        if leaf.matrix is not None:
            return leaf.matrix
        count, inputs_first = len(leaf.shape), (self.layout or leaf.layout) == INPUTS_FIRST
        batch = self.batch_axes if count >= self.batch_axes + 2 else 0
        if not batch and count == 3 and self.by_name == "layer" and names.is_a(names.STACK, leaf.name):
            batch = 1
        axes = tuple(range(batch - count, 0))
        twice = inputs_first and len(axes) > 2 and names.is_a(names.TWO_OUTPUTS, leaf.name)
        cut = -(1 + twice) if inputs_first else 1
        return Matrix(axes[:cut], axes[cut:]) if inputs_first else Matrix(axes[cut:], axes[:cut])

    def view(self, leaf: Leaf) -> Matrix | None:
        matrix = self.matrix(leaf)
        return None if len(leaf.shape) == 2 and matrix.lies_so else matrix

    def coefficients(self, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]:
        mix = {"mix": nesterov_mix(math, self.momentum, t) if self.early else self.momentum}
        return mix | {"gain": 1 - self.momentum, **dict(zip("abc", self.ns_coefficients, strict=True))}

    def averaged(self, g: Array, buffer: Array, gain: Array, mix: Array) -> tuple[Array, Array]:
        """What is made orthogonal, and the average of gradients."""
        buffer = ema(buffer, g, gain)
        return ema(g, buffer, mix) if self.nesterov else buffer, buffer

    def orthogonal(self, xp: Array, u: Array, eps: Array, a: Array, b: Array, c: Array) -> Array:
        """The matrix u, made orthogonal."""
        how = {"steps": self.ns_steps, "schedule": self.ns_schedule, "half": self.half}
        return xp.matrix(orthogonalize, u, eps, a, b, c, **how)

    def leaf_coefficients(self, leaf: Leaf) -> dict[str, float]:
        inputs, outputs = (max(1, side) for side in self.matrix(leaf).sides(leaf.shape))  # a matrix may be empty
        scales = {
            "original": max(1.0, outputs / inputs) ** 0.5,
            "match_rms_adamw": self.rms_rate * max(inputs, outputs) ** 0.5,
            "spectral_norm": (outputs / inputs) ** 0.5,
            "none": 1.0,
        }
        return {"scale": scales[self.adjust]}

    def leaf_key(self, leaf: Leaf) -> Hashable:
        return leaf.shape, leaf.dtype, self.matrix(leaf)

    def doubts(self, leaves: Sequence[Leaf]) -> list[str]:
        mine = [leaf for leaf in leaves if not self.reason(leaf)]
        unnamed = self.by_name != "none" and sum(not leaf.name and len(leaf.shape) == 2 for leaf in mine)
        unsure = [leaf for leaf in mine if self._unsure(leaf)]
        kernels = [leaf for leaf in leaves if self.reason(leaf) == "more than two axes"]
        doubts = self._unmatched("exclude_layers", leaves)
        if unnamed:
            doubts.append(f"{unnamed} matrices have no names, so embeddings and heads among them {UNNAMED}")
        if unsure:
            doubts.append(f"{_some(unsure)} may be a stack of matrices, and is taken for one kernel: {STACKED}")
        if kernels:
            doubts.append(f"{_some(kernels)} would be matrices, were it not for match={self.match!r}")
        return doubts

    def _unmatched(self, field: str, leaves: Sequence[Leaf]) -> list[str]:
        unmatched = [p for p in getattr(self, field) if not any(re.search(p, leaf.name) for leaf in leaves)]
        return [f"{field} has {pattern!r}, which is in no name" for pattern in unmatched]

    def _unsure(self, leaf: Leaf) -> bool:
        """Whether a parameter of three axes may be a stack of matrices, and nothing says that it is none."""
        said = leaf.matrix is not None or len(leaf.shape) != 3 or self.batch_axes
        known = (names.STACK, names.CONVOLUTION, names.TWO_OUTPUTS, names.ATTENDED)
        return not said and not any(names.is_a(kind, leaf.name) for kind in known)


def _some(leaves: Sequence[Leaf]) -> str:
    first = leaves[0].name or f"a parameter of shape {leaves[0].shape}"
    return first if len(leaves) == 1 else f"{first} and {len(leaves) - 1} more"
