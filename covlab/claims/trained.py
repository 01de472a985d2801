"""Functions that claims with training share: refusals before anything is compiled, seeds that finished every
run, tables of evaluations, scores of saved checkpoints, and the check of the coverage bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from covlab.claims.matrices import spread
from covlab.launch.build import Setup
from covlab.launch.trained import TrainedRun
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, at_most
from metrics import proportion_interval
from metrics.evaluators import BOUND_TOLERANCE, Evaluator, HeldOut
from tracking import load_run
from training import make_program, saved_parameters
from training.program import seed_devices


def require_single_phase(claim: str, setup: Setup) -> None:
    """Refuse several phases by a ValueError."""
    if len(setup.phases) != 1:
        raise ValueError(f"phases: {[phase.name for phase in setup.phases]}; {claim} needs a single phase")


def require_parameters(claim: str, setup: Setup, evaluations: bool = False) -> None:
    """Refuse, by a ValueError, a run that keeps no parameters, or with `evaluations` not those of each."""
    kept = setup.checkpoint.parameters
    if kept == "none" or (evaluations and kept != "evaluations"):
        needed = "evaluations" if evaluations else "ends or evaluations"
        raise ValueError(f"checkpoint.parameters: {kept}; {claim} needs {needed}")


def finished_seeds(
    frames: Mapping[str, Any], every: Sequence[int]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The seeds with a record at the last step of every run, and a text for each that lacks it in some run.

    Args:
        frames: name of a run -> its records.
        every: the seeds that were trained.

    Raises:
        ValueError: fewer than two such seeds.
    """
    finished = {
        name: set(frame[frame["step"] == frame["step"].max()]["seed"].tolist())
        for name, frame in frames.items()
    }
    left_out = tuple(
        f"seed {seed} ({name})" for name, those in finished.items() for seed in every if seed not in those
    )
    seeds = tuple(seed for seed in every if all(seed in those for those in finished.values()))
    require_finished(seeds, left_out, "finished every run")
    return seeds, left_out


def require_finished(seeds: Sequence[int], left_out: Sequence[str], where: str) -> None:
    """Refuse, by a ValueError, fewer than two seeds."""
    if len(seeds) < 2:
        raise ValueError(
            f"seeds: {len(seeds)} {where}, at least 2 are needed; diverged: {', '.join(left_out) or 'none'}"
        )


def left_out_notes(seeds: Sequence[int], left_out: Sequence[str], where: str = "all runs") -> tuple[str, ...]:
    """The note on seeds that diverged, with their share of all seeds and its exact interval; empty where none
    did.

    Args:
        seeds: those that finished.
        left_out: one text for each seed that did not, in which run, that begins with "seed <number>".
    """
    if not left_out:
        return ()
    diverged = len({text.split()[1] for text in left_out})
    total = diverged + len(seeds)
    share = interval_text(proportion_interval(diverged, total), ".2g")
    listed = ", ".join(left_out)
    return (
        f"Diverged and left out of {where}: {listed}. That is {diverged} of {total} seeds, a share of "
        f"{share}; every mean is over the others.",
    )


def evaluations(frame: Any, seeds: Sequence[int], metric: str) -> Any:
    """The values of `eval/<metric>` as a frame: a row per seed, in their order, a column per step."""
    evaluated = frame[frame["eval/kl"].notna() & frame["seed"].isin(seeds)]
    return evaluated.pivot(index="seed", columns="step", values=f"eval/{metric}").loc[list(seeds)]


def mean_over_steps(
    steps: Int[np.ndarray, " evaluations"], values: Float[np.ndarray, "*batch evaluations"]
) -> Float[np.ndarray, "*batch"]:
    """The area below each curve, by trapezoids, over the distance from the first step to the last."""
    at = np.asarray(steps, np.float64)
    return np.asarray(np.trapezoid(values, at, axis=-1) / (at[-1] - at[0]))


def score_checkpoints(
    run: TrainedRun, seeds: Sequence[int], evaluator: Evaluator, held_out: HeldOut, count: int
) -> tuple[tuple[int, ...], list[list[dict[str, np.ndarray]]]]:
    """Steps of `count` evenly spaced saved checkpoints of the last phase, the last among them, and at each
    step the evaluator's scores of every seed.

    Raises:
        ValueError: the run saved no parameters.
    """
    setup, phase = run.setup, run.setup.phases[-1]
    program = make_program(setup.model, phase, (evaluator,), held_out, seed_devices(len(setup.seeds)))
    rows = [setup.seeds.index(seed) for seed in seeds]
    saved = [step for name, step in saved_parameters(run.path / "checkpoints") if name == phase.name]
    steps = tuple(spread(saved, count)) or (phase.steps,)

    def scored(step: int) -> list[dict[str, np.ndarray]]:
        arrays = jax.tree.map(np.asarray, program.score(run.parameters(phase.name, step))[evaluator.name])
        return [{key: array[row] for key, array in arrays.items()} for row in rows]

    return steps, [scored(step) for step in steps]


def bound_excess(run: TrainedRun) -> float:
    """The largest excess of Cov_N over its bound by the KL at any evaluation; at most 0 up to rounding."""
    return float(load_run(run.path)["eval/bound_excess"].max())


def check_bound(excess: float) -> Check:
    """The coverage bound by KL holds at every evaluation."""
    return at_most("coverage bound by KL: largest excess at any evaluation", excess, BOUND_TOLERANCE)
