"""Queries of policy gradient against base likelihoods: settings and measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Reals, Seed, Whole, Wholes
from tasks import numpy_stream
from theory.likelihood_barrier import outcome_queries, process_queries


@dataclasses.dataclass(frozen=True)
class Settings:
    """The model, likelihoods and errors; the defaults are the scale `cpu`.

    Step size, ranges and margins were chosen on seed 100.

    Attributes:
        seed: seed of all draws.
        length, symbols: H and k.
        step: eta.
        draws: simulations of each point.
        likelihoods: alpha of the right response.
        error: eps at which likelihoods and tokens are compared.
        errors: eps, at the likelihood 1/2.
        short: H at which the tokens' likelihood is varied.
        tokens: likelihoods p of a right token.
        tail: beta of P[alpha <= q] = q^beta over prompts.
        prompts: prompts of a draw of the tail.
        budgets: queries per prompt.
        clusters, beyond: prompt clusters, and how many of them have the likelihood `least`.
        least: a likelihood beyond the base model's support.
        budget: queries per cluster.
    """

    seed: Annotated[int, Seed()] = 2630
    length: Annotated[int, Whole(2)] = 128
    symbols: Annotated[int, Whole(2)] = 32
    step: Annotated[float, Real(above=0, most=1)] = 0.03
    draws: Annotated[int, Whole(8)] = 32
    likelihoods: Annotated[tuple[float, ...], Reals(1e-12, 1, at_least=2)] = (
        1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4,
    )  # fmt: skip
    error: Annotated[float, Real(above=0, below=1)] = 0.5
    errors: Annotated[tuple[float, ...], Reals(0, 0.5, at_least=2)] = (0.001, 0.003, 0.01, 0.03)
    short: Annotated[int, Whole(2)] = 8
    tokens: Annotated[tuple[float, ...], Reals(1e-9, 0.5, at_least=2)] = (1e-6, 1e-5, 1e-4, 1e-3)
    tail: Annotated[float, Real(above=0, most=2)] = 0.25
    prompts: Annotated[int, Whole(50)] = 200
    budgets: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (10000, 100000, 1000000)
    clusters: Annotated[int, Whole(2)] = 32
    beyond: Annotated[int, Whole(1)] = 4
    least: Annotated[float, Real(above=0, below=1e-9)] = 1e-13
    budget: Annotated[int, Whole(2)] = 100000

    def __post_init__(self) -> None:
        if self.beyond >= self.clusters:
            raise ValueError(f"beyond: {self.beyond}; valid: fewer than {self.clusters} clusters")


SCALES: Mapping[str, Mapping[str, Any]] = {"cpu": {}, "paper": {"draws": 256, "prompts": 2000}}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Queries, over draws.

    Attributes:
        outcome, process: queries over `likelihoods`, with outcome and process rewards.
        precision: outcome rewards over `errors`, from likelihood 1/2.
        tokens: process rewards over `tokens`, H = `short`.
        unsolved: share of prompts that outcome rewards do not solve, over `budgets`.
        moved: of the clusters beyond the support, the share that each reward solves within `budget`, by
            "outcome" and "process", over draws.
        others: the share of the other clusters that outcome rewards solve, over draws.
    """

    settings: Settings
    outcome: Float[np.ndarray, "draws likelihoods"]
    process: Float[np.ndarray, "draws likelihoods"]
    precision: Float[np.ndarray, "draws errors"]
    tokens: Float[np.ndarray, "draws tokens"]
    unsolved: Float[np.ndarray, "draws budgets"]
    moved: dict[str, Float[np.ndarray, " draws"]]
    others: Float[np.ndarray, " draws"]


def measure(settings: Settings, study: Study) -> Measurements:
    """All simulations."""
    s = settings
    model = (s.length, s.symbols, s.step)
    found: dict[str, list[Any]] = {
        name: []
        for name in ("outcome", "process", "precision", "tokens", "unsolved", "moved", "by token", "others")
    }
    for index in study.progress.over("draws", range(s.draws), lambda index: {"draw": index}):
        rng = numpy_stream(s.seed, "base_model_barrier", index)
        found["outcome"].append([outcome_queries(a, s.error, *model, rng) for a in s.likelihoods])
        shares = [a ** (1 / s.length) for a in s.likelihoods]
        found["process"].append([process_queries(p, s.error, *model, rng) for p in shares])
        found["precision"].append([outcome_queries(0.5, e, *model, rng) for e in s.errors])
        found["tokens"].append([process_queries(p, s.error, s.short, *model[1:], rng) for p in s.tokens])
        tail = np.maximum((1 - rng.random(s.prompts)) ** (1 / s.tail), 1e-300)
        spent = np.array([outcome_queries(a, s.error, *model, rng) if a < 1 - s.error else 0 for a in tail])
        found["unsolved"].append([np.mean(spent > budget) for budget in s.budgets])
        far = [outcome_queries(s.least, s.error, *model, rng) <= s.budget for _ in range(s.beyond)]
        near = [outcome_queries(0.01, s.error, *model, rng) <= s.budget for _ in range(s.clusters - s.beyond)]
        by_token = [
            process_queries(s.least ** (1 / s.length), s.error, *model, rng) <= s.budget
            for _ in range(s.beyond)
        ]
        for name, values in (("moved", far), ("by token", by_token), ("others", near)):
            found[name].append(np.mean(values))
    arrays = {name: np.array(values, np.float64) for name, values in found.items()}
    moved = {"outcome": arrays.pop("moved"), "process": arrays.pop("by token")}
    return Measurements(settings, moved=moved, **arrays)
