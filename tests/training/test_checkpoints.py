"""Saved arrays are restored bit for bit, and damage costs one checkpoint, not the run."""

from __future__ import annotations

import gc
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.drawing import DRAWS
from training import CheckpointPolicy, Checkpoints, load_parameters, saved_parameters
from training.checkpoints import CheckpointError, Position, require_same_draws, saved_digest
from training.parameter_files import BLOCK, digest, disk_bytes, read_parameters, write_parameters


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


@pytest.mark.long
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


def test_parameters_of_training_that_began_again_replace_those_of_before(tmp_path: Path) -> None:
    for value in (1, 2):
        checkpoints = Checkpoints(tmp_path, CheckpointPolicy())
        checkpoints.save_parameters("a", 0, state(value))
        checkpoints.close()
    same(load_parameters(tmp_path, "a", 0, shapes(0)), state(2))
    # Stated in the file itself: no array is read for it.
    assert saved_digest(tmp_path, "a", 0) == digest(state(2))


def test_states_of_other_draws_are_refused_before_anything_is_changed(tmp_path: Path) -> None:
    require_same_draws(tmp_path)
    checkpoints = Checkpoints(tmp_path / "own", CheckpointPolicy())
    checkpoints.save(10, Position(0, 10, 3, draws=DRAWS), state(1))
    checkpoints.close()
    require_same_draws(tmp_path / "own")
    filled(tmp_path / "old")
    before = sorted(path for path in (tmp_path / "old").rglob("*"))
    with pytest.raises(CheckpointError, match="version 1, these are of version 2"):
        require_same_draws(tmp_path / "old")
    assert sorted(path for path in (tmp_path / "old").rglob("*")) == before


def other(change: str) -> Any:
    """Shapes of a state that differs from the saved one in one array."""
    asked = shapes(0)
    if change == "shape":
        asked["weights"] = jax.ShapeDtypeStruct((2, 4), np.float32)
    elif change == "type":
        asked["weights"] = jax.ShapeDtypeStruct((2, 3), np.float16)
    elif change == "missing":
        del asked["extreme"]
    else:
        asked["new"] = jax.ShapeDtypeStruct((), np.int32)
    return asked


MISFITS = {
    "shape": "weights: expected float32[2,4], found float32[2,3]",
    "type": "weights: expected float16[2,3], found float32[2,3]",
    "missing": "extreme: expected nothing, found float32[3]",
    "added": "new: expected int32[], found nothing",
}


@pytest.mark.parametrize("change", MISFITS)
def test_arrays_that_the_model_does_not_expect_are_named(tmp_path: Path, change: str) -> None:
    """Orbax gives back the shape that was saved, and converts types."""
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy())
    checkpoints.save(10, Position(0, 10, 20), state(10))
    checkpoints.save_parameters("a", 10, state(10))
    checkpoints.close()
    asked, line = other(change), f"does not fit the model: {MISFITS[change]}"
    with pytest.raises(CheckpointError, match="none of 1 checkpoints can be used") as refused:
        Checkpoints(tmp_path, CheckpointPolicy()).restore(lambda _: asked, no_warning)
    assert str(refused.value).endswith(
        f"the one at global step 10 cannot be read ({line}): nothing was changed; continue with what it was "
        "saved with, or choose another name"
    )
    with pytest.raises(CheckpointError, match="does not fit") as refused:
        load_parameters(tmp_path, "a", 10, asked)
    path = tmp_path / "parameters" / "a" / "00000010.npz"
    assert str(refused.value) == f"checkpoint: {path}: {line}"


