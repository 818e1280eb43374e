"""The Hugging Face adapter: our optimizers inside the `Trainer`, by whichever of its three doors suits the user."""

from scirs2_adapters.core.errors import require

require(
    "hf", {"torch": ("PyTorch", "2.6"), "transformers": ("Transformers", "5.0"), "accelerate": ("Accelerate", "1.3")}
)

from scirs2_adapters.adapters.torch.grouping import LayerDecay  # noqa: E402

from .monitor import OptimizerMonitor  # noqa: E402
from .trainer import optim, register, with_optimizer  # noqa: E402

__all__ = ["optim", "with_optimizer", "register", "LayerDecay", "OptimizerMonitor"]
