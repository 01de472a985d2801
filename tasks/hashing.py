"""Threefry-2x32, the hash behind every random draw, in a form that XLA on CPU compiles and runs faster.

JAX on CPU computes the rounds in a loop, and XLA compiles eight kernels for every hash of a program. Here the
20 rounds are one expression, with the two words of its result in one number of 64 bits: as separate words,
XLA would compute the rounds once for each.
"""

from __future__ import annotations

import importlib

import jax
import numpy as np
from jax.interpreters import mlir
from jaxtyping import Array, UInt32

_MODULES = ("jax._src.random.threefry2x32", "jax._src.prng")
"""Modules of JAX's versions that define the primitive `threefry2x32_p`."""
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry(
    key_high: UInt32[Array, "*shape"],
    key_low: UInt32[Array, "*shape"],
    high: UInt32[Array, "*shape"],
    low: UInt32[Array, "*shape"],
) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """Both words of Threefry-2x32 with 20 rounds (Salmon et al. 2011), of a key and a counter of two words.

    >>> zero = jax.numpy.zeros((), "uint32")
    >>> [hex(int(word)) for word in threefry(zero, zero, zero, zero)]
    ['0x6b200159', '0x99ba4efe']
    """
    keys = (key_high, key_low, key_high ^ key_low ^ np.uint32(_PARITY))
    high, low = high + keys[0], low + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            high = high + low
            low = high ^ ((low << np.uint32(rotation)) | (low >> np.uint32(32 - rotation)))
        high = high + keys[(group + 1) % 3]
        low = low + keys[(group + 2) % 3] + np.uint32(group + 1)
    with jax.enable_x64(True):
        word = np.uint64(32)
        both = jax.lax.optimization_barrier((high.astype(np.uint64) << word) | low.astype(np.uint64))
        return (both >> word).astype(np.uint32), both.astype(np.uint32)


def unroll_hash() -> None:
    """Make JAX compute its hash by `threefry` on CPU. The bits of every draw stay.

    Versions of JAX that define the hash elsewhere keep their own form.
    """
    for name in _MODULES:
        try:
            primitive = getattr(importlib.import_module(name), "threefry2x32_p")  # noqa: B009
        except (ImportError, AttributeError):
            continue
        rule = mlir.lower_fun(threefry, multiple_results=True)
        mlir.register_lowering(primitive, rule, platform="cpu", inline=False)
        return
