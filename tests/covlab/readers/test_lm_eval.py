"""Files of lm-evaluation-harness, as it wrote them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

VERSIONS = ("lm_eval_0.4.3", "lm_eval_0.4.7", "lm_eval_0.4.13")
NAMES = ("toy/base@step100", "toy/base@step900")
ANSWERS = ("5", "3", "8", "2", "ü")


def of(folder: Path, task: str, step: int = 100) -> Path:
    """The file of a task by a checkpoint, found by the checkpoint that its results name."""
    for results in sorted(folder.rglob("results_*.json")):
        if f"step{step}" in json.dumps(json.loads(results.read_text())["config"]["model_args"]):
            return results.with_name(results.name.replace("results", f"samples_{task}") + "l")
    raise AssertionError(folder)


def is_right(response: str, target: Any, record: dict[str, Any]) -> bool:
    """A verifier."""
    return response == record["choices"][record["answer"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("task", ["toy_mc", "toy_mi", "toy_ll", "toy_roll"])
def test_log_likelihoods_are_those_of_the_right_response(
    version: str, task: str, files: Path, read: Callable[..., Any], lines: Callable[..., Any]
) -> None:
    found = read(files / version, tasks=task).log_probs
    assert found.names == NAMES
    for row, step in enumerate((100, 900)):
        for example, line in enumerate(lines(of(files / version, task, step))):
            if task == "toy_roll":
                value, text = float(line["resps"][0][0]), line["doc"]["text"]
            elif task == "toy_ll":
                value, text = float(line["resps"][0][0][0]), line["doc"]["choices"][line["doc"]["answer"]]
            else:
                requests = [each for each in line["arguments"].values() if each["arg_0"]]
                place = list(line["arguments"].values()).index(requests[line["doc"]["answer"]])
                value = float(line["resps"][place][0][0])
                text = " " + line["doc"]["choices"][line["doc"]["answer"]]
            assert found.values[row, example] == value
            assert found.num_bytes[example] == len(text.encode())
    assert len(found.labels) == 5


@pytest.mark.parametrize("version", VERSIONS)
def test_counts_are_the_tasks_own_or_a_verifiers(
    version: str, files: Path, read: Callable[..., Any], lines: Callable[..., Any]
) -> None:
    own = read(files / version, tasks="toy_n").counts
    judged = read(files / version, tasks="toy_n", verifier=f"{__name__}:is_right").counts
    expected = [
        [sum(text == answer for text in line["resps"][0]) for line, answer in zip(rows, ANSWERS, strict=True)]
        for rows in (lines(of(files / version, "toy_n", step)) for step in (100, 900))
    ]
    for counts in (own, judged):
        assert counts.num_correct.tolist() == expected
        assert (counts.num_samples == 4).all()


def test_a_repeated_response_needs_a_verifier(files: Path, refused: Callable[..., str]) -> None:
    said = refused(files / "lm_eval_dummy", tasks="toy_gen", filter="strict")
    assert "4 responses, and exact_match judges the first alone; valid: verifier=" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_a_filter_is_asked_for(
    version: str,
    files: Path,
    read: Callable[..., Any],
    refused: Callable[..., str],
    lines: Callable[..., Any],
) -> None:
    named = version != "lm_eval_0.4.3"
    said = refused(files / version, tasks="toy_one")
    assert ("filters: 2 of them; valid: filter= one of strict, flexible" if named else "one of 1, 2") in said
    for place, name in enumerate(("strict", "flexible")):
        found = read(files / version, tasks="toy_one", filter=name if named else str(place + 1)).counts
        blocks = lines(of(files / version, "toy_one"))[5 * place : 5 * place + 5]
        assert found.num_correct[0].tolist() == [int(line["exact"]) for line in blocks]
        assert (found.num_samples == 1).all()
    # A verifier judges the responses, which are the same in every filter; without names the filter matters.
    if named:
        assert read(files / version, tasks="toy_one", verifier=f"{__name__}:is_right").counts is not None


def test_tasks_have_to_be_named(files: Path, refused: Callable[..., str], read: Callable[..., Any]) -> None:
    said = refused(files / "lm_eval_0.4.13")
    assert "tasks: 6 of them; valid: tasks= one of toy_ll, toy_mc, toy_mi, toy_n, toy_one, toy_roll" in said
    assert "tasks: 'gsm8k' is not in" in refused(files / "lm_eval_0.4.13", tasks="gsm8k")
    assert read(files / "lm_eval_0.4.13", tasks="toy_m?").log_probs.values.shape == (2, 10)
    assert "valid: tasks= those of one kind" in refused(files / "lm_eval_0.4.13", tasks="toy_[mn]*")


def test_two_dates_are_two_runs(tmp_path: Path, files: Path, refused: Callable[..., str]) -> None:
    for date in ("2026-01-01T00-00-00.000000", "2026-01-02T00-00-00.000000"):
        for name in ("samples_toy_mc_", "results_"):
            source = of(files / "lm_eval_0.4.13", "toy_mc")
            if name == "results_":
                source = source.with_name(source.name.replace("samples_toy_mc", "results")[:-1])
            shutil.copy(source, tmp_path / f"{name}{date}{source.suffix}")
    assert "two runs of toy_mc by one checkpoint" in refused(tmp_path)


def test_lines_may_be_shuffled_but_not_repeated_torn_or_missing(
    tmp_path: Path, files: Path, read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    source = of(files / "lm_eval_0.4.13", "toy_mc")
    rows = source.read_text().splitlines(keepends=True)
    date = source.name.removeprefix("samples_toy_mc_").removesuffix(".jsonl")
    one, other = tmp_path / "a" / source.name, tmp_path / "b" / source.name
    for path in (one, other):
        path.parent.mkdir()
        path.write_text("".join(rows))
    other.write_text("".join(rows[::-1]))
    values = read(one, other).log_probs.values
    assert np.array_equal(values[0], values[1])
    other.write_text("".join([*rows, rows[2]]))
    assert "doc_id 2 occurs twice in filter none" in refused(one, other)
    other.write_text("".join(rows)[:-40])
    assert "line 5 is not JSON, torn off at its end" in refused(one, other)
    other.write_text("".join(rows[:-1]))
    assert refused(one, other).startswith(
        "examples: 1 of 5 examples are not in every checkpoint (b has 4 of them)"
    )
    assert read(one, other, examples="common").log_probs.values.shape == (2, 4)
    # With the results of the run even a file that ends between two lines is seen.
    shutil.copy(source.with_name(f"results_{date}.json"), other.with_name(f"results_{date}.json"))
    assert f"4 documents, and 5 in results_{date}.json: not whole" in refused(other)


def test_documents_are_joined_by_content_and_not_by_doc_id(
    write: Callable[..., Path],
    files: Path,
    lines: Callable[..., Any],
    read: Callable[..., Any],
    refused: Callable[..., str],
) -> None:
    rows = lines(of(files / "lm_eval_0.4.13", "toy_ll"))
    moved = [{**row, "doc_id": 4 - row["doc_id"]} for row in rows]
    name = "samples_toy_ll_2026-01-01T00-00-00.000000.jsonl"
    one, other = write(f"a/{name}", rows), write(f"b/{name}", moved[::-1])
    values = read(one, other).log_probs.values
    assert np.array_equal(values[0], values[1])
    shots = [
        {
            **row,
            "arguments": {
                "gen_args_0": {
                    "arg_0": "Q: " + row["arguments"]["gen_args_0"]["arg_0"],
                    "arg_1": row["target"],
                }
            },
        }
        for row in rows
    ]
    other = write(f"c/{name}", shots)
    assert "10 of 10 examples are not in every checkpoint" in refused(one, other)
    assert "prompts or templates differ" in refused(one, other, examples="common")


def choice_rows(target: Any, choices: list[str], values: list[float], acc: float | None) -> dict[str, Any]:
    """A line of multiple choice."""
    line = {
        "doc_id": 0,
        "doc": {"q": "?"},
        "target": target,
        "arguments": {f"gen_args_{i}": {"arg_0": "?", "arg_1": f" {text}"} for i, text in enumerate(choices)},
        "resps": [[[str(value), "False"]] for value in values],
        "filter": "none",
    }
    return line if acc is None else line | {"acc": acc}


@pytest.mark.parametrize(
    ("target", "choices", "acc", "expected"),
    [
        ("1", ["a", "b"], None, -2.0),
        (1, ["a", "b"], 0.0, -2.0),
        ("b", ["a", "b"], None, -2.0),
        # An index and a text: acc says that choice 0, the most likely, is right, so the target is a text.
        ("1", ["1", "2"], 1.0, -1.0),
        ("1", ["1", "2"], 0.0, -2.0),
        ("[0, 1]", ["a", "b"], 1.0, math.log(math.exp(-1) + math.exp(-2))),
        (["a"], ["a", "b"], None, -1.0),
    ],
)
def test_the_right_choice(
    target: Any,
    choices: list[str],
    acc: float | None,
    expected: float,
    write: Callable[..., Path],
    read: Callable[..., Any],
) -> None:
    path = write("samples_t_2026-01-01T00-00-00.0.jsonl", [choice_rows(target, choices, [-1.0, -2.0], acc)])
    assert read(path).log_probs.values[0, 0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("1", "both an index and a text of the choices, and no acc tells which"),
        ("7", "neither always an index"),
    ],
)
def test_an_unclear_choice_is_refused(
    target: str, message: str, write: Callable[..., Path], refused: Callable[..., str]
) -> None:
    path = write(
        "samples_t_2026-01-01T00-00-00.0.jsonl", [choice_rows(target, ["1", "2"], [-1.0, -2.0], None)]
    )
    assert message in refused(path)


def test_infinities_are_values_and_nan_is_missing(
    write: Callable[..., Path],
    files: Path,
    lines: Callable[..., Any],
    read: Callable[..., Any],
    refused: Callable[..., str],
) -> None:
    rows = lines(of(files / "lm_eval_0.4.13", "toy_ll"))
    name = "samples_toy_ll_2026-01-01T00-00-00.0.jsonl"

    def with_first(value: str) -> Path:
        return write(name, [{**rows[0], "resps": [[[value, "False"]]]}, *rows[1:]])

    assert read(with_first("-inf")).log_probs.values[0, 0] == -math.inf
    missing = read(with_first("nan"))
    assert missing.log_probs.values.shape == (1, 4)
    assert missing.notes == (
        f"{missing.notes[0].partition(':')[0]}: 1 of 5 examples have no value (null, NaN or failed)",
    )
    for bad in ("inf", "0.5"):
        assert "valid: log-probabilities <= 0 in nats" in refused(with_first(bad))


def test_files_of_the_first_versions(files: Path, read: Callable[..., Any]) -> None:
    folder = files / "lm_eval_0.4.2"
    found = read(folder / "step900", folder / "step100", tasks="toy_mc").log_probs
    assert found.names == NAMES
    for row, step in enumerate((100, 900)):
        (path,) = (folder / f"step{step}").glob("*_toy_mc.jsonl")
        for example, line in enumerate(json.loads(path.read_text())):
            gold = line["doc"]["gold"]
            assert found.values[row, example] == line["resps"][gold][0][0]
            assert found.num_bytes[example] == len(line["arguments"][gold][1].encode())
    assert len(found.labels) == 5


def test_the_array_of_the_first_versions(tmp_path: Path, read: Callable[..., Any]) -> None:
    """Up to 0.4.2: one JSON array, real numbers, arguments as lists, no filter and no hashes."""
    array = [
        {
            "doc_id": i,
            "doc": {"question": q},
            "target": 1,
            "arguments": [[q, " x"], [q, " y"]],
            "resps": [[[-3.0 - i, False]], [[-1.0 - i, True]]],
            "filtered_resps": [[-3.0 - i, False], [-1.0 - i, True]],
            "acc": 1.0,
        }
        for i, q in enumerate(("a", "b"))
    ]
    for step in (200, 1000):
        folder = tmp_path / f"step{step}"
        folder.mkdir()
        (folder / "pretrained=base_toy.jsonl").write_text(json.dumps(array, indent=1))
        (folder / "results.json").write_text(
            json.dumps({"results": {"toy": {}}, "config": {"model_args": ""}})
        )
    found = read(tmp_path / "step1000", tmp_path / "step200", tasks="toy").log_probs
    assert found.names == ("step200", "step1000")
    assert found.values.tolist() == [[-1.0, -2.0]] * 2
