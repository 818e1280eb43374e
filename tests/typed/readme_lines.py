"""README's lines as a type checker sees them: read by mypy, never run. A line that must not pass carries its error."""

from typing import Any, assert_type

import numpy as np
import optax
import torch
from transformers import TrainingArguments

import scirs2_adapters as s2
from scirs2_adapters.core import AdamW as Rule_AdamW
from scirs2_adapters.core import HostOptimizer, Rule
from scirs2_adapters.hf import optim
from scirs2_adapters.jax import adamw, step
from scirs2_adapters.sklearn import Lion, MLPClassifier
from scirs2_adapters.tf import AdamW as KerasAdamW
from scirs2_adapters.torch import AdamW


def core(params: dict[str, np.ndarray[Any, Any]]) -> None:
    assert_type(s2.names(), list[str])
    assert_type(s2.get("adamw"), type[Rule])
    assert_type(Rule_AdamW(learning_rate=1e-3).replace(beta1=0.8), Rule_AdamW)
    assert_type(Rule_AdamW().eps, float)
    assert_type(HostOptimizer("adamw", params).state_dict(), dict[str, Any])
    Rule_AdamW(lr=1e-3)  # type: ignore[call-arg]


def in_torch(model: torch.nn.Module, rate: torch.Tensor) -> None:
    optimizer = AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), kernel="auto", match=None)
    assert_type(optimizer, AdamW)
    assert_type(optimizer.param_groups, list[dict[str, Any]])
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    optimizer.step()
    AdamW(model.parameters(), lr=rate)
    AdamW(model.parameters(), learning_rate=1e-3)  # type: ignore[call-arg]
    AdamW(model.parameters(), lr="fast")  # type: ignore[arg-type]


def in_jax(grads: Any, params: Any) -> None:
    tx = adamw(learning_rate=1e-3, b1=0.9, weight_decay=1e-2)
    assert_type(tx, optax.GradientTransformationExtraArgs)
    assert_type(step(tx, grads, tx.init(params), params), tuple[Any, Any])
    adamw(learning_rate=1e-3, betas=(0.9, 0.99))  # type: ignore[call-arg]


def in_keras() -> None:
    assert_type(KerasAdamW(learning_rate=1e-3, beta_1=0.9, epsilon=1e-8, clipnorm=1.0), KerasAdamW)
    KerasAdamW(lr=1e-3)  # type: ignore[call-arg]


def in_hugging_face(args: TrainingArguments) -> None:
    assert_type(optim("lion", args, betas=(0.9, 0.99)), tuple[type[torch.optim.Optimizer], dict[str, Any]])


def in_sklearn() -> None:
    assert_type(MLPClassifier(optimizer=Lion(learning_rate=3e-4)), MLPClassifier)
    MLPClassifier(optimiser="lion")  # type: ignore[call-arg]
