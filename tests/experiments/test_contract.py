"""The contract of a claim: what holds for every folder below experiments/ that has a CLAIM.

A claim's own part of it is tests/experiments/<claim>/contract.yaml: `tiny`, overrides with which the claim
runs in seconds, and `refused`, bad overrides (separated by spaces) with the beginning of the line that
refuses them. tests/covlab/launch/test_number_fields.py reads `zeros`, the settings of which 0 is a value (by
default the seed), and `further`, other values that make sense, of a claim that trains nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from oracles.contracts import contract_of

from covlab.claims.claim import command
from covlab.claims.running import claims, known_claims
from covlab.report.verdict import Verdict
from covlab.testing.claims import (
    QUIET,
    check_again,
    check_description,
    check_refusal,
    check_results,
    check_scale,
)

CLAIMS = claims()
FILES = {"__init__", "__main__", "measure", "checks", "figures"}
AGAIN = ("path_star", "sgd_coordinates")
"""Commanded twice by `make test`: a claim that trains and one that does not."""


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
    assert (claim.name, claim.module) == (name, f"experiments.{name}")
    check_description(claim)
    for scale in ("cpu", "paper"):
        assert name in known_claims(scale)


@pytest.mark.long
@pytest.mark.parametrize("name", CLAIMS)
def test_both_scales_are_valid_settings(name: str, compose_config: Callable[..., DictConfig]) -> None:
    for scale in ("cpu", "paper"):
        check_scale(CLAIMS[name], scale, lambda *overrides: compose_config(name, *overrides))


@pytest.mark.long
@pytest.mark.parametrize(("name", "overrides", "message"), REFUSED)
def test_bad_input_is_refused_in_one_line(
    name: str, overrides: str, message: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    check_refusal(call(command(CLAIMS[name]), *overrides.split(" "), *QUIET), message, tmp_path)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_tiny_run_ends_in_a_verdict_a_page_and_figures(
    name: str, tiny_claim: Callable[[str], Path]
) -> None:
    path = tiny_claim(name)
    check_results(CLAIMS[name], path)
    assert Verdict.read(path / "verdict.json").scale.startswith("cpu with ")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in AGAIN else pytest.mark.slow) for name in CLAIMS]
)
def test_a_second_command_judges_the_same(
    name: str, tiny_claim: Callable[[str], Path], call: Callable[..., Any]
) -> None:
    """The same command again trains nothing and finds the same; of other settings it keeps the results."""
    path = tiny_claim(name)
    asked = [*contract_of(name)["tiny"], "name=tiny", f"root={path.parent.parent}", *QUIET]
    check_again(path, lambda: call(command(CLAIMS[name]), *asked))
