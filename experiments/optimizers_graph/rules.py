"""The six rules that `optimizers_graph` compares, its tasks and places, and the checks of their settings.

A rule's name is also its name in the configuration (`rules.<name>`), in directories and in figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from covlab.claims.settings import Overrides, mapping
from covlab.launch.build import PHASE_KEYS
from tasks.checks import real, wholes


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


class ChosenState(NamedTuple):
    """State of `any_of`: every rule's own state, which rule is taken, and what its updates are multiplied
    by."""

    states: tuple[Any, ...]
    rule: Int[Array, ""]
    rate: Float[Array, ""]


def any_of(rules: Sequence[optax.GradientTransformation]) -> optax.GradientTransformation:
    """The rule that the state names, its updates times the state's rate; both are data, so that one compiled
    program trains with any rule at any rate.

    A rule's updates must be proportional to its learning rate, and it must be made with learning rate 1.
    """

    def init(params: Any) -> ChosenState:
        return ChosenState(tuple(rule.init(params) for rule in rules), jnp.zeros((), jnp.int32), jnp.ones(()))

    def branch(index: int) -> Any:
        def update(gradient: Any, states: tuple[Any, ...], params: Any) -> tuple[Any, tuple[Any, ...]]:
            updates, new_state = rules[index].update(gradient, states[index], params)
            return updates, (*states[:index], new_state, *states[index + 1 :])

        return update

    def update(gradient: Any, state: ChosenState, params: Any = None) -> tuple[Any, ChosenState]:
        branches = [branch(index) for index in range(len(rules))]
        updates, states = jax.lax.switch(state.rule, branches, gradient, state.states, params)
        scaled = jax.tree.map(lambda leaf: leaf * state.rate.astype(leaf.dtype), updates)
        return scaled, state._replace(states=states)

    return optax.GradientTransformation(init, update)


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


LENGTH_FIELDS = {"graph": "depth", "dyck": "length"}
"""By the task's name: the field that makes its responses longer."""
_RUN_KEYS = ("model", *(key for key in PHASE_KEYS if key not in ("task", "optimizer")))


class Cell(NamedTuple):
    """A task at one length: `field` of the task is `length`."""

    task: str
    length: int
    field: str

    @property
    def name(self) -> str:
        """Also of the directory."""
        return f"{self.task}-{self.length}"


class TaskSettings(NamedTuple):
    """A task, its lengths, and overrides of its runs but for task and optimizer."""

    task: Mapping[str, Any]
    lengths: tuple[int, ...]
    changes: Mapping[str, Any]


def task_settings(field: str, value: Any) -> TaskSettings:
    """A task's settings.

    Raises:
        ValueError: a key that is not there, or fewer than three lengths.
    """
    keys = TaskSettings._fields
    if not isinstance(value, dict):
        raise ValueError(f"{field}: {value!r} is not a mapping; valid keys are {', '.join(keys)}")
    overrides = Overrides(keys)(field, value)
    changes = Overrides(_RUN_KEYS)(f"{field}.changes", overrides.get("changes") or None)
    return TaskSettings(
        overrides.get("task") or {}, wholes(f"{field}.lengths", overrides.get("lengths"), 1, 3), changes
    )


class Place(NamedTuple):
    """Place of the comparison at equal cross-entropy at one length: Cov_n, from `kl` nats upwards."""

    n: float
    kl: float


def compared_places(field: str, value: Any) -> dict[str, Place]:
    """Places by task and length, as far as they are given; null for none.

    Raises:
        ValueError: a place without exactly an N >= 1 and a positive KL.
    """
    found = {}
    for name, place in mapping(field, value or {}).items():
        where = f"{field}.{name}"
        given = Overrides(Place._fields)(where, place)
        if set(given) != set(Place._fields):
            raise ValueError(f"{where}: {given}; valid: both of {', '.join(Place._fields)}")
        found[name] = Place(
            real(f"{where}.n", given["n"], least=1), real(f"{where}.kl", given["kl"], above=0)
        )
    return found


def ns_by_task(field: str, value: Any) -> float | dict[str, float]:
    """N by task, as far as it is given, null for none; or one N for every task and length.

    Raises:
        ValueError: another task, or an N below 1.
    """
    if isinstance(value, Mapping | None):
        return {
            task: real(f"{field}.{task}", n, least=1)
            for task, n in Overrides(tuple(LENGTH_FIELDS))(field, value).items()
        }
    return real(field, value, least=1)
