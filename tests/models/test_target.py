"""The platform that a program is traced for, and what asks for it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from models.target import platform, traced_for


def test_the_innermost_block_names_the_platform() -> None:
    assert platform() == jax.default_backend()
    with traced_for("tpu"):
        assert platform() == "tpu"
        with traced_for("gpu"):
            assert platform() == "gpu"
        assert platform() == "tpu"
    assert platform() == jax.default_backend()


def test_an_error_in_the_block_ends_it() -> None:
    with pytest.raises(RuntimeError), traced_for("tpu"):
        raise RuntimeError
    assert platform() == jax.default_backend()


def test_a_traced_function_is_traced_again_for_another_platform() -> None:
    """Without the platform in the key of what JAX keeps, the second call would get the first's."""

    @jax.jit
    def size(x):
        return x + (1 if platform() == "tpu" else 0)

    x = jnp.zeros(())
    assert size(x) == 0
    with traced_for("tpu"):
        assert size(x) == 1
    assert size(x) == 0
