"""Named random streams: every key is a path of names and integers below one seed."""

from __future__ import annotations

import zlib

import jax
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray


def stream(seed: int | Int[Array, ""], *path: str | int | Int[Array, ""]) -> PRNGKeyArray:
    """The key of the stream that `path` names, below `seed`.

    A name folds in its CRC-32, an integer itself, and each step of the path also folds in its kind, so that
    `("a", 1)` and a name whose checksum is 1 differ. Streams with different paths are independent for every
    seed: train and evaluation data differ by name (`("train", phase)` against `("evaluation", split)`),
    never by a neighbouring seed.

    >>> bool((stream(0, "train") == stream(0, "evaluation")).all())
    False
    """
    key = jax.random.key(seed)
    for part in path:
        if isinstance(part, str):
            key = jax.random.fold_in(jax.random.fold_in(key, 0), zlib.crc32(part.encode()))
        else:
            key = jax.random.fold_in(jax.random.fold_in(key, 1), part)
    return key


def numpy_stream(seed: int, *path: str | int) -> np.random.Generator:
    """NumPy's generator on the stream that `path` names, for what is drawn on the host in float64."""
    words = np.asarray(jax.random.key_data(stream(seed, *path)))
    return np.random.default_rng(words.tolist())
