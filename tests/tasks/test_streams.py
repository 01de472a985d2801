import zlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import check_seed, check_seeds, numpy_stream, pin_settings, stream

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


@pytest.mark.parametrize(
    "path",
    [
        (-1,),
        (2**31,),
        (2**63,),
        (True,),
        (1.0,),
        (0, 2**32),
        (0, -1),
        (0, "a", np.int64(2**32 + 1)),
        (0, 1.5),
    ],
)
def test_numbers_that_would_be_taken_modulo_2_to_the_32_are_refused(path: tuple[object, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"^(seed|stream): .* is not an integer from 0 to (2147483647|4294967295)$"
    ):
        stream(*path)  # type: ignore[arg-type]


def test_numpy_integers_are_the_integers_they_are() -> None:
    assert data(np.int64(3), "a", np.uint32(2**32 - 1), np.array(5)) == data(3, "a", 2**32 - 1, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, 2**31, 2**32, 2**63, True, 1.0, "1", None, np.int64(2**31), np.True_])
def test_a_seed_of_any_kind_is_refused_by_its_field(value: object) -> None:
    with pytest.raises(ValueError, match=r"^evaluation\.seed: .* is not an integer from 0 to 2147483647$"):
        check_seed("evaluation.seed", value)
    with pytest.raises(ValueError, match=r"^seed: "):
        check_seeds(value, 1)


def test_seeds_are_consecutive_and_end_below_2_to_the_31() -> None:
    assert check_seeds(np.int64(3), 2) == (3, 4)
    assert check_seeds(2**31 - 1, 1) == (2**31 - 1,)
    for count in (0, True, 1.0, "2"):
        with pytest.raises(ValueError, match=r"^seeds: .* is not an integer >= 1$"):
            check_seeds(0, count)
    with pytest.raises(ValueError, match=r"^tuning: 2147483647 \+ tunings = 2 exceeds 2\^31$"):
        check_seeds(2**31 - 1, 2, fields=("tuning", "tunings"))


def test_keys_are_threefrys_whatever_jaxs_default_is() -> None:
    plain, drawn = data(3, "a"), jax.random.uniform(stream(3, "a"))
    with jax.default_prng_impl("rbg"):
        assert data(3, "a") == plain
        assert jax.random.uniform(stream(3, "a")) == drawn
        assert jax.random.key_impl(stream(3, "a")) == "threefry2x32"


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_threefry_partitionable", False), ("jax_random_seed_offset", 1), ("jax_enable_x64", True)],
)
def test_settings_that_change_draws_are_refused_or_pinned(name: str, value: bool | int) -> None:
    plain, drawn = data(3, "a"), jax.random.uniform(stream(3, "a"), (3,))
    before = getattr(jax.config, name)
    try:
        jax.config.update(name, value)
        with pytest.raises(ValueError, match=f"^{name}: {value}; random draws need {before}"):
            stream(3, "a")
        pin_settings()
        assert getattr(jax.config, name) == before
        assert data(3, "a") == plain
        np.testing.assert_array_equal(jax.random.uniform(stream(3, "a"), (3,)), drawn)
    finally:
        jax.config.update(name, before)


def test_numpy_streams_do_not_depend_on_the_width_of_numbers() -> None:
    plain = numpy_stream(3, "a").random()
    with jax.enable_x64(True):
        assert numpy_stream(3, "a").random() == plain
