import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training import Grid, Layout
from training.kept import KeptFunction
from training.mesh import EVERYWHERE, PER_SEED


class Shelf:
    """A shelf in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.dropped: list[str] = []

    def load(self, name: str) -> bytes | None:
        return self.entries.get(name)

    def save(self, name: str, data: bytes) -> None:
        self.entries[name] = data

    def drop(self, name: str, reason: str) -> None:
        self.dropped.append(name)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_kept_function_is_not_traced_and_donates_and_shards_as_before(devices: int, tmp_path: Path) -> None:
    grid, shelf, traced = Grid(Layout(1, devices)), Shelf(), []

    def moved(state: dict[str, jax.Array], by: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        traced.append(1)
        return {"a": state["a"] + by}, grid.mean_over_data(jnp.sum(state["a"]) * grid.part())

    def made() -> KeptFunction:
        spread = grid.shard(moved, (PER_SEED, EVERYWHERE), (PER_SEED, EVERYWHERE))
        return KeptFunction(jax.jit(spread, donate_argnums=0), "moved", shelf, grid.devices)

    def called(function: KeptFunction, shape: tuple[int, ...] = (1, 3)) -> list[np.ndarray]:
        state = grid.place({"a": np.ones(shape, np.float32)})
        new, mean = function(state, 2)
        assert state["a"].is_deleted()
        assert new["a"].sharding.is_equivalent_to(state["a"].sharding, 2)
        newer, _ = function(new, 2)
        return [np.asarray(newer["a"]), np.asarray(mean)]

    def filled(before: bytes | None) -> None:
        until = time.monotonic() + 60
        while shelf.load("moved") in (None, before):
            assert time.monotonic() < until, "the program was not saved"
            time.sleep(0.01)

    first = called(made())
    filled(None)
    # JAX's compilation cache has the program now: what is read from it is kept as well as what is compiled.
    for _ in range(2):
        traced.clear()
        shelf.entries.clear()
        called(made())
        filled(None)
        assert traced
        traced.clear()
        function = made()
        assert function.shapes() == (
            {"a": jax.ShapeDtypeStruct((1, 3), jnp.float32)},
            jax.ShapeDtypeStruct((), jnp.float32),
        )
        for one, other in zip(called(function), first, strict=True):
            np.testing.assert_array_equal(one, other)
        assert not traced
    # Other shapes than the stored program's are compiled for.
    assert called(function, (1, 5))[0].shape == (1, 5)
    assert traced
    shelf.entries["moved"] = b"nothing"
    called(made())
    assert shelf.dropped == ["moved"]
