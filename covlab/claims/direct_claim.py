"""The shape of a claim that trains nothing: compute, judge, draw, write.

Such a claim has a configuration of its own, from which it makes settings (every bad value refused before
anything is computed), a function from settings to `Findings`, and a module that ends in

    main = command("<claim>", lambda config: run_direct_claim(CLAIM, config, settings(config), measure))

It writes claim.yaml, figures/, verdict.json and report.html to <root>/<group>/<name>. The same command again
computes them again; other settings need another name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from covlab.claims.old_claim import Began, Claim, leave, make_verdict
from covlab.launch.build import make, plain
from covlab.launch.run_names import VOLATILE, run_path
from covlab.launch.runtime import configure
from covlab.launch.settings import TrackingSettings
from covlab.report.page import Tables
from covlab.report.plotting import Drawing, save_all
from covlab.report.verdict import Check
from tracking import Progress
from tracking.run_directory import RESUME

__all__ = [
    "Claim",
    "Drawing",
    "Findings",
    "run_direct_claim",
]

Settings = TypeVar("Settings")


class Findings(NamedTuple):
    """What a claim found.

    Attributes:
        checks: with targets that were fixed before.
        seeds: those that the checks were computed on.
        notes: sentences for the verdict.
        drawings, tables: of the report, in its order.
    """

    checks: Sequence[Check]
    seeds: Sequence[int]
    notes: Sequence[str]
    drawings: Sequence[Drawing]
    tables: Tables


def run_direct_claim(
    claim: Claim,
    config: DictConfig,
    settings: Settings,
    measure: Callable[[Settings, Progress], Findings],
) -> int:
    """Compute, judge and write; exit status 0 whether or not the claim holds.

    Raises:
        ValueError: a name that is no directory name, a directory with the results of other settings, or one
            that `resume` does not allow.
    """
    began = Began.now()
    path = run_path(config, HydraConfig.get().overrides.task)
    tracking: TrackingSettings = make(config.tracking, "tracking", TrackingSettings)
    _check_contents(path, config)
    configure()
    progress = Progress(show=tracking.progress, interval=tracking.interval)
    try:
        found = measure(settings, progress)
    finally:
        progress.close()
    verdict = make_verdict(claim, config, began, 0.0, found.checks, found.seeds, found.notes)

    seconds = {"whole command (s)": verdict.wall_seconds}
    leave(
        path,
        claim,
        verdict,
        config,
        lambda: save_all(path / "figures", found.drawings),
        found.tables,
        seconds,
    )
    return 0


def _check_contents(path: Path, config: DictConfig) -> None:
    file = path / "claim.yaml"
    resume = config.resume
    if resume not in RESUME:
        raise ValueError(f"resume: {resume!r} is not one of {', '.join(RESUME)}")
    if not file.exists():
        if resume == "must":
            raise ValueError(f"{path}: no results to compute again; resume=auto computes the first")
        return
    if resume == "never":
        raise ValueError(
            f"{path}: holds results already; another name=... or resume=auto computes them again"
        )
    there: Any = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    now = plain(config)
    for key in sorted({*there, *now} - set(VOLATILE)):
        if there.get(key) != now.get(key):
            raise ValueError(
                f"{path}: holds results with {key} {there.get(key)!r}, not {now.get(key)!r}; "
                f"another name=... keeps both"
            )
