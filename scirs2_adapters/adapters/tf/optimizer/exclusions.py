"""What does not decay, as part of an optimizer's config: Keras keeps it as ids of variables, which no file can hold."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras

from ..state.keras_types import KerasOptimizer, KerasVariable, path_of

#: Its key in a config, there only where something is excluded.
EXCLUSIONS = "exclude_from_weight_decay"


@dataclass(frozen=True)
class Exclusions:
    """Words in names, and paths of variables. Those `restored` from a config wait for the variables to be there."""

    words: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    restored: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Sequence[str]]) -> Exclusions:
        """From what `config` gave."""
        return cls(tuple(config["var_names"]), tuple(config["var_list"]), restored=True)

    def config(self) -> dict[str, dict[str, list[str]]]:
        """As an optimizer's config has them."""
        if not (self.words or self.paths):
            return {}
        return {EXCLUSIONS: {"var_list": list(self.paths), "var_names": list(self.words)}}

    def resolve(self, optimizer: KerasOptimizer, variables: Sequence[KerasVariable]) -> None:
        """Exclude the variables of these paths. A model that was loaded has lost its name, the first word of each."""
        if not self.restored:
            return
        excluded = [v for v in variables if any(_same(path_of(v), path) for path in self.paths)]
        lost = [path for path in self.paths if not any(_same(path_of(v), path) for v in excluded)]
        if lost:
            warnings.warn(
                f"`{type(optimizer).__name__}.{EXCLUSIONS}`: no variable is named {', '.join(lost)}, so that what was "
                "excluded under this name decays.",
                stacklevel=4,
            )
        keras.optimizers.Optimizer.exclude_from_weight_decay(optimizer, excluded, list(self.words))


def _same(here: str, there: str) -> bool:
    return here == there or here.endswith(f"/{there}") or there.endswith(f"/{here}")
