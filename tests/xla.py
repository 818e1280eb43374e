"""XLA compiles in a tenth of the time where results are held to a tolerance, or trees, shapes and dtypes are looked at.

It is told so by options that change no program: to generate code by its older emitters, without LLVM's optimizations,
in one piece. Where bits are compared, or code is looked at, XLA compiles as it does for users.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

QUICK = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}


def flags(devices: int = 1, **others: object) -> str:
    """XLA_FLAGS of a process that compiles so, with so many devices."""
    options = {"xla_force_host_platform_device_count": devices, **QUICK, **others}
    return " ".join(f"--{name}={str(value).lower()}" for name, value in options.items())


@pytest.fixture(scope="module")
def quick_xla() -> Iterator[None]:
    """The same in this process, for a module. Public JAX takes such options for one program, not for all."""
    from jax._src import compiler

    made = compiler.get_compile_options

    def options(*args: object, **keywords: object) -> object:
        chosen = made(*args, **keywords)
        chosen.env_option_overrides = [*chosen.env_option_overrides, *QUICK.items()]
        return chosen

    options.for_users = made  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", options)
        yield


def is_quick() -> bool:
    """Whether XLA compiles so now: what keeps results of programs must keep them apart by this."""
    from jax._src import compiler

    return hasattr(compiler.get_compile_options, "for_users")


@pytest.fixture
def xla_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one test of such a module, XLA compiles as it does for users."""
    from jax._src import compiler

    made = compiler.get_compile_options
    monkeypatch.setattr(compiler, "get_compile_options", getattr(made, "for_users", made))
