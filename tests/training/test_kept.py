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
        del self.entries[name]

    def take(self) -> bytes:
        """The entry, once it has been saved, which this removes."""
        until = time.monotonic() + 60
        while "moved" not in self.entries:
            assert time.monotonic() < until, "the program was not saved"
            time.sleep(0.01)
        return self.entries.pop("moved")


class Case:
    """A function with a donated state, a mean over devices, and a sort, which XLA compiles a function for."""

    def __init__(self, devices: int) -> None:
        self.grid, self.shelf = Grid(Layout(1, devices)), Shelf()
        self.traced: list[int] = []

    def made(self) -> KeptFunction:
        """The function anew: JAX keeps in memory what it has traced and compiled for the earlier ones."""
        grid, traced = self.grid, self.traced

        def moved(state: dict[str, jax.Array], by: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
            traced.append(1)
            order = jnp.argsort(-state["a"], axis=1, stable=False)
            return {"a": state["a"] + by * order}, grid.mean_over_data(jnp.sum(state["a"]) * grid.part())

        spread = grid.shard(moved, (PER_SEED, EVERYWHERE), (PER_SEED, EVERYWHERE))
        return KeptFunction(jax.jit(spread, donate_argnums=0), "moved", self.shelf, grid.devices)

    def called(self, function: KeptFunction, size: int = 3) -> list[np.ndarray]:
        """Two calls, of which the second donates the first one's result."""
        state = self.grid.place({"a": np.arange(size, dtype=np.float32)[None]})
        new, mean = function(state, 2)
        assert state["a"].is_deleted()
        assert new["a"].sharding.is_equivalent_to(state["a"].sharding, 2)
        newer, _ = function(new, 2)
        return [np.asarray(newer["a"]), np.asarray(mean)]


@pytest.mark.parametrize("devices", [1, 2])
def test_a_kept_function_is_not_traced_and_donates_and_shards_as_before(
    devices: int, jax_cache: Path
) -> None:
    case = Case(devices)
    first = case.called(case.made())
    np.testing.assert_array_equal(first[0], [[4.0, 5.0, 6.0]])
    compiled = case.shelf.take()
    # What JAX's own cache has is read from there, and kept as well as what the compiler just made.
    entries = {path: path.stat().st_mtime_ns for path in jax_cache.glob("*-cache")}
    assert entries
    case.called(case.made())
    read = case.shelf.take()
    assert {path: path.stat().st_mtime_ns for path in jax_cache.glob("*-cache")} == entries
    for data in (compiled, read):
        case.shelf.entries["moved"] = data
        case.traced.clear()
        function = case.made()
        assert function.shapes() == (
            {"a": jax.ShapeDtypeStruct((1, 3), jnp.float32)},
            jax.ShapeDtypeStruct((), jnp.float32),
        )
        for one, other in zip(case.called(function), first, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
        assert not case.traced
        # Other shapes than the stored program's are compiled for.
        assert case.called(function, 5)[0].shape == (1, 5)
        assert case.traced
    assert not case.shelf.dropped


def test_a_spoiled_program_is_dropped_and_compiled(jax_cache: Path) -> None:
    case = Case(1)
    first = case.called(case.made())
    data = case.shelf.take()
    for spoiled in (b"", b"nothing", data[: len(data) // 2]):
        case.shelf.entries["moved"] = spoiled
        case.shelf.dropped.clear()
        case.traced.clear()
        for one, other in zip(case.called(case.made()), first, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
        assert case.shelf.dropped == ["moved"]
        assert case.traced
        # The program is saved again, in the background.
        case.shelf.take()


def test_a_program_that_calls_back_into_python_is_not_kept(jax_cache: Path) -> None:
    # The call's address is that of this process.
    shelf = Shelf()

    def told(x: jax.Array) -> jax.Array:
        return jax.pure_callback(np.negative, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    for _ in range(2):
        function = KeptFunction(jax.jit(told), "moved", shelf, jax.devices()[:1])
        np.testing.assert_array_equal(function(jnp.arange(3.0)), [-0.0, -1.0, -2.0])
        time.sleep(0.2)
        assert not shelf.entries


def test_what_jax_has_in_memory_is_used_but_not_kept(jax_cache: Path) -> None:
    # Such an executable may have been read from a cache before, and has then lost its machine code.
    case = Case(1)
    function = case.made()
    first = case.called(function)
    case.shelf.take()
    again = KeptFunction(function._jitted, "moved", case.shelf, case.grid.devices)
    case.traced.clear()
    for one, other in zip(case.called(again), first, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    assert not case.traced
    time.sleep(0.2)
    assert not case.shelf.entries
