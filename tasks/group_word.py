"""Word problems of finite groups: the product of a string of elements, which takes a state to track."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import PAD
from tasks.checks import choice, flag, real
from tasks.drawing import bernoulli
from tasks.finite_groups import FiniteGroup, check_group, finite_group
from tasks.sequences import SequenceLatent, SequenceTask

FINAL = "final"
RUNNING = "running"
ANSWERS = (FINAL, RUNNING)


@dataclasses.dataclass(frozen=True)
class GroupWord(SequenceTask):
    """Prompt `g1 ... gn =`, response g1 g2 ... gn, or all running products p_t = g1 ... gt.

    Attributes:
        group: `z<n>` (Z_n; `z2` is parity), `s<n>` (S_n) or `a<n>` (A_n), see `tasks.finite_groups`.
        answer: "final": the product, one token. "running": n tokens, p_1 ... p_n.
        generators: draw the elements from the group's generators instead of from the whole group.
        noise: probability eps with which a token of the response is another element, uniformly and
            independently of all others.

    The answer "final" asks for a state: the model must keep the running product while it reads the prompt.
    With "running" the response is a chain of thought. Teacher forcing shows p_{t-1}, so that each token is
    one look-up of g_t and one product.

    pi_D(y|x) = prod_t (1 - eps if y_t is right, else eps/(|G| - 1)). Entropy: h(eps) + eps ln(|G| - 1) nats
    per token, h the binary entropy.

    Coverage. With eps = 0, pi_D is a point mass and Cov_N = P[pi_hat(y|x) <= 1/N]: the share of prompts whose
    answer the model writes with probability at most 1/N. A model that guesses uniformly has Cov_N = 1 up to
    N = |G|^R and 0 beyond, R the tokens of the response. With eps > 0, one token and a uniform guess,
    X = ln(|G| (1 - eps)) with probability 1 - eps and ln(|G| eps/(|G| - 1)) with probability eps.

    With eps > 0 every string of elements has positive probability. The reward is then 1 for all of them, and
    responses are not enumerated: `accuracy` is the share of drawn responses that are greedy.

    Sources: Grazzi et al., arXiv 2411.12537, and Siems et al., arXiv 2502.10297 (groups, lengths beyond
    training); Li et al., arXiv 2402.12875 (chain of thought). The noise is this project's.

    Raises:
        ValueError: in one line, for an unknown group or answer, or a number out of range.
    """

    group: str = "s3"
    answer: str = FINAL
    generators: bool = False
    noise: float = 0.0

    def _check(self) -> None:
        check_group("task.group", self.group)
        choice("task.answer", self.answer, ANSWERS)
        flag("task.generators", self.generators)
        real("task.noise", self.noise, least=0, below=1)

    @property
    def structure(self) -> FiniteGroup:
        """The group: names, table, generators."""
        return finite_group(self.group)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The elements, the identity first."""
        return self.structure.names

    @property
    def response_length(self) -> int:
        """1, or the longest string."""
        return 1 if self.answer == FINAL else self.longest

    @property
    def num_enumerated(self) -> int:
        """The answer alone; 0 with noise."""
        return 0 if self.noise else 1

    def _draw_symbols(self, key: PRNGKeyArray) -> Int[Array, " longest"]:
        if not self.generators:
            return super()._draw_symbols(key)
        choices = jnp.asarray(self.structure.generators, jnp.int32)
        return choices[jax.random.randint(key, (self.longest,), 0, choices.size)]

    def _answer(self, symbols: Int[Array, " longest"], length: Int[Array, ""]) -> Int[Array, " response"]:
        table = jnp.asarray(self.structure.table, jnp.int32)
        products = jax.lax.associative_scan(lambda left, right: table[left, right], symbols)
        if self.answer == FINAL:
            return 1 + products[length - 1][None]
        return jnp.where(jnp.arange(self.longest) < length, 1 + products, PAD)

    def _draw_response(self, key: PRNGKeyArray, latent: SequenceLatent) -> Int[Array, " response"]:
        if not self.noise:
            return latent.answer
        wrong_key, shift_key = jax.random.split(key)
        size = latent.answer.shape
        wrong = bernoulli(wrong_key, jnp.full(size, self.noise))
        shift = jax.random.randint(shift_key, size, 1, self.structure.order)
        other = (latent.answer - 1 + shift) % self.structure.order + 1
        return jnp.where(wrong & (latent.answer != PAD), other, latent.answer)

    def log_prob(self, latent: SequenceLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """Sum over the tokens of ln(1 - eps) where right, ln(eps/(|G| - 1)) where another element, in nats.

        -inf for another number of tokens, or a token that is no element.
        """
        if not self.noise:
            return super().log_prob(latent, response)
        asked = latent.answer != PAD
        order = self.structure.order
        element = (response > PAD) & (response <= order)
        right, wrong = math.log1p(-self.noise), math.log(self.noise / (order - 1))
        tokens = jnp.where(asked, jnp.where(response == latent.answer, right, wrong), 0.0)
        possible = jnp.all(jnp.where(asked, element, response == PAD))
        return jnp.where(possible, jnp.sum(tokens), -jnp.inf)

    def facts(self) -> list[tuple[str, Any]]:
        """Exact properties of the group and of pi_D, for display."""
        table = self.structure.table
        return [
            ("order of the group", self.structure.order),
            ("commutative", "yes" if (table == table.T).all() else "no"),
            ("entropy of pi_D(.|x), nats per token, exact", f"{self.token_entropy:.4f}"),
            ("KL of a uniform guess, nats per token, exact", f"{self.guess_kl:.4f}"),
        ]

    @property
    def token_entropy(self) -> float:
        """Entropy of a token of the response in nats: h(eps) + eps ln(|G| - 1)."""
        eps = self.noise
        if not eps:
            return 0.0
        return -(1 - eps) * math.log1p(-eps) - eps * math.log(eps / (self.structure.order - 1))

    @property
    def guess_kl(self) -> float:
        """KL of a model that guesses uniformly among the elements, in nats per token: ln |G| - entropy."""
        return math.log(self.structure.order) - self.token_entropy