def test_a_state_that_was_not_saved_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orbax saves no step before the newest, and reports this in the return value."""
    filled(tmp_path)
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy())
    with pytest.raises(
        CheckpointError, match="the state at global step 5 was not saved; the newest there is 30"
    ):
        checkpoints.save(5, Position(0, 5, 10), state(5))
    monkeypatch.setattr(checkpoints._states, "save", lambda *_, **__: False)
    with pytest.raises(CheckpointError, match="the state at global step 40 was not saved"):
        checkpoints.save(40, Position(1, 35, 80), state(40))
    found = checkpoints.restore(shapes, no_warning)
    assert found is not None
    same(found[1], state(30))


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (CheckpointPolicy(parameters="none"), [set(), set()]),
        (CheckpointPolicy(parameters="ends"), [{10}, {4}]),
        (CheckpointPolicy(parameters="evaluations"), [{0, 2, 4, 6, 8, 10}, {0, 2, 4}]),
        (CheckpointPolicy(parameters="evaluations", budget_mb=6), [{0, 4, 8, 10}, {0, 4}]),
        (CheckpointPolicy(parameters="evaluations", budget_mb=2), [{10}, {4}]),
        (CheckpointPolicy(parameters="ends", budget_mb=1), [{10}, {4}]),
    ],
)
def test_parameter_checkpoints_are_thinned_to_the_budget(
    policy: CheckpointPolicy, kept: list[set[int]]
) -> None:
    grids = [(0, 2, 4, 6, 8, 10), (0, 2, 4)]
    assert policy.parameter_steps(grids, 1_000_000) == kept


@pytest.mark.long
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=3), st.integers(1, 80))
def test_the_budget_holds_whenever_it_has_room_for_the_ends(lengths: list[int], affordable: int) -> None:
    grids = [tuple(range(length + 1)) for length in lengths]
    policy = CheckpointPolicy(parameters="evaluations", budget_mb=float(affordable))
    if affordable < len(grids):
        with pytest.raises(
            ValueError, match=r"^checkpoint.budget_mb: \d is less than the \d MB of the param"
        ):
            policy.parameter_steps(grids, 1_000_000)
        return
    kept = policy.parameter_steps(grids, 1_000_000)
    assert all(end in steps for end, steps in zip(lengths, kept, strict=True))
    assert sum(map(len, kept)) <= affordable


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=3), st.integers(1, 300), st.integers(0, 2))
def test_the_evaluations_kept_fit_into_their_budget(lengths: list[int], affordable: int, others: int) -> None:
    grids = [tuple(range(length + 1)) for length in lengths]
    policy = CheckpointPolicy(log_probs_mb=float(affordable))
    pairs = [1000, 2000, 3000][: len(lengths)]
    spent = 1e6 * others
    for phase, grid in enumerate(grids):
        each = 500 * pairs[phase]
        kept = policy.evaluation_steps(grids, pairs, phase, each, 1_000_000 * others)
        spent += len(kept) * each
        assert kept <= set(grid)
        assert not kept or grid[-1] in kept
        assert len(kept) < 2 or {grid[0], grid[-1]} <= kept
        gaps = set(np.diff(sorted(kept - {grid[-1]})))
        assert len(gaps) <= 1
    assert spent <= max(1e6 * affordable, 1e6 * others)


@pytest.mark.parametrize("leaves", [1, 7, 60])
@pytest.mark.parametrize("size", [1, 1000, 30_000])
def test_the_budget_counts_what_a_file_takes_on_disk(tmp_path: Path, leaves: int, size: int) -> None:
    tree = {
        f"a rather long name of a layer {index}": np.ones((2, size), np.float32) for index in range(leaves)
    }
    write_parameters(tmp_path / "x" / "00000001.npz", tree)
    (file,) = (tmp_path / "x").iterdir()
    taken, counted = max(file.stat().st_blocks * 512, file.stat().st_size), disk_bytes(tree)
    assert taken <= counted
    assert counted <= 1.3 * file.stat().st_size + 2 * BLOCK


def test_saved_parameters_are_one_file_that_numpy_reads(tmp_path: Path) -> None:
    for name in ("one", "other"):
        checkpoints = Checkpoints(tmp_path / name, CheckpointPolicy())
        checkpoints.save_parameters("train", 5, state(5))
        checkpoints.save_parameters("train", 5, state(6))
        checkpoints.close()
    files = [path for path in (tmp_path / "one" / "parameters").rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["00000005.npz"]
    assert files[0].read_bytes() == (tmp_path / "other" / "parameters" / "train" / files[0].name).read_bytes()
    with np.load(files[0]) as archive:
        assert sorted(archive.files) == [
            *("['extreme']", "['more'][0]", "['more'][1]['count']", "['weights']", "sha256")
        ]
        np.testing.assert_array_equal(archive["['weights']"], state(5)["weights"])
        assert archive["sha256"].item() == digest(state(5))


def test_another_shape_or_type_than_the_model_expects_is_said(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    tree = {"w": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)}
    write_parameters(path, jax.tree.map(np.asarray, tree))
    same(read_parameters(path, tree), jax.tree.map(np.asarray, tree))
    for wanted, line in (
        (
            {"w": jax.ShapeDtypeStruct((3, 2), jnp.bfloat16)},
            "w: expected bfloat16[3,2], found bfloat16[2,3]",
        ),
        ({"w": jax.ShapeDtypeStruct((2, 3), np.float32)}, "w: expected float32[2,3], found |V2[2,3]"),
        ({"v": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)}, "v: expected bfloat16[2,3], found nothing"),
    ):
        with pytest.raises(ValueError, match=re.escape(line)):
            read_parameters(path, wanted)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_folders_of_earlier_versions_are_still_read(tmp_path: Path) -> None:
    import orbax.checkpoint as ocp

    writer = ocp.StandardCheckpointer()
    for step, sha256 in ((3, digest(state(3))), (4, digest(state(5))), (7, digest(state(7)))):
        folder = tmp_path / "parameters" / "b" / f"{step:08d}"
        writer.save(folder.absolute(), state(step), custom_metadata={"sha256": sha256})
    writer.wait_until_finished()
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy())
    for step in (3, 20):
        checkpoints.save_parameters("b", step, state(step))
    checkpoints.close()
    assert saved_parameters(tmp_path) == [("b", 3), ("b", 4), ("b", 7), ("b", 20)]
    # What is saved again is a file, and the folder is gone.
    assert sorted(path.name for path in (tmp_path / "parameters" / "b").iterdir()) == [
        "00000003.npz", "00000004", "00000007", "00000020.npz",
    ]  # fmt: skip
    for step in (3, 7, 20):
        same(load_parameters(tmp_path, "b", step, shapes(0)), state(step))
        assert saved_digest(tmp_path, "b", step) == digest(state(step))
    assert saved_digest(tmp_path, "b", 5) is None
    with pytest.raises(ValueError, match="its contents differ from what was saved"):
        load_parameters(tmp_path, "b", 4, shapes(0))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"every_seconds": -1.0}, "checkpoint.every_seconds: -1.0 is not a number >= 0"),
        ({"keep": 0}, "checkpoint.keep: 0 is not an integer >= 1"),
        ({"parameters": "all"}, "checkpoint.parameters: 'all' is not one of evaluations, ends, none"),
        ({"budget_mb": 0.0}, "checkpoint.budget_mb: 0.0 is not a positive number"),
        ({"log_probs_mb": -1.0}, "checkpoint.log_probs_mb: -1.0 is not a positive number"),
    ],
)
def test_bad_settings_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="checkpoint") as refused:
        CheckpointPolicy(**options)
    assert str(refused.value) == line
