"""Defaults of the metrics and of the evaluators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from oracles.signatures import defaults

from metrics import (
    bracket_distance,
    counts,
    cover_at_tau,
    coverage,
    coverage_ratio,
    divergence,
    early_warning,
    evaluators,
    inference_pessimism,
    intervals,
    isotonic,
    pairwise,
    rank_correlation,
    resampled,
    sampled_rewards,
    seed_intervals,
    selection,
    tournaments,
    values,
    worst_reward,
)

LEVEL = {"confidence": 0.95}
TOLERANCE = 1e-5
TIES = {"tie_tolerance": 1e-12}
WEIGHTS = {"weights": None}
BY_CROSS_ENTROPY = {"tie_break": "min_cross_entropy"} | TIES
EARLIEST = {"tie_break": "earliest"} | TIES
EXPECTED: dict[Callable[..., Any], dict[str, Any]] = {
    bracket_distance.BracketDistance: {"threshold": 0.8},
    counts.check_counts: {"ns": (1,)},
    counts.share_interval: LEVEL,
    counts.compare_pass_at_n: LEVEL | {"power": 0.8},
    counts.changed_examples: {"level": 0.05},
    cover_at_tau.cover_at_tau: LEVEL,
    coverage.coverage_profile: WEIGHTS | {"tolerance": TOLERANCE},
    coverage.summarize_log_ratio: WEIGHTS | {"levels": (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)},
    coverage_ratio.CoverageRatio: {"noise": 0.0},
    coverage_ratio.coverage_ratio_of_counts: LEVEL | {"num_resamples": 1000},
    divergence.coverage_bound: WEIGHTS | {"tolerance": 0.0},
    divergence.bound_violations: WEIGHTS | {"tolerance": TOLERANCE},
    divergence.check_coverage_bound: WEIGHTS | {"tolerance": TOLERANCE},
    divergence.hellinger_bound: WEIGHTS | {"tolerance": 0.0},
    early_warning.improved: {"z": 2.0},
    evaluators.DistributionEvaluator: {"coverage_ns": (2, 3, 4, 4.6, 5.7), "pass_ns": (1, 4, 8, 12)},
    evaluators.SamplingEvaluator: {
        "num_samples": 16,
        "pass_ns": (1, 4, 8, 12),
        "seed": 0,
        "stride": 1,
    },
    inference_pessimism.pessimism_laws: {"ceiling": None, "fresh": True},
    intervals.mean_interval: LEVEL,
    intervals.paired_difference_interval: LEVEL,
    intervals.bootstrap_interval: LEVEL | {"statistic": np.mean, "num_resamples": 2000, "method": "bca"},
    intervals.stratified_mean_interval: LEVEL,
    intervals.proportion_interval: LEVEL,
    intervals.stratified_proportion_interval: LEVEL,
    intervals.coverage_profile_interval: LEVEL
    | {"groups": None, "class_probabilities": (1.0,), "tolerance": TOLERANCE},
    intervals.auc_interval: LEVEL,
    isotonic.isotonic_r2: {"increasing": True},
    pairwise.tournament_matrices_of: WEIGHTS | {"tolerance": TOLERANCE},
    rank_correlation.spearman_interval: LEVEL,
    rank_correlation.rank_correlation_intervals: LEVEL | {"num_resamples": 4000},
    resampled.Bootstrap.alternatives: LEVEL,
    resampled.bootstrap_tournament: BY_CROSS_ENTROPY | {"num_resamples": 400, "tolerance": TOLERANCE},
    resampled.bootstrap_lowest: LEVEL | {"num_resamples": 1000},
    sampled_rewards.best_of_n_interval: LEVEL,
    seed_intervals.seeds_and_prompts_interval: LEVEL | {"weights": None},
    seed_intervals.sign_flip_interval: LEVEL,
    seed_intervals.stuck_seeds_interval: LEVEL,
    selection.select_lowest: EARLIEST | {"cross_entropies": None, "note": ""},
    selection.tournament_matrix: WEIGHTS | {"tolerance": TOLERANCE},
    selection.simple_tournament: WEIGHTS | BY_CROSS_ENTROPY | {"tolerance": TOLERANCE},
    selection.offset_tournament: WEIGHTS | BY_CROSS_ENTROPY | {"tolerance": TOLERANCE},
    selection.min_cross_entropy: WEIGHTS | EARLIEST,
    selection.min_kl: WEIGHTS | EARLIEST,
    selection.oracle_coverage: WEIGHTS | BY_CROSS_ENTROPY | {"tolerance": TOLERANCE},
    selection.oracle_pass_at_n: WEIGHTS | EARLIEST | {"cross_entropies": None},
    tournaments.challenges: {"tolerance": TOLERANCE},
    tournaments.select_many: TIES,
    values.ValueEvaluator: {"base": None, "samples": 4, "seed": 0, "params": ()},
    worst_reward.threshold_loss: {"factor": 2.0, "tolerance": 0.0},
    worst_reward.samples_needed: {"at_most": 2**24},
}


def test_defaults_stay_as_they_are() -> None:
    """Another default would change what an old command line computes."""
    assert {each: defaults(each) for each in EXPECTED} == EXPECTED
