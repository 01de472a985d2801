"""Does anything that needs no pi_D tell when cross-entropy improves and coverage gets worse?

    python -m experiments.early_warning scale=cpu|paper

Statistics of the held-out log-probabilities that a run's checkpoints give (`metrics.early_warning`) are
judged as alarms against the truth from the exact pi_D (`metrics.coverage_events`), on other held-out prompts.
Five tasks are trained, each with settings in which the event happens and settings in which it should not;
thresholds for a task come from the other tasks. Recorded runs are judged beside them by the same thresholds.
Draws figures, writes `verdict.json` and `report.html` above the runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from covlab.claims.old_claim import Began, Claim, leave, make_verdict, timing_facts, worked_seconds
from covlab.claims.several_runs import train_runs
from covlab.launch.cli import command
from covlab.launch.run_names import run_path
from covlab.launch.runtime import configure
from experiments.early_warning.checks import checks, measure, notes
from experiments.early_warning.figures import draw_all, tables
from experiments.early_warning.watching import Truth, Watched, recorded_runs, watch_run
from experiments.early_warning.zoo import zoo
from metrics.early_warning import BASELINE, Statistic, candidates
from tasks.checks import real, reals, whole

CLAIM = Claim(
    name="early_warning",
    source="Coverage Principle, arXiv 2510.15020, section 4.3; a rule is asked for, none is published",
    title="A warning without pi_D: cross-entropy improves, coverage gets worse",
    introduction=(
        "During training cross-entropy can improve while coverage, Cov_N = P[pi_D/pi_hat >= N], gets worse: "
        "the model gains on many responses and gives up some that it covered before. Here pi_D is known, so "
        "that the event can be told exactly; a practitioner has held-out responses and the log-probabilities "
        "that the checkpoints give them.",
        "A statistic compares the checkpoint of now with every earlier one of higher cross-entropy, on the "
        "same held-out responses. It raises an alarm where it exceeds a threshold. The prompts that it sees "
        "and those that define the event are disjoint halves of the held-out set, and the thresholds for a "
        "task are chosen on the other tasks.",
    ),
)


def early_warning(config: DictConfig) -> int:
    """Train (or continue, or reuse) the zoo, read the recorded runs and judge the statistics; exit status 0
    whether or not the claim holds."""
    began = Began.now()
    settings = settings_of(config)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    others = recorded_runs(patterns_of(config.runs), Path(config.root), path)
    configs, setups = zoo(config, path)
    directories = {name: path / name for name in configs}
    status = train_runs("early_warning", configs, setups, directories)
    if status is not None:
        return status
    statistics, judged, truth, rate, resamples = settings
    trained, refused = _watch(directories, statistics, truth)
    if refused:
        raise ValueError(f"zoo: {'; '.join(f'{name}: {why}' for name, why in refused.items())}")
    recorded, left_out = _watch(others, statistics, truth)
    found = measure(trained, recorded, left_out, statistics, judged, truth, rate, resamples)
    timings: dict[str, float] = {}
    for name, directory in directories.items():
        timings |= timing_facts(directory, f"{name}, ")
    worked = worked_seconds(timings)
    seeds = sorted({each.seed for each in (trained or recorded)})
    verdict = make_verdict(CLAIM, config, began, worked, checks(found), seeds, notes(found, worked))
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), timings)
    return 0


def _watch(
    paths: Mapping[str, Path], statistics: tuple[Statistic, ...], truth: Truth
) -> tuple[list[Watched], dict[str, str]]:
    """The seeds of all runs, and why a run is left out."""
    watched: list[Watched] = []
    left_out: dict[str, str] = {}
    for index, (name, path) in enumerate(paths.items(), start=1):
        print(f"early_warning: reading {name}, {index} of {len(paths)}", file=sys.stderr, flush=True)
        try:
            watched += watch_run(path, name, statistics, truth)
        except (ValueError, KeyError) as error:
            left_out[name] = " ".join(str(error).split()).removeprefix(f"{path}: ")
    return watched, left_out


def settings_of(config: DictConfig) -> tuple[tuple[Statistic, ...], int, Truth, float, int]:
    """The statistics with the judged one's index, what an event is, the rate of false alarms, the resamples.

    Raises:
        ValueError: one line that names the field, the value and what would be valid.
    """
    for field, keys in (
        ("truth", ("ns", "z", "kl_margin", "coverage_margin")),
        ("candidates", ("ns", "levels", "shares")),
        ("judged", ("kind", "parameter")),
    ):
        given = config[field]
        if not isinstance(given, DictConfig) or set(given) != set(keys):
            raise ValueError(f"{field}: {given!r}; valid: a mapping with {', '.join(keys)}")
    large = 2.0**40
    own, kinds = config.truth, config.candidates
    truth = Truth(
        reals("truth.ns", own.ns, 1, large),
        real("truth.z", own.z, above=0, below=100),
        real("truth.kl_margin", own.kl_margin, above=0, below=100),
        real("truth.coverage_margin", own.coverage_margin, above=0, below=1),
    )
    statistics = candidates(
        reals("candidates.ns", kinds.ns, 1, large),
        reals("candidates.levels", kinds.levels, 0, 1),
        reals("candidates.shares", kinds.shares, 0, 1),
    )
    try:
        judged = Statistic(config.judged.kind, config.judged.parameter)
    except ValueError as error:
        raise ValueError(f"judged.{error}") from None
    if judged.kind == BASELINE:
        raise ValueError(f"judged.kind: {BASELINE}; valid: any other, it is the baseline")
    if judged not in statistics:
        statistics = (*statistics, judged)
    rate = real("rate", config.rate, above=0, below=1)
    return statistics, statistics.index(judged), truth, rate, whole("resamples", config.resamples, 100)


def patterns_of(given: Any) -> tuple[str, ...]:
    """`runs` as a list of texts; ValueError for anything else."""
    items = list(given) if OmegaConf.is_list(given) else None
    if items is None or not all(isinstance(each, str) and each for each in items):
        raise ValueError(f"runs: {given!r}; valid: a list of run directories or patterns")
    return tuple(items)


main = command("early_warning", early_warning)
