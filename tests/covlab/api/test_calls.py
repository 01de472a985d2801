"""Imports, signals, sweeps and claims from Python."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from oracles.toy_claim import CLAIM

import covlab
from covlab.api import Run, calls, training
from covlab.claims import claim
from covlab.report.verdict import Verdict


def test_the_import_is_light() -> None:
    code = (
        "import sys, covlab; assert 'train' in dir(covlab); sys.exit(bool({'jax', 'hydra'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0
    assert covlab.load_run is covlab.load
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        covlab.trian  # noqa: B018


def test_signals_ask_to_stop_and_then_act_as_before() -> None:
    seen: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: seen.append(number))
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            with training.stoppable() as install:
                stop = install()
                assert stop() is None
                signal.raise_signal(number)
                assert stop() == number.name
            signal.raise_signal(signal.SIGINT)
        # SIGINT is answered by the stopped run; SIGTERM means the process, and is sent again.
        assert seen == [signal.SIGINT, signal.SIGTERM, signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_another_thread_leaves_the_signals_alone() -> None:
    before, reasons = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with training.stoppable() as install:
            reasons.append(install()())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reasons == [None]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_sweep_trains_all_combinations_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained: list[Any] = []

    def train(wanted: Any) -> Run:
        trained.append((wanted.config.optimizer._target_, wanted.config.seed, wanted.config.steps))
        return Run(tmp_path)

    monkeypatch.setattr(calls, "_train", train)
    covlab.sweep("optimizer=adamw,sgd", "seed=0,1", steps=7)
    names = [(name.rpartition(".")[2], seed, steps) for name, seed, steps in trained]
    assert names == [("adamw", 0, 7), ("adamw", 1, 7), ("sgd", 0, 7), ("sgd", 1, 7)]
    with pytest.raises(ValueError, match=r"^name: 2 runs of the sweep would share runs/train/one"):
        covlab.sweep("seed=0,1", name="one")
    with pytest.raises(ValueError, match=r"^seed=0,1: several values; valid: one run, or covlab.sweep"):
        covlab.train("seed=0,1")
    assert len(trained) == 4


def test_a_claim_gives_verdict_checks_and_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claim, "configure", lambda: None)
    silent = dataclasses.replace(CLAIM, measure=lambda settings, study: settings)
    monkeypatch.setattr(calls, "_claim", lambda name: silent)
    judgement = covlab.claim("toy", scale="cpu", tilt=2, root=tmp_path)
    assert judgement.holds
    assert judgement.verdict == Verdict.read(tmp_path / "toy" / "cpu" / "verdict.json")
    assert judgement.verdict.command == f"python -m experiments.toy scale=cpu tilt=2 root={tmp_path}"
    assert judgement.checks.to_dict("records")[0] | {"low": 0, "high": 0} == {
        "name": "the tilt", "measured": 2.0, "low": 0, "high": 0, "target": ">= 1", "passed": True,
            "state": "passed",
    }  # fmt: skip
    assert "A paragraph." in judgement.page.read_text()
    assert "".join(capsys.readouterr()) == ""
    with pytest.raises(ValueError, match=r"^tilt: 7"):
        covlab.claim("toy", tilt=7, root=tmp_path, name="other")


def test_an_unknown_claim_is_named_with_those_there_are() -> None:
    for name in ("figure3", "compare", "train", "a.b"):
        with pytest.raises(
            ValueError, match=f"^claim: '{name}' is not a claim; valid are architectures, .*tournament"
        ):
            covlab.claim(name)
