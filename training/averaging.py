"""Averages of the iterates: trained as ever, evaluated and kept as their mean."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from tasks.checks import real, whole


class Averaged(NamedTuple):
    """State of a rule whose iterates are averaged: the rule's own, the average, and the number of
    updates."""

    inner: Any
    average: Any
    number: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Averaging:
    """The average of a phase's parameters over its updates (Polyak-Ruppert averaging and its like).

    With theta_t the parameters after update t of the phase, the average after update T > start is

        uniform:  (1 / (T - start)) sum_{t = start + 1}^{T} theta_t
        ema:      a_T = decay a_{T-1} + (1 - decay) theta_T,  a_{start+1} = theta_{start+1}

    and theta_T itself up to `start`. Gradients are taken at theta_T, which is what the same phase without
    averaging would train. The bounds of arXiv 2510.15020, section 5, are for the mean over t of
    Cov_N(theta_t), which is a mean over evaluations and needs no averaging; the parameters' average is an
    intervention.

    Attributes:
        kind: "uniform" or "ema".
        decay: of "ema", in [0, 1); it remembers about 1 / (1 - decay) updates.
        start: updates left out at the beginning.
    """

    kind: Literal["uniform", "ema"] = "uniform"
    decay: float = 0.999
    start: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("uniform", "ema"):
            raise ValueError(f"averaging.kind: {self.kind!r} is not one of uniform, ema")
        real("averaging.decay", self.decay, least=0, below=1)
        whole("averaging.start", self.start)

    def of(self, rule: optax.GradientTransformation) -> optax.GradientTransformation:
        """The rule's own updates, with the average in its state (`Averaged`).

        The rule must be passed the parameters, and its updates must be added to them as they are.
        """

        def init(params: Any) -> Averaged:
            # A copy: two arrays of one state must not share memory, which the program gives away.
            return Averaged(rule.init(params), jax.tree.map(jnp.copy, params), jnp.zeros((), jnp.int32))

        def update(gradient: Any, state: Averaged, params: Any = None) -> tuple[Any, Averaged]:
            updates, inner = rule.update(gradient, state.inner, params)
            number = state.number + 1
            averaged = jnp.maximum(number - self.start, 1)
            weight = 1 / averaged if self.kind == "uniform" else jnp.where(averaged > 1, 1 - self.decay, 1.0)
            average = jax.tree.map(
                lambda old, new: old + weight.astype(old.dtype) * (new - old),
                state.average,
                optax.apply_updates(params, updates),
            )
            return updates, Averaged(inner, average, number)

        return optax.GradientTransformation(init, update)
