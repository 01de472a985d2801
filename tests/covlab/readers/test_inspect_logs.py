"""Logs of inspect-ai, as it wrote them."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

INPUTS = ("1+1=", "2+2=", "3+4=", "5+1=", "4+4=")


def log_of(folder: Path) -> Path:
    """The newest log of a folder."""
    return max(folder.glob("*.json"))


def counted(path: Path) -> dict[str, list[int]]:
    """Input -> n and c, by hand."""
    counts: dict[str, list[int]] = {}
    for sample in json.loads(path.read_text())["samples"]:
        own = counts.setdefault(sample["input"], [0, 0])
        if sample["scores"]:
            own[0] += 1
            own[1] += sample["scores"]["match"]["value"] == "C"
    return counts


@pytest.mark.parametrize("name", ["step-100", "step-900", "shuffled", "retry"])
def test_counts_over_epochs(name: str, files: Path, read: Callable[..., Any]) -> None:
    folder = files / "inspect" / name
    found = read(folder).counts
    expected = counted(log_of(folder))
    assert found.num_samples[0].tolist() == [expected[text][0] for text in found.labels] == [4] * 5
    assert found.num_correct[0].tolist() == [expected[text][1] for text in found.labels]
    assert sorted(found.labels) == sorted(INPUTS)


def test_samples_are_joined_by_input_because_ids_follow_the_shuffling(
    files: Path, read: Callable[..., Any]
) -> None:
    found = read(files / "inspect" / "step-100", files / "inspect" / "shuffled").counts
    assert sorted(found.labels) == sorted(INPUTS)
    ids = {
        sample["input"]: sample["id"]
        for sample in json.loads(log_of(files / "inspect" / "shuffled").read_text())["samples"]
    }
    assert [ids[text] for text in INPUTS] != [1, 2, 3, 4, 5]
    # Natural order of the paths: shuffled, step-100.
    shuffled = counted(log_of(files / "inspect" / "shuffled"))
    assert found.num_correct[0].tolist() == [shuffled[text][1] for text in found.labels]


def test_a_failed_sample_is_neither_right_nor_wrong(
    files: Path, read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    failed, whole = files / "inspect" / "failed", files / "inspect" / "step-100"
    found = read(failed)
    assert found.counts.labels == tuple(text for text in INPUTS if text != "2+2=")
    assert "4 samples of" in found.notes[0]
    assert "1 of 5 examples are not in every checkpoint" in refused(failed, whole)
    assert read(failed, whole, examples="common").counts.num_samples.tolist() == [[4] * 4] * 2


def test_a_log_without_success_is_refused(files: Path, refused: Callable[..., str]) -> None:
    assert "status error; valid: a log with status success" in refused(
        min((files / "inspect" / "retry").glob("*.json"))
    )


def changed(files: Path, tmp_path: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a log with a change."""
    content = json.loads(log_of(files / "inspect" / "step-100").read_text())
    change(content)
    path = tmp_path / "log.json"
    path.write_text(json.dumps(content))
    return path


def set_value(value: Any, name: str = "match") -> Callable[[Any], None]:
    def change(content: Any) -> None:
        content["samples"][0]["scores"] = {name: {"value": value}}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_value("P"), "match: 'P' is not a number"),
        (set_value(0.5), "match: 0.5 is neither 0 nor 1; valid: solved="),
        (lambda log: log["samples"].append(log["samples"][0]), "sample 1 of example '1+1=' occurs twice"),
        (lambda log: log["samples"].pop(), "19 samples, and its header counts 20: not whole"),
        (lambda log: log["samples"][7].update(input="other"), "example 3 occurs with two different contents"),
        (
            lambda log: log["samples"][0]["scores"].update(other={"value": "C"}),
            "scores: 2 of them; valid: score=",
        ),
    ],
)
def test_what_is_refused(
    change: Callable[[Any], None], message: str, files: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert message in refused(changed(files, tmp_path, change))


def test_scores_of_other_kinds(files: Path, tmp_path: Path, read: Callable[..., Any]) -> None:
    path = changed(files, tmp_path, set_value(0.5))
    by_hand = counted(log_of(files / "inspect" / "step-100"))["1+1="][1]
    first = json.loads(log_of(files / "inspect" / "step-100").read_text())["samples"][0]["scores"]["match"][
        "value"
    ]
    assert read(path, solved=0.5).counts.num_correct[0, 0] == by_hand + (first == "I")
    path = changed(files, tmp_path, set_value("N"))
    assert read(path).counts.num_correct[0, 0] == by_hand - (first == "C")


def test_the_sum_of_log_probabilities_and_not_the_mean(
    files: Path, tmp_path: Path, read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    def change(content: Any) -> None:
        content["samples"] = content["samples"][:5]
        content["results"]["total_samples"] = 5
        for i, sample in enumerate(content["samples"]):
            score = {"value": -0.5, "metadata": {"sum_log_probs": -4.0 - i, "num_tokens": 8}}
            sample["scores"] = {"target_perplexity": score}

    found = read(changed(files, tmp_path, change)).log_probs
    assert found.values.tolist() == [[-4.0, -5.0, -6.0, -7.0, -8.0]]
    assert found.num_bytes.tolist() == [1] * 5

    def twice(content: Any) -> None:
        change(content)
        content["samples"].append({**content["samples"][0], "epoch": 2})
        content["results"]["total_samples"] = 6

    assert "example '1+1=' occurs twice" in refused(changed(files, tmp_path, twice))


def test_an_eval_archive(
    files: Path, tmp_path: Path, read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    """The archive as inspect wrote it, with Zstandard, and with a compression that Python reads."""
    original = next((files / "inspect").glob("*.eval"))
    if importlib.util.find_spec("zipfile_zstd") is None:
        assert "valid: with `pip install zipfile-zstd`" in refused(original)
    else:
        assert read(original).counts.num_samples.tolist() == [[4] * 5]
    log = json.loads(log_of(files / "inspect" / "step-900").read_text())
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in log.pop("samples"):
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps(log))
    found, plain = read(path).counts, read(files / "inspect" / "step-900").counts
    assert found.names == plain.names == ("toy/step-900",)
    assert found.num_correct.tolist() == plain.num_correct.tolist()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("samples/1_epoch_1.json", "{}")
    assert "no header.json: the evaluation did not end" in refused(path)
