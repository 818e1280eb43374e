"""An optimizer behind HTTP: `scirs2 serve` keeps parameters and state, a `Client` sends gradients."""

from .client import Client, ServiceError

__all__ = ["Client", "ServiceError"]
