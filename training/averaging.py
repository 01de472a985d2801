"""Averages of iterates, which are evaluated and stored while training is unchanged."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from tasks.checks import choice, real, whole


class Averaged(NamedTuple):
    """State of a rule with averaging: the inner state, the average, and the number of updates."""

    inner: Any
    average: Any
    number: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Averaging:
    """Average of a phase's parameters over updates (Polyak-Ruppert and exponential averaging).

    With theta_t the parameters after update t of the phase, the average after update T > start is

        uniform:  (1 / (T - start)) sum_{t = start + 1}^{T} theta_t
        ema:      a_T = decay a_{T-1} + (1 - decay) theta_T,  a_{start+1} = theta_{start+1}

    and theta_T for T <= start. Gradients are taken at theta_T, as without averaging. The bounds of arXiv
    2510.15020, section 5, are for the mean over t of Cov_N(theta_t), which is a mean over evaluations and
    does not involve averaged parameters. Averaging parameters is an intervention.

    Attributes:
        kind: "uniform" or "ema".
        decay: decay of "ema", in [0, 1), with a memory of about 1 / (1 - decay) updates.
        start: number of initial updates left out.
    """

    kind: Literal["uniform", "ema"] = "uniform"
    decay: float = 0.999
    start: int = 0

    def __post_init__(self) -> None:
        choice("averaging.kind", self.kind, ("uniform", "ema"))
        real("averaging.decay", self.decay, least=0, below=1)
        whole("averaging.start", self.start)

    def of(self, rule: optax.GradientTransformation) -> optax.GradientTransformation:
        """The updates of `rule`, with the average in the state (`Averaged`).

        `update` requires the parameters, and the updates must be added to the parameters unchanged.
        """

        def init(params: Any) -> Averaged:
            # A copy, because arrays of a donated state must not share memory.
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
