"""The contract of a claim: its scales compose, bad input is refused, a tiny run ends in a verdict."""

from __future__ import annotations

import html
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig

from covlab.claims.claim import Claim, command, register
from covlab.claims.settings import field_checks, read
from covlab.launch.schema import register_schemas
from covlab.report.verdict import Verdict
from covlab.testing.commands import Ended, call
from tasks.checks import whole
from tracking import load_run

QUIET = ("tracking.wandb=disabled", "tracking.progress=false")


def claim_contract(
    claim: Claim[Any, Any],
    tiny: Sequence[str],
    refused: Mapping[str, str],
    scales: Sequence[str] = ("cpu",),
    config_dir: str | Path | None = None,
) -> type:
    """Tests of a claim, to be given a name that begins with `Test`.

    Args:
        claim: the claim.
        tiny: overrides with which the claim runs in seconds.
        refused: bad overrides (separated by spaces), each with the beginning of the line that refuses them.
        scales: the scales of the claim.
        config_dir: the folder of its YAML files, where no installed package names it.
    """
    flags = [] if config_dir is None else ["--config-dir", str(Path(config_dir).absolute())]
    runs: list[Path] = []

    def tiny_path(factory: pytest.TempPathFactory) -> Path:
        if not runs:
            runs.append(run_tiny(claim, [*tiny, *flags], factory.mktemp("claims")))
        return runs[0]

    class TestClaim:
        def test_it_says_what_it_claims(self) -> None:
            check_description(claim)

        @pytest.mark.parametrize("scale", scales)
        def test_a_scale_has_valid_settings(self, scale: str) -> None:
            check_scale(claim, scale, lambda *overrides: composed(claim, overrides, config_dir))

        @pytest.mark.parametrize(("overrides", "message"), refused.items())
        def test_bad_input_is_refused_in_one_line(self, overrides: str, message: str, tmp_path: Path) -> None:
            asked = [*overrides.split(" "), *QUIET, *flags]
            check_refusal(call(command(claim), asked, tmp_path), message, tmp_path)

        def test_a_tiny_run_ends_in_a_verdict_a_page_and_figures(
            self, tmp_path_factory: pytest.TempPathFactory
        ) -> None:
            check_results(claim, tiny_path(tmp_path_factory))

        def test_a_second_command_judges_the_same(
            self, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
        ) -> None:
            path = tiny_path(tmp_path_factory)
            asked = [*tiny, *flags, "name=tiny", f"root={path.parent.parent}", *QUIET]
            check_again(path, lambda: call(command(claim), asked, tmp_path))

    return TestClaim


def composed(
    claim: Claim[Any, Any], overrides: Sequence[str], config_dir: str | Path | None = None
) -> DictConfig:
    """The configuration of a claim's command with these overrides."""
    register_schemas()
    register(claim)
    GlobalHydra.instance().clear()
    where = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"]
    with initialize_config_module("conf", version_base="1.3"):
        return compose(claim.name, overrides=[*where, *overrides])


def run_tiny(claim: Claim[Any, Any], tiny: Sequence[str], root: Path) -> Path:
    """Run a claim in this process with the overrides `tiny`; returns its directory below `root`."""
    ended = call(command(claim), [*tiny, "name=tiny", f"root={root}", *QUIET], Path.cwd())
    assert ended.status == 0, ended.err
    return root / claim.name / "tiny"


def check_description(claim: Claim[Any, Any]) -> None:
    """Assert that the claim's package has this claim, and that both say what is claimed."""
    module = importlib.import_module(claim.module)
    assert module.CLAIM is claim
    assert claim.module.rpartition(".")[2] == claim.name
    assert module.__doc__
    assert claim.introduction
    assert field_checks(claim.settings)


def check_scale(claim: Claim[Any, Any], scale: str, compose_with: Callable[..., DictConfig]) -> None:
    """Assert that a scale has valid settings, and that an unknown key is refused.

    Args:
        claim: the claim.
        scale: the scale.
        compose_with: takes overrides, and returns the configuration of the claim's command.
    """
    assert isinstance(read(claim.settings, compose_with(f"scale={scale}")), claim.settings)
    with pytest.raises(ConfigCompositionException):
        compose_with("no_such_key=1")
    assert bool(claim.stages) != bool(claim.scales)


def check_refusal(ended: Ended, message: str, folder: Path) -> None:
    """Assert that a command refused its input in one line, and wrote nothing to its folder."""
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert ended.err.startswith(f"error: {message}")
    assert not list(folder.iterdir())


def check_results(claim: Claim[Any, Any], path: Path) -> None:
    """Assert that a claim's directory has a whole verdict, figures, and a page with both."""
    verdict = Verdict.read(path / "verdict.json")
    assert (verdict.claim, verdict.source, verdict.title) == (claim.name, claim.source, claim.title)
    assert verdict.scale.partition(" with ")[2], "the run's overrides are in the name of its scale"
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


def check_again(path: Path, again: Callable[[], Ended]) -> None:
    """Assert that the command that made a directory, given again, trains nothing and judges the same."""
    before = json.loads((path / "verdict.json").read_text())
    metrics = {file: file.read_bytes() for file in path.rglob("metrics.jsonl")}
    ended = again()
    assert ended.status == 0, ended.err
    after = json.loads((path / "verdict.json").read_text())
    assert after["checks"] == before["checks"]
    assert after["seeds"] == before["seeds"]
    assert {file: file.read_bytes() for file in path.rglob("metrics.jsonl")} == metrics
