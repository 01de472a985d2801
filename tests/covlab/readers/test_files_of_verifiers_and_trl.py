"""Files of verifiers 0.3.1 and 0.4.0 and of TRL 1.16, as they wrote them (`files/README.md`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUMS = {"1+1=": "2", "2+2=": "4", "3+4=": "7", "5+1=": "6", "4+4=": "8"}
VERSIONS = ("verifiers_0.3", "verifiers_0.4")


def rewards(path: Path, name: str) -> dict[str, list[float]]:
    """Prompt -> the rewards of its rollouts without error, by hand."""
    found: dict[str, list[float]] = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if path.name == "results.jsonl":
            prompt, failed, score = line["prompt"][0]["content"], line["error"], line[name]
        else:
            (trace,) = line["traces"]
            prompt, failed = trace["task"]["data"]["prompt"], trace["errors"]
            score = trace["rewards"].get(name, {}).get("score")
        found.setdefault(prompt, []).extend([] if failed else [score])
    return found


def file_of(folder: Path) -> Path:
    """The rollouts of a run."""
    return next(path for path in folder.iterdir() if path.suffix == ".jsonl")


@pytest.mark.parametrize("version", VERSIONS)
def test_counts_of_two_runs(version: str, files: Path, read: Callable[..., Any]) -> None:
    runs = [files / version / name for name in ("toy-100", "toy-900")]
    found = read(*runs, score="exact").counts
    assert found.names == ("toy-100", "toy-900")
    # In version 0.3 the second run has the prompts in reverse, and with it other example ids.
    assert set(found.labels) == set(SUMS)
    for row, run in enumerate(runs):
        expected = rewards(file_of(run), "exact")
        assert found.num_samples[row].tolist() == [len(expected[label]) for label in found.labels] == [4] * 5
        assert found.num_correct[row].tolist() == [sum(expected[label]) for label in found.labels]
    assert found.num_correct[0].sum() < found.num_correct[1].sum()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_rollout_is_neither_right_nor_wrong(
    version: str, files: Path, read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    run = files / version / "toy-fails"
    expected = rewards(file_of(run), "exact")
    assert expected["2+2="] == []
    found = read(run, score="exact")
    assert set(found.counts.labels) == {*SUMS} - {"2+2="}
    assert found.counts.num_correct[0].tolist() == [sum(expected[label]) for label in found.counts.labels]
    assert any("4 responses have no score and count neither as right nor wrong" in one for one in found.notes)
    whole = files / version / "toy-100"
    assert "1 of 5 examples are not in every checkpoint" in refused(run, whole, score="exact")
    assert read(run, whole, score="exact", examples="common").counts.num_samples.tolist() == [[4] * 4] * 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reward_that_is_not_0_or_1_needs_a_threshold(
    version: str, files: Path, read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    run = files / version / "toy-100"
    assert "short: 0.5 is neither 0 nor 1; valid: solved=" in refused(run, score="short")
    expected = rewards(file_of(run), "short")
    found = read(run, score="short", solved=0.75).counts
    assert found.num_correct[0].tolist() == [
        sum(value >= 0.75 for value in expected[label]) for label in found.labels
    ]


def test_which_reward_counts_is_asked_for_where_no_total_is_stored(
    files: Path, refused: Callable[..., str], read: Callable[..., Any]
) -> None:
    assert "rewards: 2 of them; valid: score= one of exact, short" in refused(
        files / "verifiers_0.4" / "toy-100"
    )
    run = files / "verifiers_0.3" / "toy-100"
    total = rewards(file_of(run), "reward")
    found = read(run).counts
    assert found.num_correct[0].tolist() == [sum(total[label]) for label in found.labels]


@pytest.mark.parametrize("version", VERSIONS)
def test_shuffled_torn_and_repeated_lines(
    version: str, files: Path, tmp_path: Path, read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    source = file_of(files / version / "toy-900")
    lines = source.read_text().splitlines(keepends=True)
    whole = read(source, score="exact").counts
    copy = tmp_path / source.name
    copy.write_text("".join(lines[::-1]))
    other = read(copy, score="exact").counts
    by_label = dict(zip(other.labels, other.num_correct[0].tolist(), strict=True))
    assert [by_label[label] for label in whole.labels] == whole.num_correct[0].tolist()
    copy.write_text("".join(lines)[:-30])
    assert "line 20 is not JSON, torn off at its end" in refused(copy, score="exact")
    if version == "verifiers_0.4":
        # Rollouts of 0.3 have no id: two equal lines may be two rollouts.
        copy.write_text("".join([*lines, lines[0]]))
        assert "occurs twice" in refused(copy, score="exact")


def test_completions_of_trl(files: Path, read: Callable[..., Any], refused: Callable[..., str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = files / "trl_1.16" / "texts"
    assert "rewards: 2 of them; valid: score= one of exact, digits" in refused(folder)
    assert "examples are not in every checkpoint" in refused(folder, score="exact")
    # Steps 2 and 3 happen to have one pair of prompts, in another order.
    steps = [folder / f"completions_{step:05d}.parquet" for step in (2, 3)]
    found = read(*steps, score="exact").counts
    assert found.names == ("step 2", "step 3")
    for row, step in enumerate(steps):
        table = parquet.read_table(step).to_pydict()
        assert set(table["prompt"]) == {*found.labels} == {"1+1=", "3+4="}
        for column, label in enumerate(found.labels):
            own = [x for x, prompt in zip(table["exact"], table["prompt"], strict=True) if prompt == label]
            assert found.num_samples[row, column] == len(own) == 4
            assert found.num_correct[row, column] == sum(own)
    assert found.num_correct.sum() == 2
    # The reward `digits` was None for 2+2=, which pandas writes as NaN.
    first = read(folder / "completions_00001.parquet", score="digits", solved=0.6)
    assert first.counts.labels == ("5+1=",)
    assert first.counts.num_correct.tolist() == [[2]]
    assert "4 responses have no score" in first.notes[0]


def test_completions_of_trl_as_messages(files: Path, read: Callable[..., Any]) -> None:
    pytest.importorskip("pyarrow")
    found = read(files / "trl_1.16" / "messages", score="exact").counts
    assert set(found.labels) <= set(SUMS)
    assert found.num_samples.tolist() == [[4, 4]]
