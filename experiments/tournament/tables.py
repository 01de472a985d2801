"""Tables of the tournament claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from covlab.report.page import format_interval
from experiments.tournament.attempts import (
    MIN_KL,
    OFFSET,
    OFFSET_EXACT,
    ORACLE,
    SIMPLE,
    offset_name,
    simple_name,
)
from experiments.tournament.checks import resampling, slope
from experiments.tournament.families import FAMILIES, JUDGED_AT
from experiments.tournament.measure import Cell, Study
from metrics import TIE_BREAKS

SUMMARIES = {family.name: family.summary for family in FAMILIES}


def tables(found: Study) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    examples = found.settings.design.examples
    few, many = examples[0], examples[-1]
    return [
        (
            f"Losses of every rule: mean over instances at {few} and at {many} held-out examples, exponent "
            f"of the Cov_N regret in their number, share of sets with a wrong choice at {many}.",
            ["family", "|Pi|", "N", "rule", f"Cov_N regret, {few}", f"{many}", "interval", "exponent",
             "interval", f"Pass@N regret, {many}", f"wrong, {many}"],
            list(_losses(found)),
        ),
        (
            "Guarantees at the largest number of examples: the left-hand side's mean and largest value over "
            "sets and instances, right-hand sides; over all numbers of examples: largest share of sets "
            "beyond them, and the least constant in front of the right-hand side as the theorem prints it "
            "for which no set is beyond. The offset tournament's holds where its premise does.",
            ["tournament", "family", "|Pi|", "N", "a", "premise", "mean", "largest", "derived", "the paper's",
             "beyond derived", "beyond the paper's", "least constant"],
            list(_guarantee_rows(found)),
        ),
        (
            f"Tie-breaks: Cov_N regret at {many} held-out examples.",
            ["family", "|Pi|", "N", "tournament", *TIE_BREAKS],
            list(_tie_breaks(found)),
        ),
        (
            "The families.",
            ["family", "what it is", "N of the verdict"],
            [[name, SUMMARIES[name], n] for name, n in JUDGED_AT.items()],
        ),
    ]  # fmt: skip


def _losses(found: Study) -> Iterator[list[Any]]:
    chosen = found.settings
    examples = chosen.design.examples
    for (family, size, n), cell in found.cells.items():
        for rule in (SIMPLE, simple_name("middle"), OFFSET, OFFSET_EXACT, MIN_KL, ORACLE):
            if rule not in cell.rules:
                continue
            regret = cell.loss(rule)
            end = _mean_row(found, regret[:, -1])
            fitted = slope(found, regret, examples)
            rate = [fitted.estimate, format_interval((fitted.low, fitted.high))]
            passed, wrong = (cell.loss(rule, what)[:, -1].mean() for what in ("pass_regret", "wrong"))
            yield [family, size, n, rule, regret[:, 0].mean(), *end, *rate, passed, wrong]


def _mean_row(found: Study, values: np.ndarray) -> list[Any]:
    drawn = values[resampling(found).integers(len(values), size=(1000, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return [values.mean(), format_interval((float(low), float(high)))]


def _guarantee_rows(found: Study) -> Iterator[list[Any]]:
    for (family, size, n), cell in found.cells.items():
        for a in found.settings.design.a:
            yield [
                "simple",
                family,
                size,
                n,
                a,
                "none",
                *_row(lambda what, a=a, cell=cell: cell.guarantee(a, what)),
            ]
        premise = f"{cell.premise:.0%}"
        yield ["offset", family, size, n, found.settings.design.offset_a, premise, *_row(cell.offset)]


def _row(of: Any) -> list[Any]:
    return [
        *(
            of("reached")[:, -1].mean(),
            of("worst")[:, -1].max(),
            of("bound")[:, -1].mean(),
            of("paper")[:, -1].mean(),
        ),
        *(of("violated").mean(axis=0).max(), of("paper_violated").mean(axis=0).max(), of("constant").max()),
    ]


def _tie_breaks(found: Study) -> Iterator[list[Any]]:
    for (family, size, n), cell in found.cells.items():
        yield [family, size, n, "simple", *(_end(cell, simple_name(each)) for each in TIE_BREAKS)]
        sampled = OFFSET in cell.rules
        name = "offset" if sampled else "offset (exact term)"
        yield [family, size, n, name, *(_end(cell, offset_name(each, sampled)) for each in TIE_BREAKS)]


def _end(cell: Cell, rule: str) -> float:
    return float(cell.loss(rule)[:, -1].mean())
