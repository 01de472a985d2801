"""Mutants that compute the same as the product for every valid input, each with the reason.

A key is the mutant's name without its line number.
"""

EQUIVALENT: dict[str, str] = {
    "metrics/intervals.py auc_interval: 1 -> 2": (
        "`below` is used through its variance alone, which a constant does not change"
    ),
}
