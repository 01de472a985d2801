"""Formats of verifiers, TRL, large_language_monkeys, every-eval-ever and vLLM."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from covlab.readers import trl_completions


def is_right(response: str, target: Any, record: Any) -> bool:
    """A verifier."""
    return response.strip() == "5"


def episode(key: str, score: float | None, ok: bool = True, **trace: Any) -> dict[str, Any]:
    """A line of `traces.jsonl` in the form of verifiers 0.4.0 (`Episode` and `Trace`)."""
    task = {"type": "Add", "data": {"idx": 0, "prompt": f"{key}="}, "key": key, "hash": f"hash of {key}"}
    rewards = {"solved": {"score": score, "weight": 2.0}, "format": {"score": 0.7, "weight": 0.1}}
    own = {
        "id": f"{key}{score}{ok}{trace}",
        "task": task,
        "rewards": rewards,
        "ok": ok,
        "calls": [{"finish_reason": "stop"}],
    }
    return {"id": "e", "task": task, "ok": ok, "traces": [own | trace]}


def test_verifiers_traces(
    write: Callable[..., Path], read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    lines = [
        episode("2+3", 1.0, stop_condition="length"),
        episode("1+1", 0.0),
        episode("2+3", 0.0),
        episode("1+1", None),
        episode("1+1", 1.0, ok=False),
    ]
    path = write("run/traces.jsonl", lines)
    assert "rewards: 2 of them; valid: score= one of solved, format" in refused(path.parent)
    found = read(path.parent, score="solved")
    assert found.counts.labels == ("2+3=", "1+1=")
    assert found.counts.num_samples.tolist() == [[2, 1]]
    assert found.counts.num_correct.tolist() == [[1, 0]]
    assert "2 responses have no score" in found.notes[1]
    assert "1 responses were cut off" in found.notes[0]
    assert "format: 0.7 is neither 0 nor 1" in refused(path, score="format")
    assert read(path, score="format", solved=0.5).counts.num_correct.tolist() == [[2, 2]]
    assert "score: 'other' is not in" in refused(path, score="other")
    write("run/traces.jsonl", [lines[0], lines[0]])
    assert "occurs twice" in refused(path, score="solved")


def test_verifiers_results(
    write: Callable[..., Path], read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    def rollout(example: int, question: str, reward: float, **more: Any) -> dict[str, Any]:
        prompt = [{"role": "user", "content": question}]
        line = {
            "example_id": example,
            "prompt": prompt,
            "completion": [],
            "answer": "5",
            "reward": reward,
            "error": None,
        }
        return line | {"metrics": {"exact": reward, "format": 0.5}} | more

    one = write(
        "a/results.jsonl",
        [rollout(0, "2+3=", 1.0), rollout(0, "2+3=", 0.0), rollout(1, "1+4=", 0.0, error="x")],
    )
    other = write("b/results.jsonl", [rollout(0, "1+4=", 1.0), rollout(1, "2+3=", 1.0, is_truncated=True)])
    (one.parent / "metadata.json").write_text(json.dumps({"model": "toy-100"}))
    found = read(one.parent)
    assert found.counts.names == ("toy-100",)
    assert (found.counts.labels, found.counts.num_correct.tolist()) == (("2+3=",), [[1]])
    assert "1 of 2 examples are not in every checkpoint" in refused(one, other)
    assert read(one, other, examples="common").counts.num_samples.tolist() == [[1], [2]]
    assert read(one, score="exact").counts.num_correct.tolist() == [[1]]
    assert "score: no 'none'" in refused(one, score="none")
    bad = write("c/results.jsonl", [rollout(0, "2+3=", 1.0), rollout(0, "2+4=", 0.0)])
    assert "example None 0 occurs with two different contents" in refused(bad)


def test_monkeys(tmp_path: Path, read: Callable[..., Any], refused: Callable[..., str]) -> None:
    def problem(name: str, **content: Any) -> None:
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"question": f"Q{name}"} | content))

    problem("10", samples=["5", "6"], is_corrects=[True, False])
    problem("9", samples=["5", "5"], is_corrects=[True, True])
    found = read(tmp_path).counts
    assert found.labels == ("9 Q9", "10 Q10")
    assert found.num_correct.tolist() == [[2, 1]]
    problem("9", samples=["5", "5"], is_corrects=[True])
    assert "2 samples, and is_corrects of another length" in refused(tmp_path)
    problem("9", samples=["5", "5"])
    assert "no is_corrects; valid: judged samples, or verifier=" in refused(tmp_path)
    assert read(tmp_path, verifier=f"{__name__}:is_right").counts.num_correct.tolist() == [[2, 1]]
    problem("9", samples=["5", "5"], is_corrects=[True, "no"])
    assert "holds other values than true and false" in refused(tmp_path)
    (tmp_path / "9.yaml").write_text("samples: [")
    assert "9.yaml: not readable YAML" in refused(tmp_path)


def test_every_eval_ever_keeps_what_its_rows_say(
    files: Path, read: Callable[..., Any], refused: Callable[..., str], lines: Callable[..., Any]
) -> None:
    folder = files / "every_eval_ever"
    for path in (folder / "toy_ll").glob("*.jsonl"):
        found = read(path, score="perplexity").log_probs
        rows = [row for row in lines(path) if row["evaluation_result_id"] == "perplexity"]
        assert found.values[0].tolist() == [row["evaluation"]["score"] for row in rows]
        assert found.num_bytes.tolist() == [len(row["input"]["reference"][0].encode()) for row in rows]
        assert "metrics: 2 of them; valid: score= one of perplexity, acc" in refused(path)
    for path in (folder / "toy_one").glob("*.jsonl"):
        assert (
            "evaluations: 2 of them; valid: tasks, filter= one of toy_one/strict, toy_one/flexible"
            in refused(path)
        )
        rows = [row for row in lines(path) if row["metadata"]["filter"] == "strict"]
        found = read(path, filter="strict").counts
        assert found.num_correct[0].tolist() == [int(row["evaluation"]["score"]) for row in rows]
    for path in (folder / "toy_roll").glob("*.jsonl"):
        assert "keeps no rolling log-likelihoods" in refused(path)
    assert "a second run of toy/base; valid: name the file of one run" in refused(
        folder / "toy_one", filter="strict"
    )


def test_vllm_outputs(
    write: Callable[..., Path], read: Callable[..., Any], refused: Callable[..., str]
) -> None:
    def line(prompt: str, *texts: str, **more: Any) -> dict[str, Any]:
        outputs = [
            {"text": text, "finish_reason": "stop", "cumulative_logprob": -1.0} | more for text in texts
        ]
        return {"prompt": prompt, "target": "5", "outputs": outputs}

    path = write("a.jsonl", [line("2+3=", " 5", "6"), line("1+4=", "5", "5")])
    assert "no correct; valid: judged outputs, or verifier=" in refused(path)
    found = read(path, verifier=f"{__name__}:is_right")
    assert found.counts.num_correct.tolist() == [[1, 2]]
    judged = write("b.jsonl", [line("2+3=", "5", "6", correct=1, finish_reason="length")])
    found = read(judged)
    assert found.counts.num_correct.tolist() == [[2]]
    assert "2 responses were cut off at the token limit" in found.notes[0]
    assert "the prompt '2+3=' occurs twice" in refused(write("c.jsonl", [line("2+3=", "5", correct=1)] * 2))


@pytest.mark.parametrize("verifier", ["nowhere:f", f"{__name__}:nothing", f"{__name__}:json", "text"])
def test_a_verifier_that_is_none(
    verifier: str, write: Callable[..., Path], refused: Callable[..., str]
) -> None:
    path = write("a.jsonl", [{"prompt": "p", "outputs": [{"text": "5"}]}])
    assert refused(path, verifier=verifier).startswith(f"verifier: {verifier!r}")


def test_trl_completions(tmp_path: Path, read: Callable[..., Any], refused: Callable[..., str]) -> None:
    """Written as `GRPOTrainer.log` of TRL 1.16 does, `pandas.DataFrame(table).to_parquet`."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def logged(step: int, prompts: list[Any], rewards: list[float | None], name: str = "accuracy") -> Path:
        count = len(prompts)
        table = {"step": [step] * count, "prompt": prompts, "completion": ["5"] * count, name: rewards}
        path = tmp_path / f"completions_{step:05d}.parquet"
        parquet.write_table(pyarrow.table(table | {"advantage": [0.1] * count}), path)
        return path

    messages = [{"role": "user", "content": "2+3="}]
    logged(900, [messages, messages, messages], [1.0, 1.0, None])
    logged(1000, [messages, messages, messages], [0.0, 1.0, 1.0])
    found = read(tmp_path)
    assert found.counts.names == ("step 900", "step 1000")
    assert found.counts.num_samples.tolist() == [[2], [3]]
    assert found.counts.num_correct.tolist() == [[2], [2]]
    assert "score: advantage" in refused(tmp_path, score="advantage")
    assert "0.5 is neither 0 nor 1" in refused(logged(1, ["a"], [0.5]))
    found = read(logged(1, ["a"], [0.5]), score="accuracy", solved=0.5)
    assert found.counts.num_correct.tolist() == [[1]]


def test_files_of_trl_are_in_the_order_of_steps(tmp_path: Path) -> None:
    for name in ("completions_00100.parquet", "completions_00020.parquet", "completions_x.parquet"):
        (tmp_path / name).touch()
    assert [path.name for path in trl_completions._files(tmp_path)] == [
        "completions_00020.parquet",
        "completions_00100.parquet",
    ]
