"""The choice of each rule on an instance and what it loses: exact laws, counted held-out sets, guarantees.

Guarantees (Coverage Principle, arXiv 2510.15020, Theorems 6.3 and 6.4 with their proofs in Appendix J). The
theorems are stated up to constants; the proofs give, with probability 1 - delta,

    simple: Cov_{N^(1+a)}(chosen) <= 5 min_pi Cov_{N^a}(pi) + 4 N^-(1-a) + 32 ln(4|Pi|/delta)/n
    offset: Cov_{2N^(1+a)}(chosen) <= 256 ln(16|Pi|/delta)/n    where its premise holds

(the last line of the first proof prints N^-(1-a) without the 4 that its own chain of inequalities has).
Derived here, by the same steps with Chernoff's inequality in place of Freedman's: for the mean P^ of n
independent 0/1 variables of mean P, with probability 1 - delta each, P^ >= P/2 - ln(1/delta)/(l n) where
1 - e^-l = l/2, and P^ <= 2 P + ln(1/delta)/(u n) where e^u - 1 = 2u. Hence

    simple: 32 ln(4|Pi|/delta)/n becomes 2 (1/l + 1/u) ln(2|Pi|/delta)/n = 2.85 ln(2|Pi|/delta)/n
    offset: 256 ln(16|Pi|/delta)/n becomes 4 (1/l + 1/u) ln(3|Pi|/delta)/n = 5.69 ln(3|Pi|/delta)/n

The second does without union bounds over pairs: with pi the model within a ln N of pi_D, only pi against all
others (twice) and all others against pi on the sampled prompts are counted, 3|Pi| events.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from experiments.tournament.families import Instance
from metrics import TIE_BREAKS, TieBreak, coverage_profile, log_density_ratio, pass_at_n, weighted_mean
from metrics.tournaments import (
    challenges,
    offset_gaps,
    own_matrices,
    select_many,
    tournament_matrices,
)
from tasks import stream

MIN_KL, ORACLE = "min cross-entropy", "oracle"
MAIN: TieBreak = "min_cross_entropy"
"""The tie-break that is fixed for the verdict: that of `metrics.selection`."""


def simple_name(tie_break: str) -> str:
    """The simple tournament with a tie-break."""
    return f"simple, {tie_break}"


def offset_name(tie_break: str, sampled: bool = True) -> str:
    """The offset tournament with a tie-break, its second term from samples or exact."""
    return f"offset{'' if sampled else ' (exact term)'}, {tie_break}"


SIMPLE, OFFSET, OFFSET_EXACT = simple_name(MAIN), offset_name(MAIN), offset_name(MAIN, sampled=False)


LOWER, UPPER = 1.5936242600400401, 1.2564312086261697
"""l and u of the derived guarantees."""


def simple_bound(
    best: float, n: float, a: float, size: int, examples: float, delta: float
) -> tuple[float, float, float]:
    """Right-hand sides of the simple tournament's guarantee: derived, the paper's, without constants.

    `best` is min_pi Cov_{N^a}(pi).
    """
    tail = n ** -(1 - a)
    common = 5 * best + 4 * tail
    return (
        common + 2 * (1 / LOWER + 1 / UPPER) * math.log(2 * size / delta) / examples,
        common + 32 * math.log(4 * size / delta) / examples,
        best + tail + math.log(size / delta) / examples,
    )


def offset_bound(size: int, examples: float, delta: float) -> tuple[float, float, float]:
    """Right-hand sides of the offset tournament's guarantee: derived, the paper's, without constants."""
    return (
        4 * (1 / LOWER + 1 / UPPER) * math.log(3 * size / delta) / examples,
        256 * math.log(16 * size / delta) / examples,
        math.log(size / delta) / examples,
    )


@dataclasses.dataclass(frozen=True)
class Design:
    """Sizes of the measurement of every instance.

    Attributes:
        examples: n, sizes of held-out sets.
        sets: held-out sets of each size.
        samples: drawn by a model for each held-out prompt (offset tournament); 0: the exact term alone.
        a: exponents of the simple tournament's guarantee.
        offset_a: that of the offset tournament.
        delta: probability that a guarantee may fail.
    """

    examples: tuple[int, ...]
    sets: int
    samples: int
    a: tuple[float, ...]
    offset_a: float
    delta: float


class Exact(NamedTuple):
    """An instance's exact quantities on the flat axis of outcomes (x, y).

    Attributes:
        probability: of the outcome under pi_D.
        log_probs, log_ratio: ln pi, and ln pi_D - ln pi.
        kl: of each model, nats.
        gap: largest |ln pi_D - ln pi| of each model; infinite where their supports differ.
    """

    probability: Float[np.ndarray, " outcomes"]
    log_probs: Float[np.ndarray, "models outcomes"]
    log_ratio: Float[np.ndarray, "models outcomes"]
    kl: Float[np.ndarray, " models"]
    gap: Float[np.ndarray, " models"]

    def coverage(self, level: float) -> Float[np.ndarray, " models"]:
        """Cov_level(pi_D || pi) of each model."""
        return coverage_profile(self.log_ratio, (max(level, 1.0),), self.probability)[:, 0]

    def pass_at(self, n: int) -> Float[np.ndarray, " models"]:
        """Pass@N of each model where the one correct response is drawn from pi_D: E[1 - (1 - pi(y|x))^N]."""
        return weighted_mean(pass_at_n(self.log_probs, (n,))[..., 0], self.probability)


class Losses(NamedTuple):
    """Of one rule, by size of the held-out set: means over the sets.

    Attributes:
        regret: Cov_N of the chosen model less the least in the family.
        pass_regret: Pass@N of the family's best less that of the chosen one.
        wrong: share of sets whose choice has a positive regret.
    """

    regret: Float[np.ndarray, " sizes"]
    pass_regret: Float[np.ndarray, " sizes"]
    wrong: Float[np.ndarray, " sizes"]


class Guarantee(NamedTuple):
    """A guarantee beside what happened, by size of the held-out set.

    Attributes:
        reached: mean over the sets of the left-hand side.
        worst: its largest.
        bound, paper: right-hand side with the derived constants, and with those of the paper's proof.
        violated, paper_violated: share of sets beyond it.
        constant: least C for which no set is beyond C times the right-hand side without constants.
    """

    reached: Float[np.ndarray, " sizes"]
    worst: Float[np.ndarray, " sizes"]
    bound: Float[np.ndarray, " sizes"]
    paper: Float[np.ndarray, " sizes"]
    violated: Float[np.ndarray, " sizes"]
    paper_violated: Float[np.ndarray, " sizes"]
    constant: Float[np.ndarray, " sizes"]


class Outcome(NamedTuple):
    """All about one instance at one N: `losses` by rule, `guarantees` of the simple tournament by a, that of
    the offset tournament with its exact term and whether its premise holds, and least Cov_N in the family."""

    losses: dict[str, Losses]
    guarantees: dict[float, Guarantee]
    offset: Guarantee
    premise: bool
    best: float


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """A NumPy generator for the random stream that `path` names: its texts, then its integers."""
    names = tuple(part for part in path if isinstance(part, str))
    return np.random.default_rng([*_words(seed, names), *(part for part in path if isinstance(part, int))])


@functools.lru_cache(maxsize=1024)
def _words(seed: int, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(stream(seed, *names))).tolist())


def exact(instance: Instance) -> Exact:
    """Exact quantities; a model that misses what pi_D may give has an infinite KL."""
    size = len(instance.models)
    target = instance.target.ravel()
    probability = (instance.prompts[:, None] * np.exp(instance.target)).ravel()
    log_probs = instance.models.reshape(size, -1)
    ratio = log_density_ratio(target[None], log_probs)
    seen = probability > 0
    return Exact(
        probability / probability.sum(),
        log_probs,
        ratio,
        ratio[:, seen] @ probability[seen],
        np.abs(ratio).max(axis=1),
    )


def premise_holds(laws: Exact, n: float, a: float) -> bool:
    """N^(1-2a) >= 8 and some model with |ln pi_D - ln pi| <= a ln N everywhere."""
    return bool(n ** (1 - 2 * a) >= 8 * (1 - 1e-12) and laws.gap.min() <= a * math.log(n) + 1e-9)


def attempt(
    instance: Instance,
    ns: Sequence[int],
    design: Design,
    held_out: np.random.Generator,
    own: np.random.Generator,
) -> dict[int, Outcome]:
    """Every rule on the same held-out sets, at each N. `own` draws the models' samples."""
    laws = exact(instance)
    counts = np.concatenate([held_out.multinomial(n, laws.probability, design.sets) for n in design.examples])
    examples = np.repeat(design.examples, design.sets)
    shares = counts / examples[:, None]
    support = laws.probability > 0
    entropies = shares[:, support] @ -laws.log_probs[:, support].T
    prompts = shares.reshape(len(shares), *instance.target.shape).sum(axis=2)
    law = prompts[:, None, :, None] * np.exp(instance.models)
    exact_own = law.reshape(len(shares), len(instance.models), -1)
    sampled_own = _sampled(instance, counts, design.samples, own) if design.samples else None
    return {n: _at(n, laws, design, shares, entropies, exact_own, sampled_own) for n in ns}


