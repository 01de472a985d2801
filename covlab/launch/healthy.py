"""Healthy seeds of a run, those that have not diverged: one rule for every command that reads a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tracking import LoadError, load_run, read_status
from tracking.run_directory import RunStatus
from training.loop import NOT_FINITE


def seeds_of(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The seeds that a run's configuration trains: `seed` to `seed + seeds - 1`, without the seeds that had
    diverged in its base run (`base.diverged`)."""
    first, count = int(config["seed"]), int(config["seeds"])
    left_out = set((config.get("base") or {}).get("diverged") or ())
    return tuple(seed for seed in range(first, first + count) if seed not in left_out)


def every_seed_diverged(status: RunStatus | None) -> bool:
    """True if the run ended because no seed had a finite loss."""
    return status is not None and status.state == "failed" and status.reason.startswith(NOT_FINITE)


def healthy_seeds(path: str | Path, seeds: Sequence[int], phase: str, step: int) -> tuple[int, ...]:
    """The seeds of `seeds` that had not diverged at step `step` of `phase` of the run at `path`.

    The training loop writes no record of a diverged seed, so a seed with a record at `step` is healthy. A
    killed process may have saved parameters without a record; then the last record before `step` counts.
    """
    records = load_run(path)
    here = records[(records["phase"] == phase) & (records["step"] == step)]
    if here.empty:
        if every_seed_diverged(read_status(path)):
            return ()
        same = records[(records["phase"] == phase) & (records["step"] < step)]
        before = records if same.empty else same
        if before.empty:
            return tuple(seeds)
        last = before.iloc[-1]
        here = before[(before["phase"] == last["phase"]) & (before["step"] == last["step"])]
    there = set(here["seed"].tolist())
    return tuple(seed for seed in seeds if seed in there)


def chosen_seeds(asked: Any, seeds: Sequence[int]) -> list[int]:
    """The seeds that a command names, in order; "all" names every seed of `seeds`.

    Raises:
        ValueError: a seed that the run does not have, or no seed at all.
    """
    if asked == "all":
        return list(seeds)
    wanted = list(asked) if OmegaConf.is_list(asked) or isinstance(asked, list | tuple) else [asked]
    for seed in wanted:
        if isinstance(seed, bool) or seed not in seeds:
            raise LoadError(f"seeds: {seed!r} is not in the run; valid are all, {', '.join(map(str, seeds))}")
    if not wanted:
        raise LoadError(f"seeds: none; valid are all, {', '.join(map(str, seeds))}")
    return sorted(set(wanted))


def require_healthy(
    path: str | Path, phase: str, step: int, healthy: Sequence[int], field: str = "run"
) -> None:
    """Refuse a checkpoint at which every requested seed has diverged.

    Raises:
        ValueError: every seed has diverged; one line.
    """
    if not healthy:
        raise LoadError(
            f"{field}: {path}: every seed that is asked for had diverged at {phase}:{step}, so none is left; "
            "valid: an earlier checkpoint, or a run that does not diverge"
        )


def left_out_line(path: str | Path, phase: str, step: int, diverged: Sequence[int]) -> str:
    """One line that names the omitted seeds; empty if there are none."""
    if not diverged:
        return ""
    names = ", ".join(map(str, diverged))
    one = len(diverged) == 1
    return (
        f"{path}: {'seed' if one else 'seeds'} {names} had diverged at {phase}:{step} and "
        f"{'is' if one else 'are'} left out"
    )
