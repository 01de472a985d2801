"""Named random streams: every key is a path of names and integers below one seed."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from tasks.checks import whole
from tasks.hashing import unroll_hash

SEEDS = 2**31
"""Number of seeds: the integers in [0, 2^31)."""

IMPLEMENTATION = "threefry2x32"
_SETTINGS = {"jax_threefry_partitionable": True, "jax_random_seed_offset": 0, "jax_enable_x64": False}
"""JAX settings that change the draws of a given key, with the values that all draws require."""


def pin_settings() -> None:
    """Set JAX's settings to the values that streams require, regardless of the environment.

    Programs must call this before the first array. `stream` refuses other values. On CPU the hash is computed
    by `tasks.hashing.threefry` from then on.
    """
    for name, value in _SETTINGS.items():
        jax.config.update(name, value)
    unroll_hash()


def stream(seed: int | Int[Array, ""], *path: str | int | Int[Array, ""]) -> PRNGKeyArray:
    """Key of the stream at `path` below `seed`.

    A step of the path folds in its kind and then the CRC-32 of a name or the value of an integer, so that the
    integer 1 and a name with checksum 1 differ. Streams with different paths are independent for every seed:
    train and evaluation data differ by name (`("train", phase)` against `("evaluation", split)`), never by a
    neighbouring seed.

    The key is a typed key of threefry2x32, regardless of `jax_default_prng_impl`.

    Raises:
        ValueError: a seed that is not in [0, 2^31), an integer of the path that is not in [0, 2^32), or a
            JAX setting that changes the draws of equal keys.

    >>> bool((stream(0, "train") == stream(0, "evaluation")).all())
    False
    """
    for name, value in _SETTINGS.items():
        if (found := getattr(jax.config, name)) != value:
            raise ValueError(
                f"{name}: {found!r}; random draws need {value!r}: call tasks.pin_settings() before the first "
                f"array"
            )
    key = jax.random.key(_concrete("seed", seed, SEEDS - 1), impl=IMPLEMENTATION)
    folded: list[Any] = []
    for part in path:
        if isinstance(part, str):
            folded += [0, zlib.crc32(part.encode())]
        else:
            folded += [1, _concrete("stream", part, 2**32 - 1)]
    if folded and isinstance(key, jax.core.Tracer):
        # One hash in a loop: a program spends a fifth of a second on compiling each.
        numbers = jnp.stack([jnp.asarray(number, jnp.uint32) for number in folded])
        start: Array = key
        return jax.lax.scan(lambda key, number: (jax.random.fold_in(key, number), None), start, numbers)[0]
    for number in folded:
        key = jax.random.fold_in(key, number)
    return key


def numpy_stream(seed: int, *path: str | int) -> np.random.Generator:
    """NumPy generator of the stream at `path`, for draws in float64 on the host.

    Raises:
        ValueError: a seed or an integer of the path out of range, see `stream`.
    """
    with jax.enable_x64(False):
        words = np.asarray(jax.random.key_data(stream(seed, *path)))
    return np.random.default_rng(words.tolist())


def check_seed(field: str, value: Any) -> int:
    """A seed of any kind: an integer from 0 to 2^31 - 1, NumPy's included.

    Raises:
        ValueError: anything else, in one line that names the field.
    """
    return whole(field, value, 0, SEEDS - 1)


def check_seeds(
    first: Any, count: Any, least: int = 1, fields: tuple[str, str] = ("seed", "seeds")
) -> tuple[int, ...]:
    """`count` consecutive seeds from `first` on; `fields` names `first` and `count` in messages.

    Raises:
        ValueError: a first seed that `check_seed` refuses, fewer than `least` seeds, or a last seed of 2^31
            or more.
    """
    start, size = check_seed(fields[0], first), whole(fields[1], count, least)
    if start + size > SEEDS:
        raise ValueError(f"{fields[0]}: {start} + {fields[1]} = {size} exceeds 2^31")
    return tuple(range(start, start + size))


def _concrete(field: str, value: Any, high: int) -> Any:
    """`value`, checked unless it is a JAX array, because JAX takes other integers modulo 2^32."""
    if isinstance(value, jax.Array):
        return value
    number = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return whole(field, number, 0, high)
