"""The contract of a claim: what holds for every folder below experiments/ that has a CLAIM.

A claim's own part of it is tests/experiments/<claim>/contract.yaml: `tiny`, overrides with which the claim
runs in seconds, and `refused`, bad overrides (separated by spaces) with the beginning of the line that
refuses them. tests/covlab/launch/test_number_fields.py reads `zeros`, the settings of which 0 is a value (by
default the seed), and `further`, other values that make sense, of a claim that trains nothing.
"""

from __future__ import annotations

import html
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig
from oracles.contracts import contract_of

from covlab.claims.claim import command
from covlab.claims.running import claims, known_claims
from covlab.claims.settings import field_checks, read
from covlab.report.verdict import Verdict
from tasks.checks import whole
from tracking import load_run

CLAIMS = claims()
FILES = {"__init__", "__main__", "measure", "checks", "figures"}
AGAIN = ("path_star", "sgd_coordinates")
"""Commanded twice by `make test`: a claim that trains and one that does not."""
QUIET = ("tracking.wandb=disabled", "tracking.progress=false")


REFUSED = [
    (name, overrides, message)
    for name in CLAIMS
    for overrides, message in contract_of(name)["refused"].items()
]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_folder_has_the_files_of_a_claim(name: str) -> None:
    folder = Path(str(importlib.import_module(f"experiments.{name}").__file__)).parent
    files = {path.stem for path in folder.glob("*.py")}
    assert files >= FILES
    assert len(files - FILES) <= 2
    claim = CLAIMS[name]
    assert claim.name == name
    assert importlib.import_module(f"experiments.{name}").__doc__
    assert claim.introduction
    assert field_checks(claim.settings)
    for scale in ("cpu", "paper"):
        assert name in known_claims(scale)


@pytest.mark.parametrize("name", CLAIMS)
def test_both_scales_are_valid_settings(name: str, compose_config: Callable[..., DictConfig]) -> None:
    claim = CLAIMS[name]
    for scale in ("cpu", "paper"):
        settings = read(claim.settings, compose_config(name, f"scale={scale}"))
        assert isinstance(settings, claim.settings)
    with pytest.raises(ConfigCompositionException):
        compose_config(name, "no_such_key=1")
    assert bool(claim.stages) != bool(claim.scales)


@pytest.mark.parametrize(("name", "overrides", "message"), REFUSED)
def test_bad_input_is_refused_in_one_line(
    name: str, overrides: str, message: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(command(CLAIMS[name]), *overrides.split(" "), *QUIET)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert ended.err.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CLAIMS)
def test_a_tiny_run_ends_in_a_verdict_a_page_and_figures(
    name: str, tiny_claim: Callable[[str], Path]
) -> None:
    path = tiny_claim(name)
    claim, verdict = CLAIMS[name], Verdict.read(path / "verdict.json")
    assert (verdict.claim, verdict.source, verdict.title) == (name, claim.source, claim.title)
    assert verdict.scale.startswith("cpu with ")
    assert verdict.checks
    assert len({check.name for check in verdict.checks}) == len(verdict.checks)
    assert all(whole("seed", seed) == seed for seed in verdict.seeds)
    assert verdict.notes
    assert all(note.endswith((".", ")")) for note in verdict.notes)
    page = (path / "report.html").read_text()
    figures = list((path / "figures").glob("*.png"))
    assert figures
    assert all(figure.read_bytes().startswith(b"\x89PNG") for figure in figures)
    # A run in the claim's own directory draws a figure per phase, which the page does not show.
    phases = set(load_run(path)["phase"]) if (path / "metrics.jsonl").exists() else set()
    assert page.count("<figure") == len([file for file in figures if file.stem not in phases])
    assert page.count("<table") >= 2
    for text in (claim.title, *(check.name for check in verdict.checks)):
        assert html.escape(text) in page


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in AGAIN else pytest.mark.slow) for name in CLAIMS]
)
def test_a_second_command_judges_the_same(
    name: str, tiny_claim: Callable[[str], Path], call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again trains nothing and finds the same; of other settings it keeps the results."""
    path = tiny_claim(name)
    before = json.loads((path / "verdict.json").read_text())
    metrics = {file: file.read_bytes() for file in path.rglob("metrics.jsonl")}
    root = path.parent.parent
    asked = [*contract_of(name)["tiny"], "name=tiny", f"root={root}", *QUIET]
    GlobalHydra.instance().clear()
    ended = call(command(CLAIMS[name]), *asked)
    assert ended.status == 0, ended.err
    after = json.loads((path / "verdict.json").read_text())
    assert after["checks"] == before["checks"]
    assert after["seeds"] == before["seeds"]
    assert {file: file.read_bytes() for file in path.rglob("metrics.jsonl")} == metrics
