"""Plain rows and arrays, and joining."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covlab.readers.base import Checkpoint, Wanted
from covlab.readers.contents import Contents
from covlab.readers.joining import names_of
from covlab.readers.registry import readers

ROWS = [
    {"prompt": "a", "target": "xy", "log_prob": -1.5},
    {"prompt": "b", "target": "ü", "log_prob": float("-inf")},
    {"prompt": "c", "target": "z", "log_prob": None},
]


def test_rows_of_log_probabilities(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    found = read(write("a.jsonl", ROWS))
    assert found.log_probs.values.tolist() == [[-1.5, -math.inf]]
    assert found.log_probs.num_bytes.tolist() == [2, 2]
    assert found.notes[0].endswith("1 of 3 examples have no value (null, NaN or failed)")


def test_csv_and_parquet_give_what_json_lines_give(
    tmp_path: Path, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    expected = read(write("a.jsonl", ROWS))
    csv = tmp_path / "a.csv"
    csv.write_text("prompt,target,log_prob\na,xy,-1.5\nb,ü,-inf\nc,z,nan\n")
    found = read(csv)
    assert found.log_probs.values.tolist() == expected.log_probs.values.tolist()
    assert found.log_probs.labels == expected.log_probs.labels
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").log_probs.values.tolist() == expected.log_probs.values.tolist()


def test_parquet_needs_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert "needs pyarrow; valid: with `pip install pyarrow`" in refused(tmp_path / "a.parquet", form="rows")


def test_ids_that_look_like_numbers_stay_different(
    write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    rows = [{"id": text, "log_prob": -1.0} for text in ("1", "01", "1.0")]
    assert read(write("a.jsonl", rows)).log_probs.labels == ("1", "01", "1.0")
    path = write("a.csv", [])
    path.write_text("id,log_prob\n1,-1\n01,-1\n1.0,-1\n")
    assert read(path).log_probs.labels == ("1", "01", "1.0")


def test_means_are_converted_with_counts_and_refused_without(
    write: Callable[..., Path], read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    found = read(write("a.jsonl", [{"id": 1, "mean_log_prob": -0.5, "num_tokens": 8}]))
    assert found.log_probs.values.tolist() == [[-4.0]]
    assert "mean_log_prob was multiplied by num_tokens: nats per response" in found.notes[0]
    found = read(write("a.jsonl", [{"id": 1, "bits_per_byte": 2.0, "num_bytes": 3}]))
    assert found.log_probs.values[0, 0] == pytest.approx(-6 * math.log(2), abs=1e-15)
    assert "bits_per_byte was multiplied by num_bytes" in found.notes[0]
    for column in (
        "mean_log_prob",
        "log_prob_per_token",
        "log_prob_per_char",
        "loss",
        "perplexity",
        "bits_per_byte",
    ):
        assert f"{column} is not a sum over the response; valid:" in refused(
            write("a.jsonl", [{"id": 1, column: -0.5}])
        )


def test_every_way_to_write_a_row_gives_the_same(
    write: Callable[..., Path], read: Callable[..., Any], refused: Callable[..., str], tmp_path: Path
) -> None:
    """Rows with columns that do not count, whole numbers, text, blanks: of which a file may hold each."""
    plain = [{"prompt": f"p{i}", "target": "ü" * (1 + i % 3), "log_prob": -0.5 - i} for i in range(6)]
    other = [
        plain[0] | {"step": 7},
        plain[1] | {"checkpoint": None},
        plain[2] | {"log_prob": str(plain[2]["log_prob"])},
        plain[3] | {"num_bytes": None},
        dict(reversed(plain[4].items())),
        plain[5] | {"id": None},
    ]
    one, two = write("a/rows.jsonl", plain), write("b/rows.jsonl", other)
    lines = two.read_text().splitlines()
    two.write_text("\n".join(f"  {line} \t" if i % 2 else line for i, line in enumerate(lines)))
    found = read(one, two).log_probs
    assert found.values.tolist() == [[-0.5 - i for i in range(6)]] * 2
    assert found.num_bytes.tolist() == [2, 4, 6] * 2
    assert found.labels == tuple(f"p{i}" for i in range(6))
    for again in (plain[2], other[0]):
        assert "occurs twice" in refused(write("c.jsonl", [*plain, again]))
    # A name makes a second example of an equal content.
    assert read(write("d.jsonl", [plain[0], plain[0] | {"id": "x"}])).log_probs.values.shape == (1, 2)


def test_contents_beyond_the_limit_are_not_kept() -> None:
    small, large = Contents(most=10), Contents()
    for prompt, target in (("ab", "cd"), (None, "efgh"), ("ij", "klm"), ("ab", "cd"), ("ij", "klm")):
        assert small.of(prompt, target) == large.of(prompt, target)
        assert large.of(prompt, target) is large.of(prompt, target)
    assert small.of("ab", "cd") is small.of("ab", "cd")
    assert small.of("ij", "klm") is not small.of("ij", "klm")


def test_rows_of_responses(
    write: Callable[..., Path], read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    rows = [{"id": "a", "sample": i, "correct": right} for i, right in enumerate((1, 0, None, True))]
    found = read(write("a.jsonl", rows))
    assert (found.counts.num_samples.tolist(), found.counts.num_correct.tolist()) == ([[3]], [[2]])
    assert "sample 1 of example 'a' occurs twice" in refused(write("b.jsonl", [*rows, rows[1]]))
    rewards = [{"id": "a", "correct": 0, "reward": value} for value in (0.2, 0.9)]
    assert read(write("c.jsonl", rewards), score="reward", solved=0.5).counts.num_correct.tolist() == [[1]]
    counted = [
        {"id": "a", "num_samples": 5, "num_correct": 2},
        {"id": "b", "num_samples": 7, "num_correct": 0},
    ]
    assert read(write("d.jsonl", counted)).counts.num_samples.tolist() == [[5, 7]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0], ROWS[0]], "example 'a' occurs twice"),
        ([{"log_prob": -1.0, "id": None}], "no prompt, target or id"),
        ([{"id": 1, "log_prob": 0.5}], "log_prob: 0.5; valid: log-probabilities <= 0"),
        ([{"id": 1, "log_prob": "x"}], "'x' is not a number"),
        ([{"id": 1, "log_prob": True}], "is not a log-probability"),
        (
            [{"id": 1, "prompt": "a", "log_prob": -1}, {"id": 1, "prompt": "b", "log_prob": -1}],
            "two different contents",
        ),
        ([{"id": 1, "num_samples": 2, "num_correct": 3}], "3 of 2 are correct"),
        ([{"id": 1, "num_samples": 2.5, "num_correct": 1}], "valid: whole numbers >= 0"),
        ([{"id": 1, "correct": 0.5}], "correct: 0.5 is neither 0 nor 1"),
        ([{"id": 1, "mean_log_prob": -1, "num_tokens": 0}], "num_tokens: 0; valid: a whole number >= 1"),
        ([{"id": 1, "log_prob": None}], "no example has a value"),
    ],
)
def test_bad_rows(
    rows: list[Any], message: str, write: Callable[..., Path], refused: Callable[..., str]
) -> None:
    assert message in refused(write("a.jsonl", rows))


def test_checkpoints_of_several_files_are_in_natural_order_and_joined_by_content(
    write: Callable[..., Path], read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    one = write(
        "step-1000/rows.jsonl",
        [{"id": 1, "prompt": "a", "log_prob": -1}, {"id": 2, "prompt": "b", "log_prob": -2}],
    )
    # The ids are swapped and the rows shuffled: the prompts are what counts.
    two = write(
        "step-200/rows.jsonl",
        [{"id": 1, "prompt": "b", "log_prob": -4}, {"id": 2, "prompt": "a", "log_prob": -3}],
    )
    found = read(one, two).log_probs
    assert found.names == ("step-200", "step-1000")
    assert dict(zip(found.labels, found.values.T.tolist(), strict=True)) == {"a": [-3, -1], "b": [-4, -2]}
    three = write("step-300/rows.jsonl", [{"prompt": "a", "log_prob": -5}])
    said = refused(one, two, three)
    assert said == (
        "examples: 1 of 2 examples are not in every checkpoint (step-300 has 1 of them); valid: the same "
        "examples, "
        "or examples=common for the 1 that all have"
    )
    found = read(one, two, three, examples="common")
    assert found.log_probs.values.tolist() == [[-3], [-5], [-1]]
    assert found.notes == ("1 of 2 examples are not in every checkpoint (step-300 has 1 of them): left out",)


def test_log_probabilities_and_counts_are_joined_apart(
    write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    paths = []
    for step in (1, 2):
        paths.append(write(f"{step}/likelihoods.jsonl", [{"prompt": "a", "log_prob": -step}]))
        paths.append(write(f"{step}/counts.jsonl", [{"prompt": "b", "num_samples": 4, "num_correct": step}]))
    found = read(*paths)
    assert found.log_probs.names == found.counts.names == ("1", "2")
    assert (found.log_probs.labels, found.counts.labels) == (("a",), ("b",))


def test_arrays(tmp_path: Path, read: Callable[..., Any], refused: Callable[..., str]) -> None:
    def saved(**arrays: Any) -> Path:
        np.savez(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    values = np.array([[-1.0, -2.0, -3.0], [-3.0, -math.inf, -1.0]])
    found = read(saved(log_probs=values, names=["z", "a"], num_bytes=[1, 2, 3])).log_probs
    assert (found.names, found.values.tolist()) == (("z", "a"), values.tolist())
    assert found.num_bytes.tolist() == [1, 2, 3]
    found = read(saved(num_samples=np.full((2, 3), 4), num_correct=[[0, 1, 2], [3, 4, 0]])).counts
    assert found.num_correct.tolist() == [[0, 1, 2], [3, 4, 0]]
    with_nan = np.where(values == -3.0, np.nan, values)
    assert "examples are not in every checkpoint" in refused(saved(log_probs=with_nan))
    for bad, message in (
        ({"log_probs": -values}, "contains inf; valid: log-probabilities <= 0"),
        ({"log_probs": values[0]}, "valid: (models, examples) each"),
        ({"log_probs": values, "keys": ["a", "a", "b"]}, "keys: 'a' occurs twice"),
        ({"log_probs": values, "names": ["a", "a"]}, "names: 'a' occurs twice"),
        ({"log_probs": values, "names": ["a"]}, "names has shape (1,); valid: (2,), models"),
        ({"num_samples": np.ones((2, 3), int)}, "neither log_probs nor both of num_samples and num_correct"),
        (
            {"num_samples": np.ones((1, 1), int), "num_correct": np.full((1, 1), 2)},
            "not always from 0 to num_samples",
        ),
        ({"log_prob": values}, "no array may be called log_prob"),
    ):
        assert message in refused(saved(**bad))
    (tmp_path / "a.npz").write_bytes(b"PK")
    assert "not a readable npz file" in refused(tmp_path / "a.npz")


def test_a_wide_csv(tmp_path: Path, read: Callable[..., Any], refused: Callable[..., str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("model,e1,e2\nstep 9,-1,-2\nstep 10,-inf,-1\n")
    found = read(path).log_probs
    assert (found.names, found.labels) == (("step 9", "step 10"), ("e1", "e2"))
    path.write_text("model,e1,e1\nx,-1,-2\n")
    assert "the header has 'e1' twice" in refused(path)
    path.write_text("model,e1,e2\nx,-1\n")
    assert "line 2: not as many columns as the header has" in refused(path)
    path.write_text("model,e1,e2\nx,-1,b\n")
    assert "line 2: not only numbers after the name" in refused(path)


def test_names_that_two_checkpoints_have() -> None:
    def checkpoint(name: str, source: str) -> Checkpoint:
        return Checkpoint(name, source, [], [])

    assert names_of([checkpoint("m", "x/a/f"), checkpoint("n", "x/b/f")]) == ["m", "n"]
    assert names_of([checkpoint("m", "x/a/f"), checkpoint("m", "x/b/f")]) == ["x/a/f", "x/b/f"]
    with pytest.raises(ValueError, match="two checkpoints are called 'x'"):
        names_of([checkpoint("m", "x"), checkpoint("m", "x")])


def test_a_source_without_a_reader(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "no such file or folder" in refused(tmp_path / "nothing")
    (tmp_path / "a.txt").write_text("a")
    assert "no reader knows it; valid: files of lm-eval, inspect" in refused(tmp_path / "a.txt")
    assert "format: 'b'; valid: one of lm-eval" in refused(tmp_path / "a.txt", form="b")


class Outside:
    """A reader of another package."""

    name = "outside"
    summary = "one number"

    def recognises(self, source: Path) -> bool:
        return source.suffix == ".txt"

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        return [
            Checkpoint(
                source.stem,
                str(source),
                [b"k"],
                ["k"],
                np.array([-float(source.read_text())]),
                np.zeros(1, int),
            )
        ]


READER = Outside()


def test_an_entry_point_brings_a_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    def entries(value: str) -> None:
        entry = importlib.metadata.EntryPoint("outside", value, "covlab.readers")
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda group: [entry] if group == "covlab.readers" else []
        )

    (tmp_path / "a.txt").write_text("2.5")
    entries(f"{__name__}:READER")
    monkeypatch.setitem(
        __import__("sys").modules, __name__, __import__("types").SimpleNamespace(READER=READER, ROWS=ROWS)
    )
    assert next(iter(readers())) == "outside"
    assert read(tmp_path / "a.txt").log_probs.values.tolist() == [[-2.5]]
    entries(f"{__name__}:ROWS")
    assert "has no recognises and read" in refused(tmp_path / "a.txt")
    entries("nowhere:READER")
    assert "No module named 'nowhere'" in refused(tmp_path / "a.txt")
