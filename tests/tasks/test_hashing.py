"""Known answers of the hash, and its place in JAX's draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import stream
from tasks.hashing import threefry, unroll_hash

KNOWN = (
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
)
"""Key, counter and result: the vectors of Random123, of which JAX's own tests take the same three."""


def plain(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 in Python integers."""
    mask, rotations = 0xFFFFFFFF, (13, 15, 26, 6, 17, 29, 16, 24)
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = (counter[0] + keys[0]) & mask, (counter[1] + keys[1]) & mask
    for index in range(20):
        x = (x + y) & mask
        turn = rotations[index % 8]
        y = (((y << turn) & mask) | (y >> (32 - turn))) ^ x
        if index % 4 == 3:
            group = index // 4 + 1
            x = (x + keys[group % 3]) & mask
            y = (y + keys[(group + 1) % 3] + group) & mask
    return x, y


@pytest.mark.parametrize(("key", "counter", "expected"), KNOWN)
def test_known_vectors(key: tuple[int, int], counter: tuple[int, int], expected: tuple[int, int]) -> None:
    words = [jnp.asarray(word, jnp.uint32) for word in (*key, *counter)]
    assert tuple(int(word) for word in jax.jit(threefry)(*words)) == expected == plain(key, counter)


def test_equals_plain_integers_elementwise() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, (4, 3, 7), dtype=np.uint32)
    found = np.stack(jax.jit(threefry)(*words))
    expected = [plain((a, b), (c, d)) for a, b, c, d in words.reshape(4, -1).T.tolist()]
    np.testing.assert_array_equal(found.reshape(2, -1).T, np.asarray(expected, np.uint32))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other platforms keep JAX's form")
def test_the_draws_of_jax_take_this_form() -> None:
    unroll_hash()

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.bits(key, (5,))

    key = stream(3)
    assert "while" not in jax.jit(draw).lower(key).as_text()
    high, low = (int(word) for word in jax.random.key_data(key))
    expected = [x ^ y for x, y in (plain((high, low), (0, index)) for index in range(5))]
    assert jax.jit(draw)(key).tolist() == expected
