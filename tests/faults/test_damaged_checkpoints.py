"""Every file of a checkpoint damaged in every way: the exact state comes back, or the one before."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from training import CheckpointPolicy, Checkpoints, load_parameters
from training.checkpoints import CheckpointError, Position, digest

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("leftovers"),
]


def state(step: int) -> dict[str, Any]:
    # Large enough for a data file of its own: small arrays lie inside checksummed index nodes.
    weights = np.random.default_rng(step).normal(size=(2, 40, 10)).astype(np.float32)
    return {"params": {"w": weights}, "count": np.full(2, step, np.int32)}


def shapes(phase: int) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state(0))


def truncate(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def delete(file: Path) -> None:
    file.unlink()


def zeros(file: Path) -> None:
    """Zeros, which a file system may show after a loss of power."""
    file.write_bytes(bytes(file.stat().st_size))


def flip(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    if data:
        data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two full states and one of parameters. Read only."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(folder, CheckpointPolicy())
    for step in (10, 20):
        checkpoints.save(step, Position(0, step, 2 * step), state(step))
    checkpoints.save_parameters("one", 20, state(20))
    checkpoints.close()
    return folder


def restored_after(saved: Path, folder: Path, file: str, damage: Callable[[Path], None]) -> bool:
    """Damage a file of the newest state, restore, and say whether the newest came back, exact."""
    shutil.copytree(saved, folder)
    damage(folder / file)
    warnings: list[str] = []
    found = Checkpoints(folder, CheckpointPolicy()).restore(shapes, warnings.append)
    assert found is not None
    position, tree = found
    step = position.step
    assert (position, step in (10, 20)) == (Position(0, step, 2 * step), True)
    jax.tree.map(np.testing.assert_array_equal, tree, state(step))
    if step == 10:
        (warning,) = warnings
        assert warning.startswith("checkpoint at global step 20 cannot be read (")
        assert warning.endswith("); trying the one before")
        assert "\n" not in warning
    else:
        assert warnings == []
    shutil.rmtree(folder)
    return step == 20


def files_of(folder: Path) -> list[str]:
    newest = folder / "state" / "20"
    return sorted(str(file.relative_to(folder)) for file in newest.rglob("*") if file.is_file())


@pytest.mark.long
@pytest.mark.parametrize(
    "damage",
    [truncate, delete, *(pytest.param(damage, marks=pytest.mark.slow) for damage in (empty, zeros))],
    ids=lambda damage: damage.__name__,
)
def test_any_file_of_the_newest_state(saved: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    survived = {name: restored_after(saved, tmp_path / "copy", name, damage) for name in files_of(saved)}
    # The test would prove nothing if the damage went unnoticed everywhere.
    assert sum(not whole for whole in survived.values()) >= 3, survived


@pytest.mark.slow
def test_any_bit_of_the_newest_state(saved: Path, tmp_path: Path) -> None:
    """300 bits, drawn with seed 0 in proportion to the files' sizes."""
    sizes = {name: (saved / name).stat().st_size for name in files_of(saved)}
    draw = random.Random(0)
    noticed = 0
    for name in draw.choices(list(sizes), list(sizes.values()), k=300):
        bit = draw.randrange(8 * sizes[name])
        noticed += not restored_after(saved, tmp_path / "copy", name, lambda file, bit=bit: flip(file, bit))
    assert noticed > 100


@pytest.mark.long
def test_another_number_in_a_readable_checkpoint_is_noticed(saved: Path, tmp_path: Path) -> None:
    """A checkpoint that reads without complaint and holds other numbers than were saved."""
    shutil.copytree(saved, tmp_path / "copy")
    other = Checkpoints(tmp_path / "other", CheckpointPolicy())
    wrong = state(20)
    wrong["params"]["w"][0, 3, 3] += 1e-6
    other.save(20, Position(0, 20, 40), wrong)
    other.close()
    for part in ("state", "position"):
        target = tmp_path / part
        shutil.copytree(tmp_path / "copy", target)
        shutil.rmtree(target / "state" / "20" / part)
        shutil.copytree(tmp_path / "other" / "state" / "20" / part, target / "state" / "20" / part)
        warnings: list[str] = []
        found = Checkpoints(target, CheckpointPolicy()).restore(shapes, warnings.append)
        assert found is not None
        assert found[0].step == 10
        assert "its contents differ from what was saved" in warnings[0]


@pytest.mark.long
def test_the_digest_sees_types_shapes_names_and_the_entry() -> None:
    base = {"a": np.zeros(4, np.float32)}
    others = [
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.array([0, 0, 0, -0.0], np.float32)},
        {"a": np.zeros(4, np.float32), "c": np.zeros(0)},
    ]
    digests = [digest(base), digest(base, {"step": 1}), *map(digest, others)]
    assert len(set(digests)) == len(digests)
    assert digest({"a": jax.numpy.zeros(4)}) == digest(base)


