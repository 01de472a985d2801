"""Plans of the runs of a command: one run of experiments.train, or the training runs of a claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from covlab.claims.arms import Arm
from covlab.claims.claim import Claim, Plan
from covlab.claims.running import claims, outside_claims
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build, plain
from covlab.launch.kept import cache_folder
from covlab.plan.page import page
from covlab.plan.programs import Compiler, at_once
from covlab.plan.run import RunPlan, begin_run
from covlab.plan.search import candidates, soonest
from covlab.plan.store import Store
from covlab.plan.target import target_of

Say = Callable[[str], Any]


def plan_one(config: DictConfig, target: str, command: str, say: Say, search: bool = False) -> str:
    """The page of one run of experiments.train, or of the ways to run its seeds.

    Args:
        config: its configuration.
        target: text that `target_of` reads.
        command: the command, which the page shows.
        say: takes a line before each compilation.
        search: True to compile every way to share the seeds out, see `covlab.plan.search`.

    Raises:
        ValueError: an invalid configuration or target, or a compiler that is not installed; one line.
    """
    hardware = target_of(target)
    hardware.require_compiler()
    with Compiler(hardware, at_once(), _store()) as compiler:
        if not search:
            run = begin_run("Run", config, hardware, compiler, say)()
            return page("Plan of a run", command, hardware, [run], [])
        devices, held_out = len(hardware.devices()), build(config).held_out()

        def plan(changed: DictConfig) -> RunPlan:
            label = f"seeds={changed.seeds} data_parallel={changed.data_parallel}"
            return begin_run(label, changed, hardware, compiler, say, held_out)()

        found = list(candidates(config, devices, plan))
    best = soonest(found)
    runs = [] if best is None else [best.run]
    return page("Plan of a run", command, hardware, runs, [], found)


def plan_all(name: str, config: DictConfig, target: str, command: str, say: Say) -> str:
    """The page of the training runs of a claim, at the scale and with the settings of `config`.

    Later stages of a claim start from trained runs, and are named as left out.

    Raises:
        ValueError: as `plan_one`, or a claim that trains nothing.
    """
    hardware = target_of(target)
    hardware.require_compiler()
    claim = known_claim(name)
    arms, left_out = first_stage(claim, config)
    with Compiler(hardware, at_once(), _store()) as compiler:
        begun = [
            begin_run(arm.label or label, arm.config, hardware, compiler, say) for label, arm in arms.items()
        ]
        runs = [finished() for finished in begun]
    return page(f"Plan of {name}, scale {config.scale}", command, hardware, runs, left_out)


def _store() -> Store:
    folder = cache_folder()
    return Store(None if folder is None else folder / "plans")


def known_claim(name: str) -> Claim[Any, Any]:
    """The claim of this name.

    Raises:
        ValueError: there is none, or it trains nothing.
    """
    known = {**claims(), **outside_claims()}
    trains = sorted(key for key, claim in known.items() if claim.stages)
    if name not in trains:
        what = "trains nothing" if name in known else "is no claim"
        raise ValueError(f"claim: {name!r} {what}; valid: {', '.join(trains)}")
    found: Claim[Any, Any] = known[name]
    return found


def first_stage(claim: Claim[Any, Any], config: DictConfig) -> tuple[Mapping[str, Arm], list[str]]:
    """The training runs of a claim's first stage, and what is left out, in one line each.

    Raises:
        ValueError: settings that the claim refuses, or a first stage that only judges finished runs.
    """
    settings = read(claim.settings, plain(config))
    path = Path(str(config.root)) / str(config.group) / str(config.name)
    runs = Plan(config, path, frozenset({"scale", *field_checks(claim.settings)}))
    found = claim.stages[0](settings, runs)
    arms = {} if isinstance(found, int) else {key: arm for key, arm in found.items() if isinstance(arm, Arm)}
    if not arms:
        raise ValueError(f"claim: {claim.name} trains nothing in its first stage; valid: another claim")
    later = len(claim.stages) - 1
    if not later:
        return arms, []
    return arms, [f"Not planned: {later} later stage{'s' if later > 1 else ''}, from runs trained before."]
