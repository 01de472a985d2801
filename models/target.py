"""Platform that a program is traced for.

A few layers, and the shape of a training step, differ between a CPU and an accelerator. They ask `platform`,
and not JAX's default device, so that a machine can trace and compile a program for another one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

_traced_for = jax.make_user_context(None)


def platform() -> str:
    """Platform of the innermost `traced_for`; without one, that of JAX's default device.

    "cpu", "tpu" or "gpu", as `jax.default_backend` names them.
    """
    # Any: the context has no types of its own.
    named: str | None = _traced_for.value
    return jax.default_backend() if named is None else named


@contextlib.contextmanager
def traced_for(name: str) -> Iterator[None]:
    """Trace for the platform `name` while the block lasts.

    The name is part of the key of JAX's caches of traced functions, so that a function that was traced for
    one platform is traced again for another.

    Example:
        >>> with traced_for("tpu"):
        ...     platform()
        'tpu'
    """
    with _traced_for(name):
        yield
