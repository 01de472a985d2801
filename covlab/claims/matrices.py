"""A run's per-example log-probabilities as one matrix per seed: checkpoints x held-out pairs (x, y)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from covlab.launch.healthy import every_seed_diverged, healthy_seeds, seeds_of
from metrics import coverage_profile, kl, log_density_ratio, pass_at_n, weighted_mean
from tracking import LoadError, load_log_probs, load_run, read_config, read_status


@dataclasses.dataclass(frozen=True)
class RunMatrices:
    """Log-probabilities (nats) of a phase's held-out set under the phase's checkpoints.

    Attributes:
        phase: name of the phase.
        steps: steps of the checkpoints, in order of training.
        seeds: seeds that did not diverge; the first axis of `log_probs` and `log_prob_correct`.
        diverged: omitted seeds, whose checkpoints repeat the last good state.
        log_probs: ln pi_hat(y|x) of the pairs (x, y) in the support of pi_D.
        log_pi: ln pi_D(y|x) of these pairs.
        weights: weights of the pairs: class probability / class count, times pi_D(y|x) where responses are
            enumerated; they sum to 1.
        groups: class index of each pair.
        log_prob_correct: ln of the model's total probability of each prompt's correct responses; None where
            the task does not enumerate them.
        prompt_weights: weights of the prompts; they sum to 1.
    """

    phase: str
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    log_probs: Float[np.ndarray, "seeds checkpoints examples"]
    log_pi: Float[np.ndarray, " examples"]
    weights: Float[np.ndarray, " examples"]
    groups: Int[np.ndarray, " examples"]
    log_prob_correct: Float[np.ndarray, "seeds checkpoints prompts"] | None
    prompt_weights: Float[np.ndarray, " prompts"]

    def of_seeds(self, seeds: Sequence[int]) -> RunMatrices:
        """Those of some seeds, in their order.

        Raises:
            ValueError: a seed that diverged, or is none of the run's.
        """
        rows, correct = [self.seeds.index(seed) for seed in seeds], self.log_prob_correct
        return dataclasses.replace(
            self,
            seeds=tuple(seeds),
            log_probs=self.log_probs[rows],
            log_prob_correct=None if correct is None else correct[rows],
        )

    def kl(self) -> Float[np.ndarray, "seeds checkpoints"]:
        """KL(pi_D || pi_hat) in nats of every checkpoint."""
        return kl(log_density_ratio(self.log_pi, self.log_probs), self.weights)

    def coverage(self, ns: Sequence[float]) -> dict[float, Float[np.ndarray, "seeds checkpoints"]]:
        """N -> Cov_N of every checkpoint."""
        profile = coverage_profile(log_density_ratio(self.log_pi, self.log_probs), ns, self.weights)
        return {float(n): profile[..., i] for i, n in enumerate(ns)}

    def pass_at_n(self, ns: Sequence[int]) -> dict[int, Float[np.ndarray, "seeds checkpoints"]] | None:
        """N -> exact Pass@N of every checkpoint; None where the correct responses are not enumerated."""
        if self.log_prob_correct is None:
            return None
        passes = np.moveaxis(pass_at_n(self.log_prob_correct, ns), -1, 0)
        return {int(n): weighted_mean(passes[i], self.prompt_weights) for i, n in enumerate(ns)}

    def exact_passes(
        self, claim: str, ns: Sequence[int]
    ) -> dict[int, Float[np.ndarray, "seeds checkpoints"]]:
        """`pass_at_n`, which a claim cannot do without.

        Raises:
            ValueError: a task that does not enumerate its valid responses.
        """
        passes = self.pass_at_n(ns)
        if passes is None:
            raise ValueError(f"task: {claim} needs a task that enumerates its valid responses")
        return passes


def last_phase(path: str | Path, phase: str | None = None) -> str:
    """`phase`, or the last phase of the run at `path`.

    Raises:
        ValueError: the run has no such phase; the message names the run's phases.
    """
    config = read_config(path)
    if "phases" not in config:
        raise LoadError(f"run: {path}: its config.yaml names no phases; valid: a run of experiments.train")
    phases = list(config["phases"] or ("train",))
    if phase is not None and phase not in phases:
        raise LoadError(f"phase: {phase!r} is not in {path}; valid are {', '.join(phases)}")
    return phase if phase is not None else str(phases[-1])


def run_matrices(path: str | Path, phase: str | None = None) -> RunMatrices:
    """Read a phase's held-out set and evaluations from `log_probs/` of a run, which may be in progress.

    With a stochastic pi_D, every valid response y of x is one pair with the weight pi_D(y|x). The fraction
    of held-out pairs in a tournament is then its exact expectation over y.

    Raises:
        ValueError: no such run or phase, no evaluated checkpoint, a damaged file, or every seed diverged.
    """
    phase = last_phase(path, phase)
    config = read_config(path)
    seeds = seeds_of(config)
    held = load_log_probs(path, f"{phase}_held_out")[f"{phase}_held_out"]
    files = load_log_probs(path, f"{phase}_[0-9]*")
    scores = {
        int(name.rpartition("_")[2]): arrays
        for name, arrays in files.items()
        if name == f"{phase}_{name[-8:]}"
    }
    records = load_run(path)
    ended = every_seed_diverged(read_status(path)) and records["phase"].iloc[-1:].tolist() == [phase]
    records = records[records["phase"] == phase]
    # The newest arrays may be on disk before the metrics, which tell which seeds are healthy.
    steps = tuple(sorted(set(scores) & set(records["step"].tolist())))
    healthy = healthy_seeds(path, seeds, phase, steps[-1]) if steps else ()
    rows = [i for i, seed in enumerate(seeds) if seed in healthy]
    if ended:
        raise LoadError(f"run: {path}: every seed diverged in phase {phase}; valid: a run that does not")
    if not rows:
        raise LoadError(f"run: {path}: no seed has an evaluated checkpoint of phase {phase}")
    joint = held["weights"][:, None] * held["candidate_weight"]
    kept = joint > 0
    log_prob = np.stack([scores[step]["log_prob"][rows] for step in steps], axis=1).astype(np.float64)
    correct = None
    if any(key.startswith("eval/pass/") and records[key].notna().any() for key in records.columns):
        correct = np.logaddexp.reduce(np.where(held["correct"], log_prob, -np.inf), axis=-1)
    return RunMatrices(
        phase=phase,
        steps=steps,
        seeds=tuple(seeds[i] for i in rows),
        diverged=tuple(seed for i, seed in enumerate(seeds) if i not in rows),
        log_probs=log_prob[..., kept],
        log_pi=held["log_pi"][kept],
        weights=joint[kept] / joint.sum(),
        groups=np.broadcast_to(held["groups"][:, None], kept.shape)[kept],
        log_prob_correct=correct,
        prompt_weights=held["weights"],
    )


def common_seeds(paths: Iterable[Path]) -> tuple[int, ...]:
    """Seeds that diverged in none of the runs."""
    return tuple(sorted(set.intersection(*(set(run_matrices(path).seeds) for path in paths))))


def spread(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of `steps`, evenly spaced and with the last step."""
    index = np.linspace(0, len(steps) - 1, max(count, 1)) if count > 1 else [len(steps) - 1]
    return [steps[i] for i in np.unique(np.asarray(index).astype(int))] if steps else []
