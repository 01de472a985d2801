"""The six rules that `optimizers_graph` compares, and the checks of their settings.

A rule's name is also its name in the configuration (`rules.<name>`), in directories and in figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tasks.checks import real


class Rule(NamedTuple):
    """One training rule.

    Attributes:
        target: dotted name of the function that makes it.
        normalised: whether the length of its step does not grow with the gradient's.
        title: for people.
    """

    target: str
    normalised: bool
    title: str


BASELINE = "sgd"
RULES: Mapping[str, Rule] = {
    BASELINE: Rule("training.optimizers.sgd", False, "SGD"),
    "clipped_sgd": Rule("training.optimizers.sgd", False, "SGD, clipped"),
    "normalized_sgd": Rule("training.optimizers.normalized_sgd", True, "normalised SGD"),
    "sign_sgd": Rule("training.optimizers.sign_sgd", True, "sign-SGD"),
    "adamw": Rule("training.optimizers.adamw", True, "AdamW"),
    "muon": Rule("training.optimizers.muon", True, "Muon"),
}
NORMALISED = tuple(name for name, rule in RULES.items() if rule.normalised)


class RuleSettings(NamedTuple):
    """Learning rates that are tried, and the arguments of the rule's function but for those of all rules."""

    grid: tuple[float, ...]
    options: Mapping[str, Any]


def rule_settings(field: str, value: Any) -> dict[str, RuleSettings]:
    """The settings of all rules.

    Raises:
        ValueError: other rules, or a grid of fewer than two positive learning rates.
    """
    if not isinstance(value, dict) or set(value) != set(RULES):
        given = ", ".join(value) if isinstance(value, dict) else value
        raise ValueError(f"{field}: {given}; valid: exactly {', '.join(RULES)}")
    for name, rule in value.items():
        grid = rule.get("grid") if isinstance(rule, dict) else None
        if not isinstance(grid, list) or len(grid) < 2:
            raise ValueError(f"{field}.{name}.grid: {grid}; valid: at least 2 positive learning rates")
        for setting in grid:
            real(f"{field}.{name}.grid", setting, above=0)
    return {
        name: RuleSettings(tuple(map(float, rule["grid"])), rule.get("options") or {})
        for name, rule in value.items()
    }


def some_rules(field: str, value: Any) -> tuple[str, ...]:
    """Names of rules; null for all.

    Raises:
        ValueError: anything else.
    """
    if value is None:
        return tuple(RULES)
    if not isinstance(value, list) or not value or set(value) - set(RULES):
        raise ValueError(f"{field}: {value}; valid: null or some of {', '.join(RULES)}")
    return tuple(value)


def learning_rates(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Learning rates by task and length, then by rule, as far as they are given; null for none.

    Raises:
        ValueError: a learning rate that is not a positive number.
    """
    if not isinstance(value, dict | None):
        raise ValueError(f"{field}: {value!r} is neither null nor a mapping from tasks and lengths to rates")
    for name, rates in (value or {}).items():
        if not isinstance(rates, dict | None):
            raise ValueError(f"{field}.{name}: {rates!r} is neither null nor a mapping from rules to rates")
        for rule, rate in (rates or {}).items():
            if rate is not None:
                real(f"{field}.{name}.{rule}", rate, above=0)
    return {name: rates or {} for name, rates in (value or {}).items()}
