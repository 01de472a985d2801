"""JAX as the tests want it: on the CPU, several devices, compiled programs kept between runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

jax.config.update("jax_platforms", "cpu")

from covlab.launch.runtime import configure  # noqa: E402

configure(devices=4)
# `oracles` is imported by name, whatever pytest's import mode is.
sys.path.append(str(Path(__file__).parent))

STRICT = ("tasks", "models", "decoding")
HASTY = ("tasks", "metrics")


@pytest.fixture(scope="module", autouse=True)
def dtype_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """No implicit promotion of dtypes where the code is ours alone: optax's Adam itself relies on it."""
    with jax.numpy_dtype_promotion("strict" if request.path.parent.name in STRICT else "standard"):
        yield


@pytest.fixture(scope="module", autouse=True)
def compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Half the compilation time where nothing is trained: these answers do not depend on optimisation."""
    jax.config.update("jax_disable_most_optimizations", request.path.parent.name in HASTY)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
