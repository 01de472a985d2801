"""Coverage, cross-entropy and outcome of reinforcement learning for every start, by seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from covlab.claims.arms import check_rl_settings
from covlab.claims.claim import Study, require_seeds
from covlab.claims.matrices import common_seeds, run_matrices
from covlab.claims.settings import Wholes, mapping
from covlab.claims.trained import bound_excess
from metrics import coverage_profile, log_density_ratio

BASE, PHASE = "base", "finetune"
"""The run that reinforcement learning starts from, and the phase whose checkpoints are the starts."""
COVERAGE, CROSS_ENTROPY = "Cov_N at N = rollouts", "cross-entropy as fine-tuned"
FOUND = 0.5
"""Pass@1 on the prompts of reinforcement learning from which on a run has found their answer. Before its
first reward a run stays at the start, and later it grows to .95 and more (pilots): few end near a half."""


def target_of(field: str, value: Any) -> dict[str, Any]:
    """Fields of the task that differ in reinforcement learning.

    Raises:
        ValueError: not a mapping.
    """
    return dict(mapping(field, value))


def run(field: str, value: Any) -> str | None:
    """A run's directory, or null."""
    return None if value is None else str(value)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its base run are of experiments.train.

    Attributes:
        starts: steps of the base run's phase `finetune` that reinforcement learning starts from.
        budgets: numbers of batches of rollouts after which is asked whether a run has found the answer.
        target: fields of the task that differ in reinforcement learning, its prompts.
        rl: settings of experiments.train_rl.
        run: a run with the phases `pretrain` and `finetune` and all its checkpoints; null trains one.
    """

    starts: Annotated[tuple[int, ...], Wholes(0, at_least=3)]
    budgets: Annotated[tuple[int, ...], Wholes(1, at_least=2)]
    target: Annotated[Mapping[str, Any], target_of]
    rl: Annotated[Mapping[str, Any], check_rl_settings]
    run: Annotated[str | None, run]


def run_name(step: int) -> str:
    """The run from a start."""
    return f"rl_{step:05d}"


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        seeds: seeds that diverged in no run.
        starts: fine-tuning steps that reinforcement learning started from.
        rollouts: number of all rollouts up to each budget.
        per_visit: number of rollouts of a prompt in a batch.
        cross_entropy: of every start, on prompts as in fine-tuning, in nats.
        log_ratios: X of every start on held-out prompts of reinforcement learning, in nats.
        weights: of the pairs (x, y); they sum to 1.
        log_right: ln of every start's probability of a right response to each of these prompts.
        prompt_weights: of the prompts; they sum to 1.
        curves: Pass@1 on these prompts along reinforcement learning, from the start on.
        steps: of the evaluations.
        budgets: see `Settings`.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
    """

    seeds: tuple[int, ...]
    starts: tuple[int, ...]
    rollouts: tuple[int, ...]
    per_visit: int
    cross_entropy: Float[np.ndarray, "seeds starts"]
    log_ratios: Float[np.ndarray, "seeds starts pairs"]
    weights: Float[np.ndarray, " pairs"]
    log_right: Float[np.ndarray, "seeds starts prompts"]
    prompt_weights: Float[np.ndarray, " prompts"]
    curves: Float[np.ndarray, "seeds starts checkpoints"]
    steps: Int[np.ndarray, " checkpoints"]
    budgets: tuple[int, ...]
    bound_excess: float

    @property
    def reached(self) -> Float[np.ndarray, "seeds starts budgets"]:
        """Pass@1 after each budget."""
        columns = [int(np.flatnonzero(self.steps == budget)[0]) for budget in self.budgets]
        return self.curves[..., columns]

    @property
    def found(self) -> Bool[np.ndarray, "seeds starts budgets"]:
        """Pass@1 has reached `FOUND`."""
        return self.reached >= FOUND

    @property
    def start(self) -> Float[np.ndarray, "seeds starts"]:
        """Pass@1 of the start: the mass on the answer that reinforcement learning has to find."""
        return self.curves[..., 0]

    def coverage(self, n: float) -> Float[np.ndarray, "seeds starts"]:
        """Cov_N of every start on the prompts of reinforcement learning."""
        return coverage_profile(self.log_ratios, (n,), self.weights)[..., 0]

    @property
    def matched(self) -> Float[np.ndarray, "seeds starts budgets"]:
        """Cov_N at N = the number of all rollouts of each budget."""
        return np.stack([self.coverage(n) for n in self.rollouts], axis=-1)

    @property
    def boundaries(self) -> Float[np.ndarray, "seeds budgets"]:
        """ln N* by `boundary`, of every seed and budget."""
        return np.array(
            [
                [boundary(ratios, self.weights, float(share)) for share in shares]
                for ratios, shares in zip(self.log_ratios, self.found.mean(axis=1), strict=True)
            ]
        )

    def right(self, predicted: Bool[np.ndarray, "seeds starts budgets"]) -> Float[np.ndarray, " seeds"]:
        """By seed, the share of runs and budgets of which found or stuck was predicted rightly."""
        return (predicted == self.found).mean(axis=(1, 2))

    def concordance(
        self, predictor: Float[np.ndarray, "seeds starts budgets"]
    ) -> Float[np.ndarray, " seeds"]:
        """By seed, `concordance` over all starts and budgets; a lower number should be found."""
        pairs = zip(predictor, self.found, strict=True)
        return np.array([concordance(each.ravel(), found.ravel()) for each, found in pairs])

    def predictors(self) -> dict[str, Float[np.ndarray, "seeds starts budgets"]]:
        """By name, a number of every start and budget, lower for better. The first alone knows the budget."""
        blind = {
            CROSS_ENTROPY: self.cross_entropy,
            f"Cov_N at N = {self.per_visit}, the rollouts of a visit": self.coverage(self.per_visit),
            "KL on the prompts of RL": np.average(self.log_ratios, axis=-1, weights=self.weights),
            "1 - Pass@1 on the prompts of RL": 1 - self.start,
        }
        shape = self.found.shape
        return {COVERAGE: self.matched} | {
            name: np.broadcast_to(values[..., None], shape) for name, values in blind.items()
        }

    def least_entropy(self) -> Int[np.ndarray, " seeds"]:
        """The start of least cross-entropy."""
        return self.cross_entropy.argmin(axis=1)

    def least_coverage(self, n: float) -> Int[np.ndarray, " seeds"]:
        """Of the starts of least Cov_N, the one of least cross-entropy."""
        uncovered = self.coverage(n)
        least = uncovered <= uncovered.min(axis=1, keepdims=True) + 1e-12
        return np.where(least, self.cross_entropy, np.inf).argmin(axis=1)

    def expected(self) -> Float[np.ndarray, "seeds starts budgets"]:
        """Probability that a right answer is among the rollouts of a model that stays at the start.

        With S rollouts of each of V fresh prompts it is 1 - (E (1 - m(x))^S)^V, m(x) the model's probability
        of a right response to x. Before a right answer all rewards are equal and the gradient is exactly 0,
        so in expectation no more starts of m(x) below `FOUND` are found.
        """
        wrong = np.clip(-np.expm1(self.log_right), 0, 1)
        missed = np.average(wrong**self.per_visit, axis=-1, weights=self.prompt_weights)
        visits = np.array(self.rollouts) / self.per_visit
        return 1 - missed[..., None] ** visits