def _sampled(
    instance: Instance, counts: Int[np.ndarray, "sets outcomes"], samples: int, rng: np.random.Generator
) -> Float[np.ndarray, "sets models outcomes"]:
    """Shares of the outcomes among `samples` responses of each model to every held-out prompt."""
    prompts = counts.reshape(len(counts), *instance.target.shape).sum(axis=2)
    total = samples * counts.sum(axis=1)
    drawn = []
    for model in np.exp(instance.models):
        hits = rng.multinomial(samples * prompts, model / model.sum(axis=1, keepdims=True))
        drawn.append(hits.reshape(len(counts), -1) / total[:, None])
    return np.stack(drawn, axis=1)


def _at(
    n: int,
    laws: Exact,
    design: Design,
    shares: Float[np.ndarray, "sets outcomes"],
    entropies: Float[np.ndarray, "sets models"],
    exact_own: Float[np.ndarray, "sets models outcomes"],
    sampled_own: Float[np.ndarray, "sets models outcomes"] | None,
) -> Outcome:
    challenged = challenges(laws.log_probs, n)
    # Ratios off pi_D's support matter to the offset term alone.
    support = laws.probability > 0
    matrices = tournament_matrices(challenged[..., support], shares[:, support])
    scores = matrices.max(axis=2)
    offset = offset_gaps(matrices, own_matrices(challenged, exact_own), n, design.offset_a).max(axis=2)
    indices = {simple_name(tie_break): select_many(scores, tie_break, entropies) for tie_break in TIE_BREAKS}
    indices |= {
        offset_name(tie_break, False): select_many(offset, tie_break, entropies) for tie_break in TIE_BREAKS
    }
    if sampled_own is not None:
        noisy = offset_gaps(matrices, own_matrices(challenged, sampled_own), n, design.offset_a).max(axis=2)
        indices |= {
            offset_name(tie_break): select_many(noisy, tie_break, entropies) for tie_break in TIE_BREAKS
        }
    indices[MIN_KL] = select_many(entropies, "earliest", entropies, 0.0)
    coverage, passed = laws.coverage(n), laws.pass_at(n)
    indices[ORACLE] = select_many(np.broadcast_to(coverage, scores.shape), MAIN, entropies)

    def by_size(values: Float[np.ndarray, " sets"]) -> Float[np.ndarray, "sizes sets"]:
        return values.reshape(len(design.examples), design.sets)

    losses = {
        rule: Losses(
            by_size(coverage[index] - coverage.min()).mean(axis=1),
            by_size(passed.max() - passed[index]).mean(axis=1),
            by_size((coverage[index] > coverage.min() + 1e-12).astype(float)).mean(axis=1),
        )
        for rule, index in indices.items()
    }
    size = len(laws.kl)

    def guarantee(
        level: float, rules: Sequence[str], bounds: Sequence[tuple[float, float, float]]
    ) -> Guarantee:
        covered = laws.coverage(level)
        # A guarantee holds for every minimiser of the score: it is compared with the worst tie-break.
        left = by_size(np.max([covered[indices[rule]] for rule in rules], axis=0))
        bound, paper, bare = np.array(bounds).T
        return Guarantee(
            left.mean(axis=1),
            left.max(axis=1),
            bound,
            paper,
            (left > bound[:, None] + 1e-12).mean(axis=1),
            (left > paper[:, None] + 1e-12).mean(axis=1),
            left.max(axis=1) / bare,
        )

    guarantees = {}
    for a in design.a:
        best = float(laws.coverage(n**a).min())
        bounds = [simple_bound(best, n, a, size, samples, design.delta) for samples in design.examples]
        guarantees[a] = guarantee(n ** (1 + a), [simple_name(tie_break) for tie_break in TIE_BREAKS], bounds)
    return Outcome(
        losses,
        guarantees,
        guarantee(
            2 * n ** (1 + design.offset_a),
            [offset_name(tie_break, False) for tie_break in TIE_BREAKS],
            [offset_bound(size, samples, design.delta) for samples in design.examples],
        ),
        premise_holds(laws, n, design.offset_a),
        float(coverage.min()),
    )
