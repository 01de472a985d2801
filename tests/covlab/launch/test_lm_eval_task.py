"""A run's held-out set as tasks of lm-evaluation-harness, and files that it wrote about a run of the lab.

`files/lm_eval_of_a_run` and `files/lm_eval_of_a_text` were recorded by `record.py` there with lm-eval itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from covlab.evaluated.log_probs import of_log_probs
from covlab.launch.lm_eval_task import is_right, write_task
from covlab.readers.base import Wanted
from covlab.readers.joining import read_sources
from metrics import TIE_BREAKS, simple_tournament
from tracking import load_log_probs

RECORDED = Path(__file__).parent / "files" / "lm_eval_of_a_run"
TEXT = Path(__file__).parent / "files" / "lm_eval_of_a_text"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def written(tiny_run: Path, tmp_path: Path) -> list[Path]:
    return write_task(tiny_run, tmp_path / "tasks", "own", group="G2", repeats=3)


def test_the_examples_are_those_of_the_runs_evaluations(written: list[Path], tiny_run: Path) -> None:
    held = load_log_probs(tiny_run, "finetune_held_out")["finetune_held_out"]
    own = np.flatnonzero(held["groups"] == 1)
    rows = rows_of(written[0].parent / "own.jsonl")
    assert len(rows) == own.size == 16
    for row, i in zip(rows, own, strict=True):
        assert row["class"] == "G2"
        finite = held["log_pi"][i][np.isfinite(held["log_pi"][i])]
        assert np.abs(finite - row["log_pi"]).min() < 1e-6
        assert row["target"] in row["correct"]
        assert len(row["correct"]) == held["correct"][i].sum()
        assert is_right(f" {row['target']}\n", row["target"], row)
        assert not is_right(row["target"] + " 1", row["target"], row)


def test_the_yaml_asks_for_the_bare_target(written: list[Path]) -> None:
    scored, sampled = (yaml.safe_load(path.read_text()) for path in written)
    assert [path.name for path in written] == ["own.yaml", "own_sampled.yaml"]
    assert (scored["task"], scored["output_type"]) == ("own", "loglikelihood")
    assert scored["target_delimiter"] == ""
    assert (sampled["task"], sampled["output_type"]) == ("own_sampled", "generate_until")
    assert sampled["repeats"] == 3
    assert sampled["generation_kwargs"]["do_sample"] is True
    for each in (scored, sampled):
        assert Path(each["dataset_kwargs"]["data_files"]["test"]).is_file()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "group: the classes of .* have different weights; valid: one of G1, G2, G3"),
        ({"group": "G9"}, "group: 'G9' is no class of .*; valid are G1, G2, G3"),
        ({"phase": "last"}, "phase: 'last' is not in .*; valid are pretrain, finetune"),
        ({"name": "a-b"}, "name: 'a-b'; valid: letters, digits and _"),
        ({"repeats": 0}, "repeats: 0"),
    ],
)
def test_what_is_refused(settings: Any, message: str, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_task(tiny_run, tmp_path, **settings)
    assert not list(tmp_path.iterdir())


def test_responses_that_are_not_enumerated_are_not_judged() -> None:
    with pytest.raises(ValueError, match=r"verifier: no correct in an example"):
        is_right("a", "a", {"prompt": "b"})


def test_recorded_log_likelihoods_are_those_of_the_run() -> None:
    """Four checkpoints of a run on Dyck strings, scored by lm-eval 0.4.13 through `LabModel`."""
    lab = np.load(RECORDED / "lab.npz")
    found = read_sources([str(RECORDED / "out")], Wanted(tasks="held_out")).log_probs
    assert found is not None
    assert found.names == tuple(f"runs/train/dyck@train:{step}" for step in lab["steps"])
    lines = rows_of(next(RECORDED.rglob("samples_*.jsonl")))
    assert [line["arguments"]["gen_args_0"]["arg_1"] for line in lines] == lab["targets"].tolist()
    assert np.abs(found.values - lab["log_probs"]).max() < 1e-4
    for n in (1.25, 2.0, 4.0):
        for tie_break in TIE_BREAKS:
            chosen, own = (
                simple_tournament(values, n, tie_break=tie_break)
                for values in (found.values, lab["log_probs"].astype(np.float64))
            )
            assert chosen.index == own.index
    section = of_log_probs(found, (2.0,), ("min_cross_entropy",), None, 50)
    best = simple_tournament(lab["log_probs"].astype(np.float64), 2.0)
    assert section.content["recommendation"]["take"] == found.names[best.index]
    # The exact law: KL(pi_D || pi_hat) of every checkpoint on these strings falls.
    log_pi = np.array([line["doc"]["log_pi"] for line in lines])
    assert log_pi == pytest.approx(lab["log_pi"], abs=1e-5)
    gaps = (log_pi - found.values).mean(axis=1)
    assert gaps == pytest.approx((lab["log_pi"] - lab["log_probs"]).mean(axis=1), abs=1e-4)
    assert (np.diff(gaps) < 0).all()


def test_a_text_is_judged_with_its_blanks() -> None:
    record = {"correct": [" of t"]}
    assert is_right(" of t", " of t", record)
    assert not is_right("of t", " of t", record)


def test_a_text_whose_law_is_not_known_goes_the_same_way() -> None:
    """Three checkpoints on plain text, scored and sampled by lm-eval 0.4.13 through `LabModel`."""
    lab = np.load(TEXT / "lab.npz")
    exact = lab["log_probs"].astype(np.float64)
    found = read_sources([str(TEXT / "out")], Wanted(tasks="held_out")).log_probs
    assert found is not None
    assert found.names == tuple(f"runs/train/text@train:{step}" for step in lab["steps"])
    lines = rows_of(next(TEXT.rglob("samples_held_out_2*.jsonl")))
    # Blanks at the ends of contexts and continuations went through lm-eval as they were.
    assert any(target != target.strip() for target in lab["targets"])
    assert [line["arguments"]["gen_args_0"]["arg_1"] for line in lines] == lab["targets"].tolist()
    assert {line["doc"]["class"] for line in lines} == {"held_out"}
    assert all(len(line["arguments"]["gen_args_0"]["arg_0"]) == 24 for line in lines)
    assert np.abs(found.values - exact).max() < 1e-4
    section = of_log_probs(found, (4.0,), ("min_cross_entropy",), None, 50)
    best = simple_tournament(exact, 4.0)
    assert section.content["recommendation"]["take"] == found.names[best.index]
    # What follows is the one right response, so that p = pi_hat(y|x) is known: c has the law of n draws.
    wanted = Wanted(tasks="held_out_sampled", verifier="covlab.launch.lm_eval_task:is_right")
    counts = read_sources([str(TEXT / "out")], wanted).counts
    assert counts is not None
    assert counts.names == found.names
    p, n = np.exp(exact), counts.num_samples
    assert (n == 8).all()
    gap = counts.num_correct.sum(axis=1) - (n * p).sum(axis=1)
    assert (np.abs(gap) <= 4 * np.sqrt((n * p * (1 - p)).sum(axis=1))).all()
    assert counts.num_correct[-1].sum() > 0
