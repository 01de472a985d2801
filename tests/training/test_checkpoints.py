"""What is saved comes back bit for bit, and damage costs one checkpoint, not the run."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import CheckpointPolicy, Checkpoints, load_parameters, saved_parameters
from training.checkpoints import Position


def state(value: float) -> dict[str, Any]:
    rng = np.random.default_rng(int(value))
    return {
        "weights": rng.normal(size=(2, 3)).astype(np.float32),
        "more": (np.full((2,), value, np.float32), {"count": np.array([3, 4], np.int32)}),
        "extreme": np.array([np.nan, np.inf, 1e-45], np.float32),
    }


def shapes(phase: int) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state(0))


def same(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert [leaf.dtype for leaf in jax.tree.leaves(one)] == [leaf.dtype for leaf in jax.tree.leaves(other)]


def no_warning(text: str) -> None:
    raise AssertionError(text)


def filled(directory: Path, keep: int = 2) -> None:
    checkpoints = Checkpoints(directory, CheckpointPolicy(keep=keep))
    for step in (10, 20, 30):
        checkpoints.save(step, Position(1, step - 5, 2 * step, ((3, "first", 2),)), state(step))
    checkpoints.close()


def test_nothing_saved_is_nothing_restored(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, CheckpointPolicy()).restore(shapes, no_warning) is None


def test_the_newest_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    filled(tmp_path)
    asked: list[int] = []

    def abstract(phase: int) -> Any:
        asked.append(phase)
        return shapes(phase)

    found = Checkpoints(tmp_path, CheckpointPolicy()).restore(abstract, no_warning)
    assert found is not None
    assert found[0] == Position(phase=1, step=25, lines=60, failed=((3, "first", 2),))
    same(found[1], state(30))
    assert asked == [1]


def test_only_the_newest_are_kept_and_a_saved_step_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, keep=2)
    kept = {int(path.name) for path in (tmp_path / "state").iterdir() if path.name.isdecimal()}
    assert kept == {20, 30}
    again = Checkpoints(tmp_path, CheckpointPolicy(keep=2))
    again.save(30, Position(0, 0, 0), state(99))
    found = again.restore(shapes, no_warning)
    assert found is not None
    same(found[1], state(30))


def empty_files(newest: Path) -> None:
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def garble_files(newest: Path) -> None:
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x00garbage" * 7)


def lose_the_state(newest: Path) -> None:
    shutil.rmtree(newest / "state")


def lose_the_position(newest: Path) -> None:
    shutil.rmtree(newest / "position")


def lose_the_arrays(newest: Path) -> None:
    for path in newest.rglob("d"):
        shutil.rmtree(path)


@pytest.fixture
def leftovers() -> Iterator[None]:
    """Collect the event loop that Orbax abandons when a read fails, where its complaint is expected."""
    yield
    gc.collect()


of_a_failed_read = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
DAMAGE = [empty_files, garble_files, lose_the_state, lose_the_position, lose_the_arrays]


@of_a_failed_read
@pytest.mark.usefixtures("leftovers")
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    filled(tmp_path)
    damage(tmp_path / "state" / "30")
    warnings: list[str] = []
    found = Checkpoints(tmp_path, CheckpointPolicy()).restore(shapes, warnings.append)
    assert found is not None
    assert found[0] == Position(1, 15, 40, ((3, "first", 2),))
    same(found[1], state(20))
    (warning,) = warnings
    assert warning.startswith("checkpoint at global step 30 cannot be read (")
    assert "\n" not in warning


def test_parameters_are_found_by_phase_and_step(tmp_path: Path) -> None:
    assert saved_parameters(tmp_path) == []
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy())
    for phase, step in (("a", 0), ("b", 20), ("b", 3)):
        checkpoints.save_parameters(phase, step, state(step))
    checkpoints.close()
    assert saved_parameters(tmp_path) == [("a", 0), ("b", 3), ("b", 20)]
    same(load_parameters(tmp_path, "b", 20, shapes(0)), state(20))
    with pytest.raises(ValueError, match="checkpoint") as refused:
        load_parameters(tmp_path, "b", 4, shapes(0))
    assert str(refused.value) == "checkpoint: no parameters of phase b at step 4; there are a:0, b:3, b:20"


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (CheckpointPolicy(parameters="none"), [set(), set()]),
        (CheckpointPolicy(parameters="ends"), [{10}, {4}]),
        (CheckpointPolicy(parameters="evaluations"), [{0, 2, 4, 6, 8, 10}, {0, 2, 4}]),
        (CheckpointPolicy(parameters="evaluations", budget_mb=6), [{0, 4, 8, 10}, {0, 4}]),
        (CheckpointPolicy(parameters="evaluations", budget_mb=2), [{10}, {4}]),
    ],
)
def test_parameter_checkpoints_are_thinned_to_the_budget(
    policy: CheckpointPolicy, kept: list[set[int]]
) -> None:
    grids = [(0, 2, 4, 6, 8, 10), (0, 2, 4)]
    assert policy.parameter_steps(grids, 1_000_000) == kept


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=3), st.integers(1, 80))
def test_the_budget_holds_whenever_it_has_room_for_the_ends(lengths: list[int], affordable: int) -> None:
    grids = [tuple(range(length + 1)) for length in lengths]
    policy = CheckpointPolicy(parameters="evaluations", budget_mb=float(affordable))
    kept = policy.parameter_steps(grids, 1_000_000)
    assert all(end in steps for end, steps in zip(lengths, kept, strict=True))
    assert sum(map(len, kept)) <= max(affordable, len(grids))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"every_seconds": -1.0}, "checkpoint.every_seconds: -1.0 is not a number >= 0"),
        ({"keep": 0}, "checkpoint.keep: 0 is not an integer >= 1"),
        ({"parameters": "all"}, "checkpoint.parameters: 'all' is not one of evaluations, ends, none"),
        ({"budget_mb": 0.0}, "checkpoint.budget_mb: 0.0 is not a positive number"),
    ],
)
def test_bad_settings_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="checkpoint") as refused:
        CheckpointPolicy(**options)
    assert str(refused.value) == line
