"""Choice, Pass@N and rho_K from files of simulated evaluations, against exact probabilities.

An instance is a population of prompts with the probability of a right response under every checkpoint. A
draw takes prompts with replacement, samples responses, writes files, and reads them as `covlab select` does.
Intervals are over prompts, so that the truth is that of the population. Three populations are simulated; one
is the held-out set of a run of the lab, with the exact probabilities of four of its checkpoints
(`files/record.py`).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float
from scipy.special import expit

from covlab.readers.base import Wanted
from covlab.readers.joining import Joined, read_sources
from metrics.counts import pass_at_n_of_counts, share_interval
from metrics.coverage_ratio import coverage_ratio, coverage_ratio_of_counts
from metrics.resampled import bootstrap_lowest, bootstrap_tournament
from metrics.selection import simple_tournament
from tasks import numpy_stream

pytestmark = pytest.mark.long

POPULATION, EXAMPLES, RESAMPLES = 20_000, 200, 200
STEPS = (100, 200, 400, 800)
LEAST = 0.93
"""Share of the draws in which an interval has to hold the truth; 0.95 is what it claims."""
TOURNAMENT_N = 4.0


def sharpening(ease: np.ndarray, noise: np.ndarray) -> list[np.ndarray]:
    """Skill grows, then answers become certain: right always, or never."""
    return [expit(s * (ease - 1 + g)) for g, s in ((0, 1), (1, 1), (1.5, 2), (1.5, 4))]


def hard(ease: np.ndarray, noise: np.ndarray) -> list[np.ndarray]:
    """Hardly any response is right, more with training, of some prompts less."""
    return [expit(s * ease - 4 + g + 0.7 * g * noise) for g, s in ((0, 1), (0.5, 1), (1, 1.2), (2, 1.5))]


def drifting(ease: np.ndarray, noise: np.ndarray) -> list[np.ndarray]:
    """About as much is lost as gained."""
    return [expit(ease - 1 + g * noise) for g in (0, 0.3, 0.6, 0.9)]


LAWS = {law.__name__: law for law in (sharpening, hard, drifting)}
RUN = "forks_2"
NAMES = (*LAWS, RUN)


def population(name: str) -> Float[np.ndarray, "checkpoints prompts"]:
    """Probabilities of a right response."""
    if name == RUN:
        with np.load(Path(__file__).parent / "files" / f"{RUN}.npz") as recorded:
            return np.exp(recorded["log_prob"].astype(float))
    rng = np.random.default_rng(1)
    return np.stack(LAWS[name](1.5 * rng.normal(size=POPULATION), rng.normal(size=POPULATION)))


def exact(p: Float[np.ndarray, "checkpoints prompts"], n: int) -> Float[np.ndarray, "checkpoints prompts"]:
    """Pass@N of every prompt."""
    return 1 - (1 - p) ** n


def drawn(folder: Path, p: np.ndarray, num_samples: int, rng: np.random.Generator) -> Joined:
    """A draw, through files."""
    prompts = rng.integers(p.shape[1], size=EXAMPLES)
    for step, own in zip(STEPS, p[:, prompts], strict=True):
        correct = rng.binomial(num_samples, own)
        with (folder / f"step-{step}.jsonl").open("w") as file:
            for i, (log_prob, c) in enumerate(zip(np.log(own).tolist(), correct.tolist(), strict=True)):
                row = {"id": i, "log_prob": log_prob, "num_samples": num_samples, "num_correct": c}
                file.write(json.dumps(row) + "\n")
    return read_sources([str(path) for path in folder.glob("step-*.jsonl")], Wanted())


def held(folder: Path, name: str, num_samples: int, seed: int, draws: int) -> dict[str, float]:
    """Quantity -> share of the draws whose interval, or whose list of alternatives, holds the truth."""
    p = population(name)
    ns = [n for n in (1, 4, 16) if n <= num_samples]
    k = max(n for n in ns if n < num_samples // 2)
    truths = np.stack([exact(p, n).mean(axis=1) for n in ns], axis=1)
    best = int(truths[:, -1].argmax())
    tournament = simple_tournament(np.log(p), TOURNAMENT_N, tie_break="min_cross_entropy").index
    ratio = coverage_ratio(exact(p[0], k), exact(p[-1], k)).ratio.estimate
    hits: dict[str, int] = {}
    for draw in range(draws):
        rng = numpy_stream(seed, "simulated draws", name, num_samples, draw)
        joined = drawn(folder, p, num_samples, rng)
        assert joined.log_probs is not None
        assert joined.counts is not None
        n, c = joined.counts.num_samples, joined.counts.num_correct
        found = {}
        passes = pass_at_n_of_counts(n, c, ns)
        for i, step in enumerate(STEPS):
            for j, each in enumerate(ns):
                interval = share_interval(passes[i, :, j])
                found[f"Pass@{each}, step {step}"] = interval.low <= truths[i, j] <= interval.high
        interval = coverage_ratio_of_counts((n[0], c[0]), (n[-1], c[-1]), k, rng, RESAMPLES).ratio
        found[f"rho_{k}"] = interval.low <= ratio <= interval.high
        chosen = bootstrap_tournament(joined.log_probs.values, TOURNAMENT_N, rng, RESAMPLES)
        found["tournament"] = tournament in chosen.alternatives()
        found["largest Pass@N"] = (
            best in bootstrap_lowest(1 - passes[:, :, -1], rng, RESAMPLES).alternatives()
        )
        for key, hit in found.items():
            hits[key] = hits.get(key, 0) + bool(hit)
    return {key: hit / draws for key, hit in hits.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_few_draws(name: str, tmp_path: Path) -> None:
    """13 hits of 20 have a probability below 1e-4 where an interval holds in 93 % of the draws."""
    shares = held(tmp_path, name, 16, 300, 20)
    assert min(shares.values()) >= 14 / 20, shares


@pytest.mark.slow
@pytest.mark.parametrize("num_samples", [4, 16, 64])
@pytest.mark.parametrize("name", NAMES)
def test_intervals_hold_in_400_draws(name: str, num_samples: int, tmp_path: Path) -> None:
    shares = held(tmp_path, name, num_samples, 400, 400)
    assert min(shares.values()) >= LEAST, shares
