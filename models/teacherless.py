"""Teacherless training: a transformer that never reads its response (arXiv 2403.06963, section 5)."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.base import Cache
from models.gpt import GPT, Params
from tasks import PAD

DUMMY = PAD
"""Input in place of every response token. Padding is masked wherever it is an input, and is never a target,
so that nothing else uses its embedding."""


@dataclasses.dataclass(frozen=True)
class TeacherlessGPT(GPT):
    """`GPT` whose response inputs are all one dummy token: pi(y|x) = prod_t pi_t(y_t | x).

    Dummies in place of y_1, y_2, ... follow the prompt's last token, so that every token has to be predicted
    from the prompt and the token's position. Training, scoring and sampling use these inputs. The tokens of a
    response are therefore independent given the prompt, and `log_prob` is exact for the law that is sampled
    from. Positions attend causally to one another, as in the paper.
    """

    def logits(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response vocab"]:
        """Logits of every response token, computed once per prompt, because all candidates share them."""
        dummies = jnp.full_like(responses[:, :1], DUMMY)
        shared = super().logits(params, prompt, prompt_mask, dummies)
        return jnp.broadcast_to(shared, (*responses.shape, self.vocab_size))

    def features(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response width"]:
        """Outputs of the final norm, computed once per prompt, because all candidates share them."""
        shared = super().features(params, prompt, prompt_mask, jnp.full_like(responses[:, :1], DUMMY))
        return jnp.broadcast_to(shared, (*responses.shape, self.width))

    def step(
        self,
        params: Params,
        cache: Cache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples vocab"], Cache]:
        """One incremental step; after the prompt's last token every input is the dummy."""
        return super().step(params, cache, jnp.where(position == 0, tokens, DUMMY), position)

    def step_features(
        self,
        params: Params,
        cache: Cache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples width"], Cache]:
        """`step` up to the final norm."""
        return super().step_features(params, cache, jnp.where(position == 0, tokens, DUMMY), position)
