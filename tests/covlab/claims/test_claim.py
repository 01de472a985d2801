"""Files and refusals of claims that train nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from oracles.toy_claim import CLAIM

from covlab.claims import claim
from covlab.claims.claim import command
from covlab.report.verdict import Verdict


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The command of a claim that measures its tilt."""
    monkeypatch.setattr(claim, "configure", lambda: None)
    return command(CLAIM)


def test_a_claim_writes_verdict_report_figures_and_settings(
    main: Callable[[], None], call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(main, "name=one", "tilt=2.0")
    assert ended.status == 0, ended.err
    path = tmp_path / "runs" / "toy" / "one"
    verdict = Verdict.read(path / "verdict.json")
    assert verdict.holds
    assert (verdict.claim, verdict.seeds, verdict.notes) == ("toy", (7,), ("A note.",))
    assert verdict.scale == "cpu with tilt=2.0"
    assert OmegaConf.load(path / "claim.yaml").tilt == 2.0
    assert (path / "figures" / "picture.png").read_bytes().startswith(b"\x89PNG")
    report = (path / "report.html").read_text()
    for text in ("A title", "A paragraph.", "the tilt", "A caption.", "Numbers.", "whole command (s)"):
        assert text in report
    assert "HOLDS" in ended.out


def test_a_claim_that_does_not_hold_says_so_and_ends_well(
    main: Callable[[], None], call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(main, "name=one", "tilt=0.5")
    assert ended.status == 0
    assert "REFUTED" in ended.out
    assert not Verdict.read(tmp_path / "runs/toy/one/verdict.json").holds


def test_the_results_of_other_settings_are_not_overwritten(
    main: Callable[[], None], call: Callable[..., Any], tmp_path: Path
) -> None:
    assert call(main, "name=one", "tilt=2.0").status == 0
    path = tmp_path / "runs" / "toy" / "one"
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    ended = call(main, "name=one", "tilt=3.0")
    assert ended.status == 2
    assert ended.err == (
        "error: runs/toy/one: holds results with tilt 2.0, not 3.0; another name=... keeps both\n"
    )
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    again = call(main, "name=one", "tilt=2.0")
    assert again.status == 0
    assert Verdict.read(path / "verdict.json").holds


def test_the_common_keys_are_taken_and_make_no_variant(
    main: Callable[[], None], call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(main, "name=one", "tilt=2.0", "tracking.wandb=disabled", "tracking.progress=false")
    assert ended.status == 0, ended.err
    path = tmp_path / "runs" / "toy" / "one"
    assert Verdict.read(path / "verdict.json").scale == "cpu with tilt=2.0"
    # Results of an earlier version, whose settings had no such keys, are computed again too.
    stored = OmegaConf.load(path / "claim.yaml")
    OmegaConf.save(OmegaConf.masked_copy(stored, [k for k in stored if k not in ("tracking", "resume")]),
                   path / "claim.yaml")  # fmt: skip
    assert call(main, "name=one", "tilt=2.0", "tracking.interval=5").status == 0
    for arguments, said in {
        ("name=one", "resume=never"): "runs/toy/one: holds results already; another name=... or resume=",
        ("name=two", "resume=must"): "runs/toy/two: no results to compute again; resume=auto computes",
        ("name=two", "resume=maybe"): "resume: 'maybe' is not one of auto, never, must",
        ("name=two", "tracking.wandb=maybe"): "tracking.wandb: 'maybe' is not one of auto, online, ",
    }.items():
        ended = call(main, *arguments, "tilt=2.0")
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert ended.err.startswith(f"error: {said}")
    assert not (path.parent / "two").exists()
