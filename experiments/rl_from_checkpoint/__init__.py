"""Which checkpoint to start reinforcement learning from: does coverage know, or cross-entropy?

    python -m experiments.rl_from_checkpoint scale=cpu|paper [run=<a run of Figure 1's phases>]

Trains Figure 1's run and keeps its fine-tuning checkpoints. From several of them the same reinforcement
learning starts, with the same prompts and random numbers and a fixed budget, on two kinds of prompts: as in
fine-tuning, and the minority's alone. The coverage of the start, its cross-entropy and the tournament compete
as predictors of the reward reached. Writes `verdict.json` and `report.html` above the runs' directories.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from covlab.claims.old_claim import (
    Began,
    Claim,
    leave,
    make_verdict,
    require_seeds,
    timing_facts,
    worked_seconds,
)
from covlab.claims.rl_runs import base_config, check_mapping, check_rl_settings, rl_run_config
from covlab.claims.several_runs import train_runs
from covlab.launch.build import build, make
from covlab.launch.cli import command
from covlab.launch.run_names import run_path
from covlab.launch.runtime import configure
from covlab.launch.trained import open_run
from experiments.rl_from_checkpoint.figures import draw_all, tables
from experiments.rl_from_checkpoint.measure import checks, measure, notes
from metrics import TIE_BREAKS
from tasks.checks import real, wholes

CLAIM = Claim(
    name="rl_from_checkpoint",
    source="Coverage Principle, arXiv 2510.15020, section 1: what coverage is for; GRPO, arXiv 2402.03300",
    title="Coverage of the start predicts what reinforcement learning reaches, better than cross-entropy",
    introduction=(
        "Figure 1's model is fine-tuned on nine parts of prompts whose answer follows a rule and one part "
        "whose answer opposes it, and cannot tell them apart. On the way cross-entropy improves to the end, "
        "while coverage at larger N first improves and then degrades. From checkpoints along the way the "
        "model goes on with reinforcement learning: it answers prompts, a verifier judges the answers, and a "
        "policy gradient follows, for a fixed number of batches.",
        "Each start has a cross-entropy, a coverage Cov_N = P[pi_D/pi_hat >= N] and a score in the simple "
        "tournament. The better predictor orders the starts as the rewards reached do, by Spearman's rank "
        "correlation; the better rule picks a start that loses little against the best. Everything is asked "
        "twice: with prompts as in fine-tuning, and with prompts of the minority alone, the deployment that "
        "fine-tuning neglected.",
    ),
)
OWN_KEYS = ("scale", "rl", "prompts", "run", "starts", "coverage_n", "tournament")
"""Settings of the claim that the base run does not depend on."""


def rl_from_checkpoint(config: DictConfig) -> int:
    """Train (or continue, or reuse) the runs and judge them; exit status 0 whether or not the claim holds."""
    began = Began.now()
    starts, kinds = _check(config)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    base, directory = base_config(config, OWN_KEYS, f"{path.name}-base"), path / "base"
    if config.run is None:
        setup = build(base)
        require_seeds(CLAIM.name, setup.seeds)
        if setup.checkpoint.parameters != "evaluations":
            raise ValueError(
                f"checkpoint.parameters: {setup.checkpoint.parameters}; rl_from_checkpoint needs evaluations"
            )
        missing = set(starts) - set(setup.phases[-1].schedule.steps(setup.phases[-1].steps))
        if setup.phases[-1].name != "finetune" or missing:
            shown = sorted(missing)[:1] or starts
            raise ValueError(f"starts: {shown}; valid: evaluated steps of phase finetune, the last one")
        for kind in kinds:
            own = base.phases.finetune.get("task") or {}
            make(OmegaConf.merge(base.task, own, config.prompts[kind] or {}), f"prompts.{kind}")
        status = train_runs(CLAIM.name, {"base": base}, {"base": setup}, {"base": directory})
        if status is not None:
            return status
    else:
        directory = Path(str(config.run))
        require_seeds(CLAIM.name, open_run(directory).setup.seeds)
        base.seed = base.seeds = None
    runs = {kind: {step: path / f"{kind}_{step:05d}" for step in starts} for kind in kinds}
    configs, directories = {}, {}
    for kind in kinds:
        for step, own in runs[kind].items():
            prompts = {"task_overrides": config.prompts[kind]}
            name = f"{path.name}-{own.name}"
            configs[own.name] = rl_run_config(base, directory, f"finetune:{step}", name, (config.rl, prompts))
            directories[own.name] = own
    setups = {name: build(own) for name, own in configs.items()}
    status = train_runs(CLAIM.name, configs, setups, directories)
    if status is not None:
        return status
    n, tie_break = float(config.tournament.n), str(config.tournament.tie_break)
    found = measure(directory, runs, starts, float(config.coverage_n), n, tie_break)
    require_seeds(CLAIM.name, found.seeds)
    timings = timing_facts(directory, "base, ")
    for name, own in directories.items():
        timings |= timing_facts(own, f"{name}, ")
    worked = worked_seconds(timings)
    verdict = make_verdict(CLAIM, config, began, worked, checks(found), found.seeds, notes(found, worked))
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), _summed(timings))
    return 0


def _summed(timings: dict[str, float]) -> dict[str, float]:
    """The base run's, and all others' together: a line a run would be a page."""
    rest = sum(value for key, value in timings.items() if not key.startswith("base, ") and "wall" in key)
    return {key: value for key, value in timings.items() if key.startswith("base, ")} | {
        "reinforcement learning: wall (s)": round(rest, 1)
    }


def _check(config: DictConfig) -> tuple[tuple[int, ...], list[str]]:
    """Refuse bad settings of the claim itself; the starts and the kinds of prompts."""
    starts = wholes("starts", config.starts, 0, at_least=3)
    kinds = check_mapping("prompts", config.prompts)
    for kind in kinds:
        if kind == "base" or not kind.replace("_", "").isalnum():
            raise ValueError(f"prompts: {kind!r} is no name of letters, digits and _ other than base")
        if not isinstance(config.prompts[kind], DictConfig | None):
            raise ValueError(
                f"prompts.{kind}: {config.prompts[kind]!r} is neither null nor fields of the task"
            )
    check_rl_settings("rl", config.rl)
    real("coverage_n", config.coverage_n, above=1, below=1e6)
    real("tournament.n", config.tournament.n, above=1, below=1e6)
    if config.tournament.tie_break not in TIE_BREAKS:
        raise ValueError(
            f"tournament.tie_break: {config.tournament.tie_break!r} is not one of {', '.join(TIE_BREAKS)}"
        )
    return starts, kinds


main = command("rl_from_checkpoint", rl_from_checkpoint)