def boundary(
    log_ratios: Float[np.ndarray, "starts pairs"], weights: Float[np.ndarray, " pairs"], share: float
) -> float:
    """ln N*, N* the N at which the share 1 - Cov_N of covered pairs, over all starts, is `share`.

    It is the quantile of X at `share`, interpolated between the middles of the pairs' weights. A share beyond
    them gives the least or the largest X: where every start is found, N* is the largest ratio that was tried,
    and not infinite.
    """
    order = np.argsort(log_ratios, axis=None, kind="stable")
    values = log_ratios.ravel()[order]
    each = np.broadcast_to(weights, log_ratios.shape).ravel()[order] / len(log_ratios)
    return float(np.interp(share, np.cumsum(each) - each / 2, values))


def concordance(predictor: Float[np.ndarray, " items"], found: Bool[np.ndarray, " items"]) -> float:
    """P[predictor of a found item < of a stuck one] + P[equal]/2; NaN without items of both kinds."""
    lower, higher = predictor[found][:, None], predictor[~found][None, :]
    if not lower.size or not higher.size:
        return float("nan")
    return float(np.mean((lower < higher) + (lower == higher) / 2))


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the base run and the runs from its checkpoints, for the seeds that diverged in none.

    Raises:
        ValueError: a start that the base run has not evaluated, a task that does not enumerate its right
            responses, or fewer than two seeds.
    """
    base = study.runs[BASE].path
    runs = [study.runs[run_name(step)] for step in settings.starts]
    tuned = run_matrices(base, PHASE)
    missing = [step for step in settings.starts if step not in tuned.steps]
    if missing:
        raise ValueError(f"starts: {missing[0]} is no evaluated step of phase {PHASE} of {base}")
    reached = set(common_seeds(each.path for each in runs))
    seeds = tuple(seed for seed in tuned.seeds if seed in reached)
    require_seeds("rl_from_checkpoint", seeds)
    columns = [tuned.steps.index(step) for step in settings.starts]
    log_probs = tuned.of_seeds(seeds).log_probs[:, columns]
    ends = [run_matrices(each.path).of_seeds(seeds) for each in runs]
    # Refuses a task that does not enumerate its right responses.
    passes = [end.exact_passes("rl_from_checkpoint", (1,))[1] for end in ends]
    phase = runs[0].setup.phases[-1]
    per_batch = phase.batch_size * phase.source.samples
    return Measurements(
        seeds=seeds,
        starts=settings.starts,
        rollouts=tuple(budget * per_batch for budget in settings.budgets),
        per_visit=phase.source.samples,
        cross_entropy=-np.average(log_probs, axis=-1, weights=tuned.weights),
        log_ratios=np.stack([log_density_ratio(e.log_pi, e.log_probs[:, 0]) for e in ends], axis=1),
        weights=ends[0].weights,
        log_right=np.stack([np.asarray(e.log_prob_correct)[:, 0] for e in ends], axis=1),
        prompt_weights=ends[0].prompt_weights,
        curves=np.stack(passes, axis=1),
        steps=np.asarray(ends[0].steps),
        budgets=settings.budgets,
        bound_excess=max(bound_excess(each) for each in (study.runs[BASE], *runs)),
    )
