"""Plain text: what is held out, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import stream
from tasks.text import Text


def drawn(task: Text, group: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts and responses of a class."""
    keys = jax.random.split(stream(0, "test"), count)
    examples = jax.jit(jax.vmap(lambda key: task.sample_group(key, jnp.asarray(group))))(keys)
    return np.asarray(examples.prompt), np.asarray(examples.response)


@pytest.mark.long
@pytest.mark.parametrize("split_seed", [0, 1])
def test_no_character_of_a_held_out_window_is_trained_on(split_seed: int) -> None:
    """Of the text behind `help()`, whole: by places, and by prompts."""
    task = Text(split_seed=split_seed)
    size = task.context + task.continuation
    starts, (train, held_out) = task.windows
    assert len(starts) == train + held_out
    covered = []
    for own in (starts[:train], starts[train:]):
        reached = np.zeros(len(task.text), bool)
        for offset in range(size):
            reached[own + offset] = True
        covered.append(reached)
    assert not (covered[0] & covered[1]).any()
    prompts = [task.text[i : i + task.context] for i in starts]
    assert len(set(prompts)) == len(prompts)
    assert 0.05 < held_out / len(starts) < 0.2
    others = Text(split_seed=1 - split_seed).windows.starts
    assert not np.array_equal(starts, others)


@pytest.mark.long
def test_windows_are_those_of_the_text() -> None:
    task = Text(context=24, continuation=4)
    starts, counts = task.windows
    places = {task.text[i : i + 24]: i for i in starts}
    first = 0
    for group, count in enumerate(counts):
        own = set(starts[first : first + count].tolist())
        first += count
        prompts, responses = drawn(task, group, 200)
        found = [places[task.decode(prompt)] for prompt in prompts]
        assert set(found) <= own
        assert len(set(found)) > 190
        assert [task.decode(each) for each in responses] == [task.text[i + 24 : i + 28] for i in found]


def test_blanks_and_line_ends_become_one_blank(tmp_path: Path) -> None:
    numbers = " ".join(map(str, range(100)))
    (tmp_path / "a.txt").write_text(f"  abc\n\n d\te  fgh {numbers}")
    task = Text(source=str(tmp_path / "a.txt"), context=8, continuation=1, block=20, held_out=0.5)
    assert task.text == f"abc d e fgh {numbers}"
    # A blank, ten digits, letters.
    assert task.encode("a b0") == [12, 1, 13, 2]
    with pytest.raises(ValueError, match=r"text: 'z' is not in the text of task\.source"):
        task.encode("az")


def test_a_run_may_demand_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(map(str, range(400))))
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    fields: dict[str, Any] = {"source": str(path), "context": 10, "block": 100}
    assert Text(**fields, digest=own[:8].upper()).text == path.read_text()
    with pytest.raises(
        ValueError, match=f"task.digest: '0000'; valid: the text of task.source has {own[:16]}"
    ):
        Text(**fields, digest="0000")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"source": "nowhere.txt"},
            "task.source: 'nowhere.txt': .*valid: python_topics or a text file in UTF-8",
        ),
        ({"context": 0}, "task.context: 0"),
        ({"continuation": 0}, "task.continuation: 0"),
        ({"held_out": 0}, "task.held_out: 0"),
        ({"held_out": 1}, "task.held_out: 1"),
        ({"block": 39}, "task.block: 39"),
        ({"held_out": 1e-6}, "task.held_out: 1e-06 leaves .* windows for train and 0 for held_out"),
        ({"split_seed": -1}, "task.split_seed: -1"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Text(**fields)
    assert "\n" not in str(error.value)
