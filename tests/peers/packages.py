"""Optimizers of packages for PyTorch, most of them by the authors of the papers, and the twins that walk with them.

A difference between a package and the paper or ours stands beside the case: as an argument that takes it away, as a
bound, or as parameters left out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .problem import EXACT, SHAPES, Case

Parameters = list[torch.nn.Parameter]
Class = Callable[..., torch.optim.Optimizer]
EVERY = tuple(range(len(SHAPES)))
MATRICES = tuple(i for i in EVERY if len(SHAPES[i]) == 2)
#: The largest number that has no effect beside a root: it takes away where an eps is added.
NONE = 1e-30


def called(cls: Class, params: Parameters, options: dict[str, Any]) -> torch.optim.Optimizer:
    """As torch's own."""
    return cls(params, **options)


Build = Callable[[Class, Parameters, dict[str, Any]], torch.optim.Optimizer]


@dataclass(frozen=True)
class PackageCase(Case):
    """`slots` maps our slots to the keys of the package's state. Where the package computes something else than the
    twin, only some `leaves` are compared, or the gap may be larger (`within`), and `why` says what it is. `build`
    makes the optimizer.
    """

    slots: dict[str, str] = field(default_factory=dict)
    leaves: Sequence[int] = EVERY
    within: float = EXACT
    why: str = ""
    build: Build = called

    def optimizer(self, params: Parameters) -> torch.optim.Optimizer:
        """The package's optimizer of these parameters, in training."""
        module, _, name = self.peer.rpartition(".")
        made = self.build(getattr(importlib.import_module(module), name), params, self.options)
        if hasattr(made, "train"):  # schedulefree
            made.train()
        return made


def named_as_layers(cls: Class, params: Parameters, options: dict[str, Any]) -> torch.optim.Optimizer:
    """Adam-mini finds a layer's kind in the name of its parameter."""
    names = [f"mlp.{i}.weight" if p.ndim == 2 else f"{i}.bias" for i, p in enumerate(params)]
    return cls(list(zip(names, params, strict=True)), **options)


def matrices_marked(cls: Class, params: Parameters, options: dict[str, Any]) -> torch.optim.Optimizer:
    """pytorch_optimizer's Muon and its kin are told which parameters they step as matrices."""
    groups = [{"params": [p for p in params if (p.ndim == 2) is flag], "use_muon": flag} for flag in (True, False)]
    return cls(groups, **options)


def second_alone(cls: Class, params: Parameters, options: dict[str, Any]) -> torch.optim.Optimizer:
    """Of the second parameter, for which the package takes random numbers once in a step."""
    return cls(params[1:2], **options)


def around_adamw(cls: Class, params: Parameters, options: dict[str, Any]) -> torch.optim.Optimizer:
    """A wrapper is given an optimizer."""
    return cls(torch.optim.AdamW(params), **options)


