"""Figure 2 with the class "parities", whose path tells nothing: what is judged and what is reported."""

import dataclasses
from typing import Any

import pytest
from oracles.figure2_measured import PROBS, measured
from oracles.reports import assert_rectangular

from experiments.figure2 import figures as horizon_figures
from experiments.figure2.checks import GUESSES, READS, checks, notes
from experiments.figure2.figures import tables
from experiments.figure2.measure import Measurements, closed_forms


def failing(found: Measurements) -> list[str]:
    return [check.name for check in checks(found) if not check.passed]


def without_leak(found: Measurements) -> Measurements:
    """The same numbers under the class "parities"."""

    def renamed(by_class: Any) -> Any:
        return {"parities" if name == "xor" else name: values for name, values in by_class.items()}

    return dataclasses.replace(
        found,
        horizons=tuple(
            dataclasses.replace(
                each,
                class_kl=renamed(each.class_kl),
                class_cov=renamed(each.class_cov),
                closed={GUESSES: each.closed[GUESSES]},
            )
            for each in found.horizons
        ),
    )


def test_a_path_that_tells_nothing_has_no_leak_to_report() -> None:
    found = without_leak(measured(noise=0))
    assert failing(found) == []
    text = " ".join(notes(found))
    assert "reads" not in text
    assert "H = 4: the choice in a branching layer costs 0.693 [0.693, 0.693] nats" in text
    assert_rectangular(tables(found))
    written = str([(caption, columns) for caption, columns, _ in tables(found)])
    assert "leak" not in written
    assert "KL, path" not in written
    drawn = horizon_figures.drawings(found)
    assert "Class parities on fresh prompts" in drawn[2].caption
    assert not any("global bit" in each.caption or "xor" in each.caption for each in drawn)
    # Losses below ln 2 in later layers, as of a model that reads a path, break the check.
    read = failing(without_leak(measured(READS)))
    assert "hard rule: loss of every branching layer, from below (nats)" in read


@pytest.mark.parametrize("depth", [4, 6, 8, 16])
def test_closed_forms_of_parities_are_those_of_a_guesser_of_xor(depth: int) -> None:
    probs = {"chain": 0.94, "parities": 0.05, "uniform": 0.01}
    assert closed_forms(probs, depth, (2, 12)) == {GUESSES: closed_forms(PROBS, depth, (2, 12))[GUESSES]}
