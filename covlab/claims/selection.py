"""Every selection rule at every N and tie-break, with the metrics of the chosen checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from covlab.claims.matrices import RunMatrices, run_matrices
from metrics import (
    TIE_BREAKS,
    Selection,
    TieBreak,
    last,
    min_cross_entropy,
    name_of_n,
    offset_tournament,
    select_lowest,
    tournament_matrices_of,
)

RULES = (
    "simple_tournament",
    "offset_tournament",
    "min_cross_entropy",
    "min_kl",
    "oracle_coverage",
    "oracle_pass_at_n",
    "last",
)
"""Only `min_kl` and the oracles need more than log-probabilities: pi_D or the reward."""

Row = dict[str, Any]

__all__ = ["RULES", "Row", "RunMatrices", "median_table", "run_matrices", "run_tables", "selection_table"]


def selection_table(
    log_probs: Float[np.ndarray, "checkpoints examples"],
    weights: Float[np.ndarray, " examples"] | None,
    steps: Sequence[Any],
    ns: Sequence[float],
    tie_breaks: Sequence[TieBreak] = TIE_BREAKS,
    kl: Float[np.ndarray, " checkpoints"] | None = None,
    coverage: Mapping[float, Float[np.ndarray, " checkpoints"]] | None = None,
    pass_at_n: Mapping[int, Float[np.ndarray, " checkpoints"]] | None = None,
    rules: Sequence[str] | None = None,
    sample_log_probs: Float[np.ndarray, "chosen challenger examples samples"] | None = None,
    a: float = 0.25,
) -> list[Row]:
    """The choice of every rule: the tournaments for each N of `ns` and each tie-break, the least
    cross-entropy, the least KL, the oracles, the last checkpoint.

    Args:
        log_probs: ln pi_hat(y_i|x_i) in nats, a row for each checkpoint in the order of training.
        weights: weights of the examples; None for equal weights.
        steps: names of the checkpoints in the table.
        ns: the N of the tournaments.
        tie_breaks: tie-breaks to list for the rules in which ties are common.
        kl: KL of every checkpoint, if pi_D is known.
        coverage: N -> Cov_N of every checkpoint, if pi_D is known.
        pass_at_n: N -> Pass@N of every checkpoint, if correctness is known.
        rules: a selection of `RULES`; None for all that the given data allow.
        sample_log_probs, a: inputs of the offset tournament.

    Returns:
        Rows with `rule`, `n`, `tie_break` (None where the rule has none), `step` and `index` of the chosen
        checkpoint, `num_tied`, `tied_steps`, `score`, `note`, and at the chosen checkpoint `ce` and, where
        known, `kl`, `cov/<N>`, `pass/<N>`.

    Source: Coverage Principle, arXiv 2510.15020, selecting a checkpoint.

    Raises:
        ValueError: mismatched shapes, an unknown rule or tie-break, or a rule whose data are missing.
    """
    wanted = _checked_rules(rules, kl, coverage, pass_at_n, sample_log_probs)
    for tie_break in tie_breaks:
        if tie_break not in get_args(TieBreak):
            raise ValueError(f"tie_break: {tie_break!r}; valid: one of {', '.join(TIE_BREAKS)}")
    ce = min_cross_entropy(log_probs, weights).scores
    truth: dict[str, np.ndarray] = {"ce": ce}
    if kl is not None:
        truth["kl"] = np.asarray(kl, np.float64)
    truth |= {f"cov/{name_of_n(n)}": np.asarray(value) for n, value in (coverage or {}).items()}
    truth |= {f"pass/{name_of_n(n)}": np.asarray(value) for n, value in (pass_at_n or {}).items()}
    for field, length in (("steps", len(steps)), *((key, value.size) for key, value in truth.items())):
        if length != len(ce):
            raise ValueError(f"{field}: {length} values; valid: one for each of the {len(ce)} checkpoints")

    rows: list[Row] = []

    def add(selection: Selection, n: float | None = None, tie_break: TieBreak | None = None) -> None:
        row: Row = {
            "rule": selection.rule,
            "n": n,
            "tie_break": tie_break,
            "step": steps[selection.index],
            "index": selection.index,
            "num_tied": len(selection.tied),
            "tied_steps": [steps[i] for i in selection.tied],
            "score": float(selection.scores[selection.index]),
            "note": selection.note,
        }
        rows.append(row | {key: float(value[selection.index]) for key, value in truth.items()})

    def add_with_ties(rule: str, scores: np.ndarray, n: float, note: str = "") -> None:
        for tie_break in tie_breaks:
            add(select_lowest(rule, scores, tie_break, cross_entropies=ce, note=note), n, tie_break)

    if "simple_tournament" in wanted:
        for n, matrix in zip(ns, tournament_matrices_of(log_probs, ns, weights), strict=True):
            add_with_ties("simple_tournament", matrix.max(axis=1), n)
    if "offset_tournament" in wanted and sample_log_probs is not None:
        for n in ns:
            first = offset_tournament(log_probs, sample_log_probs, n, a, weights)
            add_with_ties(first.rule, first.scores, n, first.note)
    if "min_cross_entropy" in wanted:
        add(select_lowest("min_cross_entropy", ce))
    if "min_kl" in wanted:
        add(select_lowest("min_kl", truth["kl"]))
    if "oracle_coverage" in wanted:
        for n, scores in (coverage or {}).items():
            add_with_ties("oracle_coverage", scores, n)
    if "oracle_pass_at_n" in wanted:
        for n, values in (pass_at_n or {}).items():
            add(select_lowest("oracle_pass_at_n", 1 - np.asarray(values), cross_entropies=ce), n)
    if "last" in wanted:
        add(last(len(ce)))
    return rows


def median_table(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """The median over seeds of every number, row by row, of tables with equal rules.

    `step` is the median of the chosen steps and may lie between two of them.

    Raises:
        ValueError: no table, or tables of different rules.
    """
    heads = [[(row["rule"], row["n"], row["tie_break"]) for row in table] for table in tables]
    if not heads or any(head != heads[0] for head in heads):
        raise ValueError(
            f"tables: {len(heads)} of them; valid: at least one, all with the same rules, N and tie-breaks"
        )
    left_out = {"rule", "n", "tie_break", "index", "tied_steps", "note", "score"}
    return [
        {key: rows[0][key] for key in ("rule", "n", "tie_break", "note")}
        | {key: float(np.median([row[key] for row in rows])) for key in rows[0] if key not in left_out}
        for rows in zip(*tables, strict=True)
    ]


def run_tables(
    matrices: RunMatrices,
    ns: Sequence[float],
    tie_breaks: Sequence[TieBreak] = TIE_BREAKS,
    pass_ns: Sequence[int] = (1, 4, 8, 12),
    rules: Sequence[str] | None = None,
) -> dict[int, list[Row]]:
    """seed -> `selection_table` of the seed's checkpoints. ValueError as in `selection_table`."""
    divergence, profile, passes = matrices.kl(), matrices.coverage(ns), matrices.pass_at_n(pass_ns)
    return {
        seed: selection_table(
            matrices.log_probs[i],
            matrices.weights,
            matrices.steps,
            ns,
            tie_breaks,
            kl=divergence[i],
            coverage={n: value[i] for n, value in profile.items()},
            pass_at_n=None if passes is None else {n: value[i] for n, value in passes.items()},
            rules=rules,
        )
        for i, seed in enumerate(matrices.seeds)
    }


def _checked_rules(
    rules: Sequence[str] | None, kl: Any, coverage: Any, pass_at_n: Any, sample_log_probs: Any
) -> tuple[str, ...]:
    missing = {
        "offset_tournament": "sample_log_probs" if sample_log_probs is None else "",
        "min_kl": "the exact pi_D (log_pi)" if kl is None else "",
        "oracle_coverage": "the exact pi_D (log_pi)" if not coverage else "",
        "oracle_pass_at_n": "correctness (correct)" if not pass_at_n else "",
    }
    if rules is None:
        return tuple(rule for rule in RULES if not missing.get(rule))
    if not rules:
        raise ValueError(f"rules: none; valid: some of {', '.join(RULES)}")
    for rule in rules:
        if rule not in RULES:
            raise ValueError(f"rules: no rule {rule!r}; valid are {', '.join(RULES)}")
        if missing.get(rule):
            raise ValueError(f"rules: {rule} needs {missing[rule]}, which is not given")
    return tuple(rules)