DECAY = {"weight_decay": 0.1}
SAME = {name: name for name in ("exp_avg", "exp_avg_sq")}
SLOWLY = {"d0": 1e-3}
PO = "pytorch_optimizer."
ITERATED = "AdamW's part has other defaults; an eps is at another place"
CASES = [
    PackageCase("decay", "adabelief", {"eps": 1e-8, "eps_root": 1e-8, **DECAY},
                PO + "AdaBelief", {"eps": 1e-8, **DECAY}, {"exp_avg": "exp_avg", "exp_avg_var": "exp_avg_var"}),
    PackageCase("decay", "adabound", {"eps_root": 1e-15, **DECAY}, PO + "AdaBound",
                {"weight_decouple": False, **DECAY}, SAME),
    PackageCase("amsbound", "adabound", {"eps_root": 1e-15, "amsbound": True}, PO + "AdaBound",
                {"ams_bound": True}, SAME),
    PackageCase("decay", "adan", DECAY, PO + "Adan", DECAY, {**SAME, "exp_avg_diff": "exp_avg_diff"}),
    PackageCase("decay", "adopt", DECAY, PO + "ADOPT",
                {"clip_lambda": lambda t: (t - 1) ** 0.25, "weight_decouple": True, **DECAY}, SAME),
    PackageCase("decay", "ademamix", DECAY, PO + "AdEMAMix", {"weight_decouple": True, **DECAY},
                {**SAME, "exp_avg_slow": "exp_avg_slow"}),
    PackageCase("decay", "adamp", DECAY, "adamp.AdamP", DECAY, SAME),
    PackageCase("nesterov", "adamp", {"nesterov": True}, "adamp.AdamP", {"nesterov": True}, SAME),
    PackageCase("decay", "tiger", DECAY, PO + "Tiger", DECAY, {"exp_avg": "exp_avg"}),
    PackageCase("decay", "qhadam", DECAY, PO + "QHAdam",
                {"betas": (0.995, 0.999), "nus": (0.7, 1.0), "weight_decouple": True, **DECAY},
                within=1e-7, why="its weights of both means are float32"),
    PackageCase("decay", "novograd", DECAY, PO + "NovoGrad", DECAY, leaves=(1, 3, 4, 5), why="it begins at step 1"),
    PackageCase("decay", "madgrad", DECAY, PO + "MADGRAD", {"lr": 1e-2, **DECAY},
                {"grad_sum_sq": "grad_sum_sq", "s": "s", "x0": "x0"}),
    PackageCase("decay", "lars", DECAY, PO + "LARS", {"lr": 1.0, **DECAY},
                {"momentum_buffer": "momentum_buffer"}, (0, 1, 4), why="it decays no vector"),
    PackageCase("decay", "laprop", {"learning_rate": 4e-4, "eps": 1e-15, **DECAY}, PO + "LaProp", DECAY,
                within=1e-4, why="its corrections are float32"),
    PackageCase("decay", "yogi", DECAY, PO + "Yogi", DECAY, SAME),
    PackageCase("decay", "signsgd", {"learning_rate": 1e-3, **DECAY}, PO + "SignSGD", {"momentum": 0.0, **DECAY}),
    PackageCase("decay", "signum", {"learning_rate": 1e-3, **DECAY}, PO + "SignSGD", DECAY,
                {"exp_avg": "momentum_buffer"}),
    PackageCase("decay", "stableadamw", DECAY, "optimi.StableAdamW", {"lr": 1e-3, "triton": False, **DECAY}),
    PackageCase("decay", "stableadamw", DECAY, PO + "StableAdamW", {"kahan_sum": False, "eps": 1e-6, **DECAY}),
    PackageCase("defaults", "fromage", {}, PO + "Fromage", {}),
    PackageCase("decay, warm-up", "schedulefreesgd", {"warmup_steps": 4, **DECAY}, "schedulefree.SGDScheduleFree",
                {"warmup_steps": 4, **DECAY}, {"z": "z"}),
    PackageCase("decay, warm-up, r", "schedulefreeadamw", {"warmup_steps": 4, "r": 1.0, **DECAY},
                "schedulefree.AdamWScheduleFree", {"warmup_steps": 4, "r": 1.0, **DECAY},
                {"z": "z", "exp_avg_sq": "exp_avg_sq"}),
    PackageCase("decay", "schedulefreeradam", DECAY, "schedulefree.RAdamScheduleFree", DECAY,
                {"z": "z", "exp_avg_sq": "exp_avg_sq"}, within=1e-11,
                why="a rate that is a difference of nearly equal numbers"),
    PackageCase("decay", "came", DECAY, "came_pytorch.CAME", {"lr": 2e-4, **DECAY}, {"exp_avg": "exp_avg"}),
    PackageCase("decay", "prodigy", {**SLOWLY, **DECAY}, "prodigyopt.Prodigy", {**SLOWLY, **DECAY},
                {**SAME, "s": "s"}),
    PackageCase("options", "prodigy", {"use_bias_correction": True, "safeguard_warmup": True, **SLOWLY},
                "prodigyopt.Prodigy", {"use_bias_correction": True, "safeguard_warmup": True, **SLOWLY},
                {**SAME, "s": "s"}),
    PackageCase("decay", "dadaptadamw", {**SLOWLY, **DECAY}, "dadaptation.DAdaptAdam",
                {"decouple": True, **SLOWLY, **DECAY}, {**SAME, "s": "s"}),
    PackageCase("momentum", "dadaptsgd", {"d0": 1e-2, "momentum": 0.9}, "dadaptation.DAdaptSGD",
                {"d0": 1e-2, "momentum": 0.9}, {"p0": "x0"}),
    PackageCase("decay", "dadaptlion", {**SLOWLY, **DECAY}, "dadaptation.DAdaptLion", {**SLOWLY, **DECAY},
                {"exp_avg": "exp_avg", "s": "s"}),
    PackageCase("decay", "lion", DECAY, PO + "Lion", DECAY, {"exp_avg": "exp_avg"}),
    PackageCase("eps", "radam", {"eps": NONE, "beta2": 0.99}, "optimi.RAdam",
                {"lr": 1e-3, "eps": NONE, "triton": False}),
    PackageCase("decay", "dog", DECAY, "dog.DoG", DECAY),
    PackageCase("first rate", "dog", {"init_step_type": "learning_rate", "init_step_value": 0.1}, "dog.DoG",
                {"init_eta": 0.1}),
    PackageCase("decay", "grokadamw", DECAY, "grokadamw.GrokAdamW", {"gamma": 0.0, **DECAY}),
    PackageCase("decay", "momo", DECAY, "momo.Momo", DECAY, {"exp_avg": "grad_avg"}),
    PackageCase("bound", "momo", {"adapt_lower_bound": True}, "momo.Momo", {"use_fstar": True},
                {"exp_avg": "grad_avg"}),
    PackageCase("decay", "momoadam", DECAY, "momo.MomoAdam", DECAY,
                {"exp_avg": "grad_avg", "exp_avg_sq": "grad_avg_sq"}, within=1e-7,
                why="it keeps products of gradient and parameter in float32"),
    PackageCase("sums", "shampoo", {"grafting": "none", "beta1": 0.0, "beta2": 1.0, "eps": 1e-12,
                "precondition_frequency": 1, "start_preconditioning_step": 1}, PO + "Shampoo", {"matrix_eps": 1e-12},
                leaves=MATRICES, why="it steps vectors as matrices, and kernels by a matrix for each axis"),
    PackageCase("defaults", "soap", {}, PO + "SOAP", {}, leaves=(0, 2, 3, 5), within=1e-8,
                why="its QR is of float32, and the bases of the other two are not determined by their gradients"),
    PackageCase("matrices", "scion", {}, PO + "SCION", {"constraint": True}, leaves=MATRICES,
                why="its step along a kernel is divided by the size of the kernel's window"),
    PackageCase("vectors", "scion", {}, PO + "SCION", {"constraint": True}, leaves=(2, 3, 5), within=1e-7,
                why="it adds to the norm what is its least value here"),
    PackageCase("decay", "muon", {"learning_rate": 0.02, **DECAY}, PO + "Muon", DECAY,
                {"momentum_buffer": "momentum_buffer"}, MATRICES, build=matrices_marked, why=ITERATED),
    PackageCase("decay", "normuon", {"learning_rate": 0.02, "variance_eps": 1e-10, "nesterov": True, **DECAY,
                "ns_schedule": "constant", "adjust": "original"}, PO + "NorMuon", DECAY,
                {"momentum_buffer": "momentum_buffer"}, MATRICES, 1e-11, ITERATED, matrices_marked),
    PackageCase("decay", "adamuon", {"momentum": 0.9, "signed": False, "nesterov": False, **DECAY}, PO + "AdaMuon",
                DECAY, {"momentum_buffer": "m"}, MATRICES, 1e-7, ITERATED, matrices_marked),
    PackageCase("decay", "adammini", DECAY, "adam_mini.Adam_mini", {"verbose": False, **DECAY},
                {"exp_avg": "m"}, MATRICES, why="it decays no bias", build=named_as_layers),
    PackageCase("around AdamW", "lookahead", {"base": "adamw", "sync_period": 3}, PO + "Lookahead", {"k": 3},
                {"slow": "slow_params"}, build=around_adamw),
    PackageCase("around AdamW", "mars", {"base": "adamw", "learning_rate": 3e-3, "beta1": 0.95, "beta2": 0.99,
                "eps": NONE, **DECAY}, PO + "MARS", {"optimize_1d": True, "eps": NONE, **DECAY},
                {**SAME, "last_grad": "last_grad"}, within=1e-8, why="it adds 1e-15 to squares"),
    PackageCase("decay", "kron", {"preconditioner_update_probability": 1.0, **DECAY}, PO + "Kron",
                {"pre_conditioner_update_probability": 1.0, "precondition_dtype": None, "balance_prob": 0.0, **DECAY},
                {"exp_avg": "momentum_buffer"}, leaves=(1,), within=1e-6,
                why="its factors grow without end by gradients of zeros, vectors are not decayed, kernels have three "
                "factors; it adds 1e-6 to the RMS of a step", build=second_alone),
]  # fmt: skip
