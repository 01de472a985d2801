"""Runs as an early warning sees them, and the truth about them, on disjoint halves of the held-out set."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from covlab.claims.matrices import last_phase
from covlab.claims.settings import Real, Reals
from covlab.launch.healthy import healthy_seeds, seeds_of
from metrics import coverage_profile, log_density_ratio
from metrics.coverage_events import coverage_events
from metrics.early_warning import Statistic, drawn_candidates, strongest_values
from tracking import LoadError, load_log_probs, load_run, read_config
from tracking.load import matches

LEAST_EVALUATIONS = 3
LARGEST_N = 2.0**40


@dataclasses.dataclass(frozen=True)
class Truth:
    """Definition of the event, see `metrics.coverage_events`.

    Attributes:
        ns: the N of Cov_N; the event at any of them is one.
        z: standard errors.
        kl_margin: nats by which the cross-entropy must be lower.
        coverage_margin: by which Cov_N must be higher.
    """

    ns: Annotated[tuple[float, ...], Reals(1, LARGEST_N)]
    z: Annotated[float, Real(above=0, below=100)]
    kl_margin: Annotated[float, Real(above=0, below=100)]
    coverage_margin: Annotated[float, Real(above=0, below=1)]


@dataclasses.dataclass(frozen=True)
class Watched:
    """One seed of a run, the first evaluation included.

    Attributes:
        run: its name; task: evaluations of one task share a threshold; seed: of the training.
        steps: of the evaluations.
        scores: of every statistic, on the rule's half; -inf where there is none.
        events: at every N, on the other half.
        kl, coverage: on that half too; nats and, at every N, Cov_N.
        quiet: a run in which nothing should go wrong, by its settings: it sets the thresholds of its task.
    """

    run: str
    task: str
    seed: int
    steps: tuple[int, ...]
    scores: Float[np.ndarray, "statistics checkpoints"]
    events: Bool[np.ndarray, "n checkpoints"]
    kl: Float[np.ndarray, " checkpoints"]
    coverage: Float[np.ndarray, "n checkpoints"]
    quiet: bool = False

    @property
    def event(self) -> Bool[np.ndarray, " checkpoints"]:
        """The event at any N."""
        return np.asarray(self.events.any(axis=0))


def halves(groups: Int[np.ndarray, " prompts"]) -> Bool[np.ndarray, " prompts"]:
    """Which prompts the rule sees: within each class the first, third, ...; the others define the truth."""
    seen = np.zeros(groups.size, bool)
    for group in np.unique(groups):
        seen[np.flatnonzero(groups == group)[::2]] = True
    return seen


def task_of(config: dict[str, Any], phase: str) -> str:
    """Name of a recorded run's task: the class of the phase's task. Layered graphs with Figure 2's classes
    are a separate task."""
    task = dict(config["task"])
    changes = ((config["phases"] or {}).get(phase) or {}).get("task") or {}
    task |= {key: value for key, value in changes.items() if key != "mixture"}
    mixture = dict(task.get("mixture") or {}) | dict(changes.get("mixture") or {})
    name = str(task["_target_"]).rpartition(".")[2]
    if name == "LayeredGraph" and any(mixture.get(key, 0) > 0 for key in ("chain", "xor", "uniform")):
        return "horizon graph"
    return {
        "LayeredGraph": "layered graph",
        "PathStar": "path-star",
        "Dyck": "brackets",
        "FixedDyck": "brackets",
        "AutoregressiveLinear": "linear",
    }.get(name, name)


def watch_run(path: Path, name: str, statistics: Sequence[Statistic], truth: Truth) -> list[Watched]:
    """The seeds of a run that did not diverge, over the evaluations of its last phase.

    Where responses are enumerated, the rule sees one response a prompt, drawn once from pi_D as anybody's
    held-out data are; the truth sums over all of them.

    Raises:
        ValueError: one line that says why the run cannot be judged.
    """
    phase = last_phase(path)
    config = read_config(path)
    held = load_log_probs(path, f"{phase}_held_out")[f"{phase}_held_out"]
    log_probs = load_log_probs(path, f"{phase}_[0-9]*")
    arrays = {int(key[-8:]): value for key, value in log_probs.items() if key == f"{phase}_{key[-8:]}"}
    if any("log_prob" not in array for array in arrays.values()):
        raise LoadError(f"{path}: its evaluations hold no log-probabilities of responses")
    records = load_run(path)
    records = records[records["phase"] == phase]
    steps = tuple(sorted(set(arrays) & set(records["step"].tolist())))
    if len(steps) < LEAST_EVALUATIONS:
        raise LoadError(f"{path}: {len(steps)} evaluations; valid: {LEAST_EVALUATIONS} or more")
    seeds = seeds_of(config)
    healthy = healthy_seeds(path, seeds, phase, steps[-1])
    alive = [i for i, seed in enumerate(seeds) if seed in healthy]
    weighted = held["weights"] > 0
    log_prob = np.stack([arrays[step]["log_prob"] for step in steps], axis=1)[:, :, weighted]
    held = {key: value[weighted] for key, value in held.items()}
    drawn = drawn_candidates(held["candidate_weight"])
    seen = halves(held["groups"])
    watched = []
    for i in alive:
        of_seed = log_prob[i].astype(np.float64)
        responses = of_seed[:, np.arange(drawn.size), drawn][:, seen]
        scores = [strongest_values(statistic, responses, held["weights"][seen]) for statistic in statistics]
        known = _truth(of_seed, held, ~seen, truth)
        watched.append(Watched(name, task_of(config, phase), seeds[i], steps, np.array(scores), *known))
    return watched


def _truth(
    log_prob: Float[np.ndarray, "checkpoints prompts candidates"],
    held: dict[str, np.ndarray],
    kept: Bool[np.ndarray, " prompts"],
    truth: Truth,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events, KL and coverage on the prompts that are kept."""
    ratio = log_density_ratio(held["log_pi"][kept], log_prob[:, kept])
    inside, weights, groups = held["candidate_weight"][kept], held["weights"][kept], held["groups"][kept]
    events = coverage_events(
        ratio, inside, weights, groups, truth.ns, truth.z, truth.kl_margin, truth.coverage_margin
    )
    joint = (weights[:, None] * inside).reshape(-1)
    flat = ratio.reshape(len(ratio), -1)[:, joint > 0]
    joint = joint[joint > 0]
    return events, flat @ joint / joint.sum(), coverage_profile(flat, truth.ns, joint).T


