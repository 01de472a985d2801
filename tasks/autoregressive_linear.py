"""Autoregressive linear pi_D with known parameters: the setting of the theorems on SGD."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks import markov_sums
from tasks.checks import choice, probabilities, real, whole
from tasks.drawing import categorical, log_of
from tasks.linear import next_log_probs
from tasks.markov_features import MarkovFeatures, PositionFeatures, RandomFeatures, Sizes
from tasks.streams import check_seed
from tasks.tilted import TiltedTask

_DIMENSION = 8
_FAMILIES = ("random", "position")


@dataclasses.dataclass(frozen=True)
class AutoregressiveLinear(TiltedTask):
    """pi_D(y|x) = prod_h exp<theta*, phi(x, y_1:h)> / sum_a exp<theta*, phi(x, (y_<h, a))>, with x ~ mu.

    Attributes:
        horizon: H, tokens of every response.
        num_symbols: V, number of response tokens.
        num_prompts: number of prompts; a prompt is one token.
        prompt_probs: mu; null is uniform.
        dimension: d of the family "random" (null: 8); the family "position" has d = H.
        bound: B >= |phi|.
        family: "random": phi = B u with u uniform on the sphere for every (x, h, y_h-1, y_h); "position":
            phi = B s_x y_h/(V - 1) e_h, s_x from 0 at the first prompt to 1 at the last.
        norm: |theta*| <= 1. Its direction is uniform for "random"; for "position" it is random signs, so that
            theta* = eps sum_h v_h e_h with eps = norm/sqrt(H).
        seed: seed of the random features.
        theta_seed: seed of theta*.
        classes: "all": one class; "prompts": every prompt is a class, so that all metrics are reported per
            prompt and rare prompts are evaluated as well as common ones.

    Every response of H symbols has positive probability, reward 1 and validity 1, so learning is measured by
    KL and coverage. A linear model (`model=linear`) contains pi_D.

    Source: Coverage Principle, arXiv 2510.15020, section 5; the families are this project's choice, and
    "position" with two prompts and two symbols is the instance of the necessity of the inherent variance.

    Raises:
        ValueError: a field out of range, or a table of more than 2^22 features.
    """

    horizon: int = 8
    num_symbols: int = 2
    num_prompts: int = 4
    prompt_probs: tuple[float, ...] | None = None
    dimension: int | None = None
    bound: float = 4.0
    family: Literal["random", "position"] = "random"
    norm: float = 1.0
    seed: int = 0
    theta_seed: int = 0
    classes: Literal["all", "prompts"] = "all"

    def __post_init__(self) -> None:
        lowest = {"horizon": 1, "num_symbols": 2, "num_prompts": 1}
        for field, low in lowest.items():
            whole(f"task.{field}", getattr(self, field), low)
        for field in ("seed", "theta_seed"):
            check_seed(f"task.{field}", getattr(self, field))
        for field, valid in (("family", _FAMILIES), ("classes", ("all", "prompts"))):
            choice(f"task.{field}", getattr(self, field), valid)
        real("task.bound", self.bound, above=0)
        # theta* is in the unit ball.
        real("task.norm", self.norm, least=0, most=1)
        if self.dimension is not None:
            whole("task.dimension", self.dimension, 1, other="null")
            if self.family == "position" and self.dimension != self.horizon:
                raise ValueError(
                    f"task.dimension: {self.dimension}; valid for family position: null, or the horizon "
                    f"{self.horizon}"
                )
        if self.prompt_probs is not None:
            found = probabilities("task.prompt_probs", self.prompt_probs, positive=True)
            if len(found) != self.num_prompts:
                raise ValueError(
                    f"task.prompt_probs: {list(found)} has {len(found)} probabilities for "
                    f"task.num_prompts = {self.num_prompts}"
                )
            object.__setattr__(self, "prompt_probs", found)
        try:
            self.features  # noqa: B018
        except ValueError as error:
            raise ValueError(f"task.horizon: {self.horizon}: {error}") from None

    @property
    def features(self) -> MarkovFeatures:
        """Feature map phi; prompts are numbers."""
        sizes = Sizes(self.horizon, self.num_symbols, self.num_prompts, self.bound)
        if self.family == "position":
            return PositionFeatures(sizes)
        return RandomFeatures(sizes, self.dimension or _DIMENSION, self.seed)

    def theta_star(self) -> Float[np.ndarray, " dimension"]:
        """theta* in float64, on the host."""
        return _theta_star(self)

    @property
    def mu(self) -> tuple[float, ...]:
        """Probabilities mu of the prompts."""
        return self.prompt_probs or (1 / self.num_prompts,) * self.num_prompts

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols 0, ..., V - 1 as text."""
        return tuple(map(str, range(self.num_symbols)))

    @property
    def prompts(self) -> tuple[str, ...]:
        """Names of the prompts: `x0`, `x1`, ..."""
        return tuple(f"x{i}" for i in range(self.num_prompts))

    @property
    def response_length(self) -> int:
        """Horizon H."""
        return self.horizon

    @property
    def groups(self) -> tuple[str, ...]:
        """One class, or one class per prompt."""
        return self.prompts if self.classes == "prompts" else ("all",)

    @property
    def group_probs(self) -> tuple[float, ...]:
        """Probabilities of the classes."""
        return self.mu if self.classes == "prompts" else (1.0,)

    def draw_prompt(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Int[Array, ""]:
        """Draw x ~ mu, or return the prompt of the class."""
        if self.classes == "prompts":
            return group.astype(jnp.int32)
        return categorical(key, log_of(self.mu))

    def reference_log_probs(
        self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, " vocab"]:
        """ln pi_theta*(a | x, y_1:h): the base model is pi_D."""
        before = jnp.clip(prefix - 1, 0, self.num_symbols - 1)
        found = next_log_probs(
            jnp.asarray(self.theta_star()), self.features.children(latent.prompt, before, length)
        )
        table = jnp.full((self.vocab_size,), -jnp.inf, found.dtype)
        return table.at[jnp.asarray(self.response_tokens)].set(found)

    def value(self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]) -> Float[Array, ""]:
        """1 if the first `length` tokens are symbols, else 0."""
        return self.legal(prefix, length).astype(jnp.float32)

    def reward(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the response is H symbols, else 0."""
        return self.legal(response).astype(jnp.float32)

    def exact_kl(self, theta: Float[np.ndarray, " dimension"]) -> float:
        """KL(pi_D || pi_theta) in nats, prompts weighed by mu."""
        return float(np.dot(self.mu, markov_sums.kls(self.features, self.theta_star(), np.asarray(theta))))

    def facts(self) -> list[tuple[str, Any]]:
        """Quantities in the theorems' assumptions and bounds, by dynamic programming."""
        features, theta = self.features, self.theta_star()
        zero = np.zeros_like(theta)
        weights = np.asarray(self.mu)
        step = 1 / (2 * self.horizon * self.bound**2)
        return [
            ("dimension d, bound B, |theta*|", f"{features.dimension}, {self.bound:g}, {self.norm:g}"),
            ("exact entropy of pi_D(.|x), nats", float(weights @ markov_sums.entropies(features, theta))),
            ("KL of theta = 0, nats", float(weights @ markov_sums.kls(features, theta, zero))),
            ("inherent variance sigma*^2", float(weights @ markov_sums.variances(features, theta))),
            ("largest step of SGD's theorem, 1/(2 H B^2)", step),
        ]


@functools.lru_cache(maxsize=64)
def _theta_star(task: AutoregressiveLinear) -> Any:
    rng = np.random.default_rng([task.theta_seed, task.features.dimension])
    drawn = rng.normal(size=task.features.dimension)
    if task.family == "position":
        drawn = np.sign(drawn)
    return task.norm * drawn / np.linalg.norm(drawn)
