"""A file `test_<adapter>_*.py` needs that adapter's framework: it is read only in runs that drive the adapter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boundaries.support import ADAPTERS
from tests.conftest import requested


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    adapter = collection_path.name.removeprefix("test_").split("_")[0]
    return True if adapter in ADAPTERS and adapter not in requested(config) else None


#: Files about programs and processes: there XLA compiles as it does for users, and so it does in tests/conformance.
AS_FOR_USERS = {"test_jax_concurrency.py", "test_jax_foreign.py", "test_jax_paths.py"}


@pytest.fixture(scope="module", autouse=True)
def _quick_where_jax_is_driven(request: pytest.FixtureRequest) -> None:
    """XLA spends little on machine code in tests of JAX, and of Keras where it is on JAX."""
    adapter = request.path.name.removeprefix("test_").split("_")[0]
    if adapter == "tf":
        import keras

        adapter = keras.backend.backend()
    if adapter == "jax" and request.path.name not in AS_FOR_USERS:
        request.getfixturevalue("quick_xla")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread, for tiny models: threads that wait by spinning slow down whatever else runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def exact_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's Muon iterates in bfloat16, for GPUs; here it does so in the parameter's dtype, as ours."""
    import torch

    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self)


@pytest.fixture
def in_float64() -> Iterator[None]:
    """torch counts steps, and keeps what is one number for each parameter, in the default dtype."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def checked() -> Iterator[None]:
    """torch warns of sparse tensors unless it is told whether to check them."""
    import torch

    with torch.sparse.check_sparse_tensor_invariants():
        yield