def recorded_runs(patterns: Sequence[str], root: Path, own: Path) -> dict[str, Path]:
    """Name -> path of the runs that the patterns match, those of the claim itself left out.

    A pattern is a run directory or, with wildcards, any path below which run directories lie (`**` goes
    through all folders). Names are paths below `root` where they are, in alphabetical order.

    Raises:
        ValueError: a path without wildcards that is no run directory.
    """
    folders: set[Path] = set()
    for pattern in patterns:
        if not glob.has_magic(pattern) or Path(pattern).exists():
            if not (Path(pattern) / "metrics.jsonl").is_file():
                raise ValueError(
                    f"runs: {pattern}: no metrics.jsonl there; valid: run directories, or patterns"
                )
            folders.add(Path(pattern).absolute())
            continue
        folders |= {Path(file).absolute().parent for file in matches(f"{pattern}/metrics.jsonl")}
    folders = {folder for folder in folders if own.absolute() not in (folder, *folder.parents)}
    base = root.absolute()
    # As short as they can be said: they stand in the verdict.
    here = Path.cwd()
    names = {}
    for folder in folders:
        path = folder.relative_to(here) if folder.is_relative_to(here) else folder
        names[str(folder.relative_to(base)) if folder.is_relative_to(base) else str(path)] = path
    return dict(sorted(names.items()))
