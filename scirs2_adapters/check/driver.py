"""What a check asks of a framework. A driver says how it is done there, or why it has no meaning there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from .outcome import NotApplicable, expect
from .problem import Array, Arrays, Grads, Problem, problem
from .subject import NOTHING, Changes, Subject


class Run(ABC):
    """One optimizer that steps a copy of the problem's parameters."""

    def __init__(self, walked: Problem) -> None:
        self.problem, self.at = walked, 0

    @abstractmethod
    def params(self) -> Arrays:
        """The parameters as copies in float64."""

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Take the next steps on the problem."""

    @abstractmethod
    def saved(self) -> object:
        """A copy of parameters and state, as the framework saves them."""

    @abstractmethod
    def restore(self, saved: object) -> None:
        """Go on where those were."""

    @abstractmethod
    def owned(self) -> object:
        """Parameters and optimizer together, as one object to be copied."""

    @abstractmethod
    def adopt(self, owned: object) -> None:
        """Work with such a copy from now on."""

    @abstractmethod
    def dtypes(self) -> set[str]:
        """Names of the dtypes of the parameters."""

    def set_rate(self, rate: float) -> None:
        """Change the learning rate by hand."""
        raise NotApplicable("the learning rate cannot be set between steps")

    def optimizer_object(self) -> object:
        """What must be freed when it is dropped."""
        raise NotApplicable("there is no optimizer beside its state")


class ArrayRun(Run):
    """A run that takes gradients."""

    @abstractmethod
    def native(self, grads: Grads) -> Sequence[object]:
        """Gradients in the framework's form."""

    @abstractmethod
    def apply(self, grads: Sequence[object]) -> None:
        """One step."""

    @abstractmethod
    def numbers(self, x: object) -> Array:
        """An array of the framework as float64."""

    def forget(self) -> None:
        """Let go of the gradients of the last step, as a training loop does."""

    def step(self, grads: Grads) -> None:
        """One step with these gradients."""
        self.apply(self.native(grads))
        self.at += 1

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self.step(self.problem.gradients(self.params(), self.at))


class Driver(ABC):
    """A framework, and the optimizer that is checked in it."""

    framework: ClassVar[str]
    #: Arguments that are no settings, such as torch's parameters.
    takes: ClassVar[tuple[str, ...]] = ()
    #: Why checks of 16 bits, or others, have no meaning: by the name of the check.
    gaps: ClassVar[dict[str, str]] = {}
    #: How kernels lie, for rules that ask.
    layout: ClassVar[str] = "inputs_first"

    def __init__(self, subject: Subject) -> None:
        self.subject, self.problem = subject, problem()
        subject.arguments(self.takes)

    @abstractmethod
    def start(self, changes: Changes = NOTHING, walked: Problem | None = None, dtype: str = "float32") -> Run:
        """A new optimizer on new parameters."""

    @abstractmethod
    def kind(self) -> tuple[str, bool]:
        """What an optimizer of the framework is, and whether one is made."""

    def arrays(self, walked: Problem | None = None, dtype: str = "float32") -> ArrayRun:
        """A run that takes gradients."""
        run = self.start(NOTHING, walked, dtype)
        if not isinstance(run, ArrayRun):
            raise NotApplicable("an estimator computes its gradients itself")
        return run

    def rate(self) -> str:
        """The word for the learning rate."""
        if self.subject.rate is None:
            raise NotApplicable("it has no learning rate that is a number")
        return self.subject.rate

    def refuses(self, changes: Changes) -> None:
        """Fail unless these arguments are refused when the optimizer is made."""
        try:
            self.start(changes)
        except Exception:  # each library raises another error
            return
        said = ", ".join(f"{k}={v!r}" for k, v in changes.items())
        expect(False, "an error", f"an optimizer with {said}")

    def settable(self) -> Run:
        """One whose learning rate can be set by hand."""
        return self.start()

    def scheduled(self, factors: Sequence[float]) -> Run:
        """A run whose learning rate is multiplied by a factor at each step, by the framework's schedule."""
        raise NotApplicable("there is no schedule")

    def rebuilt(self, changes: Changes) -> Run:
        """One made from what another one, made with these changes, says of itself."""
        raise NotApplicable("an optimizer is functions, which say nothing of themselves")

    def compiled(self) -> Run:
        """One whose steps are compiled."""
        raise NotApplicable("steps are not compiled")

    def times_compiled(self, run: Run) -> int:
        """How often the steps of such a one were compiled."""
        raise NotApplicable("the framework does not tell how often it compiles")

    def set_threads(self, count: int) -> int:
        """Let the framework have so many threads; how many it had before."""
        raise NotApplicable("threads are set before the framework starts")
