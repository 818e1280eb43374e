"""Lightning's Trainer and its mixed precision around ours: it clips, scales and schedules as it does around torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from .torch_scaling import OVERFLOWS, STEPS, peer, scaler_of
from .torch_support import PEERED, each_optimizer, ours

pytestmark = [
    pytest.mark.usefixtures("exact_muon", "one_thread"),
    # Lightning's own: what it imports warns, and it advises on workers and loggers.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def lightning() -> Any:
    """The package, imported here because it warns."""
    import logging
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_lightning
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return pytorch_lightning


def module(lightning: Any, cls: type[torch.optim.Optimizer], **options: Any) -> Any:
    """A model whose loss overflows at some steps, and what it has seen of the norms before its steps."""

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            sizes = [torch.nn.Linear(4, 6, bias=False), torch.nn.Tanh(), torch.nn.Linear(6, 1, bias=False)]
            self.net = torch.nn.Sequential(*sizes)
            self.norms: list[float] = []
            self.rates: list[float] = []

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            self.rates.append(self.optimizers().param_groups[0]["lr"])
            loss = self.net(batch[0]).float().square().mean()
            return loss * (float("inf") if index in self.overflows else 1.0)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters()])))

        def configure_optimizers(self) -> Any:
            optimizer = cls(self.parameters(), lr=0.01, **options)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    made = Module()
    made.overflows = ()
    return made


def fit(lightning: Any, model: Any, **options: Any) -> list[torch.Tensor]:
    x = torch.randn(4 * STEPS, 4, generator=torch.Generator().manual_seed(1))
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", devices=1, **quiet, **options)
    trainer.fit(model, DataLoader(TensorDataset(x), batch_size=4))
    return [p.detach().clone() for p in model.parameters()]


def scaled(lightning: Any) -> Any:
    """What `precision="16-mixed"` makes on a GPU."""
    plugin = lightning.plugins.precision.MixedPrecision
    made = plugin("bf16-mixed", "cpu")
    made.scaler = scaler_of()
    return made


@each_optimizer
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_in_every_precision(name: str, precision: str, lightning: Any) -> None:
    models = [module(lightning, cls) for cls in (ours(name), peer(name))]
    ends = [fit(lightning, model, precision=precision, gradient_clip_val=0.05) for model in models]
    assert models[0].rates == models[1].rates
    for a, b in zip(*ends, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 if precision == "32-true" else 2e-2)


@each_optimizer
def test_a_scaled_run_has_the_scales_rates_and_norms_of_torchs_class(name: str, lightning: Any) -> None:
    seen = []
    for cls in (ours(name), peer(name)):
        model, plugin = module(lightning, cls), scaled(lightning)
        model.overflows = OVERFLOWS
        fit(lightning, model, plugins=[plugin], gradient_clip_val=0.05)
        finite = [norm for norm in model.norms if norm == norm and norm != float("inf")]
        assert max(finite) < 100  # unscaled
        seen.append((plugin.scaler.get_scale(), model.rates, len(finite)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", [name for name in PEERED if name in ("SGD", "Adam", "AdamW", "Adagrad")])
def test_those_who_ask_for_the_fused_protocol_are_told_as_torchs_users_are(name: str, lightning: Any) -> None:
    for cls in (ours(name), peer(name)):
        with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
            fit(lightning, module(lightning, cls, fused=True), precision="bf16-mixed", gradient_clip_val=0.05)


@each_optimizer
def test_steps_that_are_not_finite_are_skipped_in_any_precision(name: str, lightning: Any) -> None:
    model = module(lightning, ours(name), skip_nonfinite=True)
    model.overflows = OVERFLOWS
    ends = fit(lightning, model, precision="32-true")
    assert all(bool(p.isfinite().all()) for p in ends)
    assert model.optimizers().param_groups[0]["skipped_steps"] == len(OVERFLOWS)