@pytest.mark.long
def test_with_every_state_damaged_nothing_is_begun_or_changed(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    for step in (10, 20):
        empty(tmp_path / "copy" / "state" / str(step) / "position" / "metadata")
    before = sorted(str(file) for file in (tmp_path / "copy").rglob("*"))
    warnings: list[str] = []
    with pytest.raises(CheckpointError, match="none of 2 checkpoints can be used") as refused:
        Checkpoints(tmp_path / "copy", CheckpointPolicy()).restore(shapes, warnings.append)
    assert "\n" not in str(refused.value)
    assert "delete this folder" in str(refused.value)
    assert len(warnings) == 1
    assert sorted(str(file) for file in (tmp_path / "copy").rglob("*")) == before


@pytest.mark.long
def test_a_damaged_step_is_set_aside_and_saved_again(saved: Path, tmp_path: Path) -> None:
    """Orbax saves nothing at or before the newest step that it finds, damaged or not."""
    shutil.copytree(saved, tmp_path / "copy")
    empty(tmp_path / "copy" / "state" / "20" / "position" / "metadata")
    checkpoints = Checkpoints(tmp_path / "copy", CheckpointPolicy())
    assert checkpoints.restore(shapes, lambda _: None) is not None
    assert [file.name for file in (tmp_path / "copy" / "unreadable").iterdir()] == ["20"]
    for step in (15, 20):
        checkpoints.save(step, Position(0, step, 2 * step), state(step))
        found = checkpoints.restore(shapes, pytest.fail)
        assert found is not None
        assert found[0].step == step
        jax.tree.map(np.testing.assert_array_equal, found[1], state(step))
    checkpoints.close()


@pytest.mark.long
def test_a_state_saved_after_more_lines_than_are_left_is_passed_over(saved: Path) -> None:
    warnings: list[str] = []
    checkpoints = Checkpoints(saved, CheckpointPolicy())
    with pytest.raises(CheckpointError, match="was saved after 20 lines of metrics, of which 19 are left"):
        checkpoints.restore(shapes, warnings.append, lines=19)
    assert "was saved after 40 lines of metrics, of which 19 are left; trying the one before" in warnings[0]
    found = checkpoints.restore(shapes, pytest.fail, lines=40)
    assert found is not None
    assert found[0].step == 20


@pytest.mark.long
@pytest.mark.parametrize(
    "damage",
    [truncate, delete, *(pytest.param(damage, marks=pytest.mark.slow) for damage in (empty, zeros))],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_file_of_saved_parameters(
    saved: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(saved / "parameters", tmp_path / "parameters")
    damage(tmp_path / "parameters" / "one" / "00000020.npz")
    with pytest.raises(ValueError, match=r"^checkpoint: ([^\n]*cannot be read|no parameters of phase one)"):
        load_parameters(tmp_path, "one", 20, shapes(0))


@pytest.mark.long
def test_any_bit_of_saved_parameters(saved: Path, tmp_path: Path) -> None:
    """The exact numbers come back or the file is refused: its archive has bytes that mean nothing."""
    shutil.copytree(saved / "parameters", tmp_path / "parameters")
    file = tmp_path / "parameters" / "one" / "00000020.npz"
    whole, bits = file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(150):
        file.write_bytes(whole)
        flip(file, bits.randrange(8 * len(whole)))
        try:
            params = load_parameters(tmp_path, "one", 20, shapes(0))
            jax.tree.map(np.testing.assert_array_equal, params, state(20))
        except CheckpointError as error:
            refused += bool(re.fullmatch("checkpoint: .*", str(error)))
    assert refused > 100


@pytest.mark.long
def test_what_a_killed_process_was_writing_is_cleared_away(tmp_path: Path) -> None:
    half = tmp_path / "parameters" / "one" / "00000020.orbax-checkpoint-tmp"
    half.mkdir(parents=True)
    (half / "d").write_bytes(b"half")
    (tmp_path / "parameters" / "one" / ".00000030.npz.tmp").write_bytes(b"half")
    Checkpoints(tmp_path, CheckpointPolicy()).close()
    assert list((tmp_path / "parameters" / "one").iterdir()) == []


@pytest.mark.long
def test_parameters_are_whole_before_the_state_that_follows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run resumed from that state does not come back to them."""
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy())
    there: list[bool] = []
    save = checkpoints._states.save

    def watched(*arguments: Any, **options: Any) -> Any:
        there.append((tmp_path / "parameters" / "one" / "00000010.npz").exists())
        return save(*arguments, **options)

    monkeypatch.setattr(checkpoints._states, "save", watched)
    checkpoints.save_parameters("one", 10, {"w": np.zeros((300, 1000))})
    checkpoints.save(10, Position(0, 10, 0), state(10))
    checkpoints.close()
    assert there == [True]
