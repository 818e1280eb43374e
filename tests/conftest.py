"""Which frameworks a run drives: all, or those named by `--adapters torch,jax`. It says so, and fails if one is not
there.

A suite that quietly skips an absent framework looks exactly like one that passed.
"""

import contextlib
import gc
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests import sampling
from tests.boundaries.support import ADAPTERS, DISTRIBUTIONS, frameworks
from tests.threads import threads_for_little_work  # noqa: F401
from tests.xla import quick_xla, xla_for_users  # noqa: F401

# Two processes share the cores. Threads that wait for work by spinning would keep them from each other: a test of small
# models then takes five times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Triton asks for this when it is imported. Where there is a card, kernels run on it.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"
# Triton 3.7 ends the process where TensorFlow was loaded before it, which torch loads on the way; not the other way.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

#: Files with tests that take a minute or more. They are run first: two processes then end at about the same time.
LONG = {"test_tf_backends.py", "test_docs.py", "test_examples.py", "test_jax_optax_suite.py", "test_report.py"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--adapters", default=",".join(ADAPTERS), help="adapters to test, by comma (default: all)")
    sampling.add_option(parser)


def requested(config: pytest.Config) -> list[str]:
    return [adapter for adapter in str(config.getoption("--adapters")).split(",") if adapter]


def installed(adapter: str) -> dict[str, str | None]:
    """Distribution -> version, None where it is absent; read from metadata, nothing is imported."""
    versions: dict[str, str | None] = {}
    for name in frameworks(adapter):
        distribution = DISTRIBUTIONS.get(name, name)
        try:
            versions[distribution] = version(distribution)
        except PackageNotFoundError:
            versions[distribution] = None
    return versions


def pytest_configure(config: pytest.Config) -> None:
    sampling.settle_seed()
    unknown = sorted(set(requested(config)) - set(ADAPTERS))
    absent = [
        f"{adapter}: {name}"
        for adapter in requested(config)
        if adapter in ADAPTERS
        for name, v in installed(adapter).items()
        if not v
    ]
    if unknown or absent:
        raise pytest.UsageError(f"--adapters asks for what is not here: {', '.join(unknown + absent)}")


def pytest_report_header(config: pytest.Config) -> list[str]:
    rows = (
        f"{adapter} ({', '.join(f'{name} {v}' for name, v in installed(adapter).items())})"
        for adapter in requested(config)
    )
    optimizers = f"some of several kinds ({sampling.SEED}={os.environ[sampling.SEED]})"
    return [
        f"adapters driven: {', '.join(rows)}",
        f"optimizers: {optimizers if sampling.samples(config) else 'all'}",
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, as deselected, cases of adapters that were not asked for, and what a sampled run does not take."""
    wanted = set(requested(config))
    adapters = {item: getattr(item, "callspec", None) and item.callspec.params.get("adapter") for item in items}  # type: ignore[attr-defined]
    left_out = {
        item
        for item, adapter in adapters.items()
        if isinstance(adapter, str) and adapter in ADAPTERS and adapter not in wanted
    }
    if sampling.samples(config):
        left_out.update(sampling.left_out([item for item in items if item not in left_out]))
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = sorted((item for item in items if item not in left_out), key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="module")
def frozen_heap() -> Iterator[None]:
    """Sets aside what there was before the module's tests: collecting what is new is then fast."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def kernels_load_without_llvm() -> Iterator[None]:
    """Whatever the tests compile is a file that the loader of `core/cpu` knows, where it knows the processor."""
    from scirs2_adapters.core.cpu import compile, loader

    by_llvm = compile._link_by_llvm

    def refused(symbol: str, code: bytes) -> int:
        assert loader.processor() is None, f"{symbol} is left to LLVM"
        return by_llvm(symbol, code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile, "_link_by_llvm", refused)
        yield
