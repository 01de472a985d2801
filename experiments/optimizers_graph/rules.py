"""The six rules that `optimizers_graph` compares, and one transformation that is any of them.

A rule's name is also its name in the configuration (`rules.<name>`), in directories and in figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


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
            updates, own = rules[index].update(gradient, states[index], params)
            return updates, (*states[:index], own, *states[index + 1 :])

        return update

    def update(gradient: Any, state: ChosenState, params: Any = None) -> tuple[Any, ChosenState]:
        branches = [branch(index) for index in range(len(rules))]
        updates, states = jax.lax.switch(state.rule, branches, gradient, state.states, params)
        scaled = jax.tree.map(lambda leaf: leaf * state.rate.astype(leaf.dtype), updates)
        return scaled, state._replace(states=states)

    return optax.GradientTransformation(init, update)
