from __future__ import annotations

import zlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import numpy_stream, stream

PARTS = st.one_of(st.sampled_from(["train", "evaluation", "init", "a", "b"]), st.integers(0, 2**31 - 1))


def data(*path: str | int) -> tuple[int, ...]:
    seed, *rest = path
    return tuple(np.asarray(jax.random.key_data(stream(seed, *rest))).tolist())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**31 - 1), st.lists(PARTS, max_size=3), st.lists(PARTS, max_size=3))
def test_streams_agree_exactly_where_their_paths_do(
    seed: int, one: list[str | int], other: list[str | int]
) -> None:
    assert (data(seed, *one) == data(seed, *other)) == (one == other)


def test_neighbouring_seeds_steps_and_phases_have_streams_of_their_own() -> None:
    paths = [
        (s, split, phase, step)
        for s in range(4)
        for split in ("train", "evaluation")
        for phase in "pq"
        for step in range(4)
    ]
    assert len({data(*path) for path in paths}) == len(paths)
    assert data(1, "train", 0) != data(0, "train", 1)
    assert data(0, "a", "b") != data(0, "b", "a")


@pytest.mark.parametrize("name", ["train", "evaluation"])
def test_a_name_differs_from_its_checksum(name: str) -> None:
    assert data(0, name) != data(0, zlib.crc32(name.encode()) % 2**31)


def test_a_traced_seed_and_step_give_the_same_stream() -> None:
    traced = jax.jit(lambda seed, step: jax.random.key_data(stream(seed, "train", step)))(
        np.uint32(3), np.int32(7)
    )
    assert tuple(np.asarray(traced).tolist()) == data(3, "train", 7)


def test_numpy_streams_repeat_and_differ_by_path_and_seed() -> None:
    def drawn(seed: int, *path: str | int) -> float:
        return float(numpy_stream(seed, *path).random())

    assert drawn(3, "a", 1) == drawn(3, "a", 1)
    assert len({drawn(3, "a", 1), drawn(3, "a", 2), drawn(3, "b", 1), drawn(4, "a", 1)}) == 4
