"""A run as a model of lm-evaluation-harness, through lm-eval itself; skipped where it is not installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from covlab.launch.lm_eval_task import write_task
from covlab.readers.base import Wanted
from covlab.readers.joining import read_sources
from tracking import load_log_probs

pytest.importorskip("lm_eval")
# lm-eval and its packages warn about themselves.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def model_of(tiny_run: Path) -> Callable[..., Any]:
    from covlab.launch.lm_eval_model import LabModel

    return lambda **settings: LabModel(tiny_run, **settings)


@pytest.fixture(scope="module")
def tasks(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_task(tiny_run, folder, "own", group="G2", repeats=4)
    return folder


@pytest.fixture(scope="module")
def rows(tasks: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tasks / "own.jsonl").read_text().splitlines()]


def asked(*pairs: Any) -> list[Any]:
    return [SimpleNamespace(args=pair) for pair in pairs]


def test_log_likelihoods_are_those_of_the_evaluations(
    model_of: Callable[..., Any], tiny_run: Path, rows: list[dict[str, Any]]
) -> None:
    held = load_log_probs(tiny_run, "finetune_held_out")["finetune_held_out"]
    own = np.flatnonzero(held["groups"] == 1)
    for step in (10, 20):
        stored = load_log_probs(tiny_run, f"finetune_{step:08}")[f"finetune_{step:08}"]
        # Not a whole number of batches.
        model = model_of(revision=f"finetune:{step}", seed=1, batch_size=7)
        pairs = [(row["prompt"], text) for row in rows for text in row["correct"]]
        found = model.loglikelihood(asked(*pairs))
        assert len(found) == len(pairs)
        right = held["correct"][own]
        assert np.abs([f[0] for f in found] - stored["log_prob"][1][own][right]).max() < 1e-4
        assert [f[1] for f in found] == stored["greedy"][1][own][right].tolist()


def test_a_blank_before_a_response_does_not_count(
    model_of: Callable[..., Any], rows: list[dict[str, Any]]
) -> None:
    model, row = model_of(), rows[0]
    plain, blank = model.loglikelihood(
        asked((row["prompt"], row["target"]), (row["prompt"] + " ", " " + row["target"]))
    )
    assert plain == blank
    assert model_of(rolling_prompt=row["prompt"]).loglikelihood_rolling(asked((row["target"],))) == [plain[0]]


def test_generation(model_of: Callable[..., Any], rows: list[dict[str, Any]]) -> None:
    prompt = rows[0]["prompt"]
    drawn = {"do_sample": True, "temperature": 1.0}
    requests = asked(*[(prompt, drawn)] * 40, *[(prompt, {})] * 2)
    texts = model_of(batch_size=16).generate_until(requests)
    assert texts == model_of(batch_size=16).generate_until(requests)
    assert texts != model_of(batch_size=16, sampling_seed=1).generate_until(requests)
    assert len(set(texts[:40])) > 5
    assert texts[40] == texts[41]
    first = texts[40].split()[0]
    cut = model_of().generate_until(asked((prompt, {"max_gen_toks": 1}), (prompt, {"until": texts[40][-1]})))
    assert cut[0] == first
    assert texts[40].startswith(cut[1])
    assert texts[40][-1] not in cut[1]
    # The greedy response has the largest probability of every token.
    assert model_of().loglikelihood(asked((prompt, texts[40])))[0][1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, p, t: m.loglikelihood(asked(("", t))), "context: '' has 0 tokens; valid: 1 to"),
        (
            lambda m, p, t: m.loglikelihood(asked((p, 9 * f"{t} "))),
            "continuation: .* valid: 1 to .*, nothing is cut",
        ),
        (lambda m, p, t: m.loglikelihood_rolling(asked((t,))), "rolling_prompt: None"),
        (lambda m, p, t: m.generate_until(asked((p, {"top_p": 0.9}))), "top_p: 0.9; valid: none"),
        (lambda m, p, t: m.generate_until(asked((p, {"max_gen_toks": 0}))), "max_gen_toks: 0"),
    ],
)
def test_what_is_refused(
    call: Callable[..., Any], message: str, model_of: Callable[..., Any], rows: list[dict[str, Any]]
) -> None:
    with pytest.raises(ValueError, match=message):
        call(model_of(), rows[0]["prompt"], rows[0]["target"])


def test_arguments_are_checked(model_of: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="batch_size: 'auto'"):
        model_of(batch_size="auto")
    with pytest.raises(ValueError, match=r"checkpoints: train:7 asked of .*; there are pretrain:0"):
        model_of(revision="train:7")
    # A misspelt revision must not mean the last one.
    with pytest.raises(TypeError, match="revison"):
        model_of(revison="finetune:10")


@pytest.mark.slow
def test_lm_evals_own_command(
    tiny_run: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkpoints by `lm-eval run`, read back as `covlab select` reads them."""
    from lm_eval.__main__ import cli_evaluate

    from covlab.launch import lm_eval_model  # noqa: F401

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for step in (10, 20):
        line = (
            f"lm-eval run --model covlab --model_args path={tiny_run},revision=finetune:{step} --tasks "
            f"own,own_sampled --include_path {tasks} --output_path {tmp_path / 'out'} --log_samples"
        )
        monkeypatch.setattr(sys, "argv", line.split())
        cli_evaluate()
    held = load_log_probs(tiny_run, "finetune_held_out")["finetune_held_out"]
    own = np.flatnonzero(held["groups"] == 1)
    out = [str(tmp_path / "out")]
    found = read_sources(out, Wanted(tasks="own")).log_probs
    assert found is not None
    assert [name.rpartition("@")[2] for name in found.names] == ["finetune:10", "finetune:20"]
    for values, step in zip(found.values, (10, 20), strict=True):
        stored = load_log_probs(tiny_run, f"finetune_{step:08}")[f"finetune_{step:08}"]["log_prob"][0]
        among = stored[own][held["correct"][own]]
        assert all(np.abs(among - value).min() < 1e-4 for value in values)
    verifier = "covlab.launch.lm_eval_task:is_right"
    counts = read_sources(out, Wanted(tasks="own_sampled", verifier=verifier)).counts
    assert counts is not None
    assert (counts.num_samples == 4).all()
    exact = np.exp(np.logaddexp.reduce(np.where(held["correct"], stored, -np.inf), axis=1))[own]
    spread = np.sqrt((exact * (1 - exact)).sum() / 4) / own.size
    assert abs(counts.num_correct[1].mean() / 4 - exact.mean()) < 4 * spread + 1e-6
